package gc

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// collector does a round in one repository.
type collector struct {
	repository storage.Collectable
	opts       Options
	begun      time.Time
	manifests  map[digest.Digest]*manifest // that were read, of those that are still there; nil before
	contents   map[digest.Digest]storage.Content
	again      bool // it isn't the first plan
}

// readContents looks at what there is. What comes later isn't marked, and stays.
func (c *collector) readContents(ctx context.Context) error {
	c.contents = make(map[digest.Digest]storage.Content)
	for content, err := range c.repository.Contents(ctx) {
		if err != nil {
			return err
		}
		c.contents[content.Digest] = content
	}
	return nil
}

// collect does what is to be done. What goes makes other things go, so it looks
// again until nothing has gone. What isn't due when it begins is left to the next
// round, or it wouldn't end where something comes to be due all the time.
func (c *collector) collect(ctx context.Context) error {
	for more := true; more; {
		idx, err := c.look(ctx)
		if err != nil {
			return unless(errors.Is(err, oci.NameUnknown), err)
		}
		if more, err = c.round(ctx, idx); err != nil {
			return err
		}
	}
	return nil
}

func unless(forgiven bool, err error) error {
	if forgiven {
		return nil
	}
	return err
}

// look reads what there is: the marks first, and then who needs what. Again in the same
// round it only finds out what has gone. What comes meanwhile has taken the marks off all
// it needs.
func (c *collector) look(ctx context.Context) (storage.Index, error) {
	if err := c.readContents(ctx); err != nil {
		return nil, err
	}
	idx, err := c.repository.Index(ctx)
	if err != nil {
		return nil, err
	}
	if c.manifests == nil {
		return idx, c.readManifests(ctx, idx)
	}
	maps.DeleteFunc(c.manifests, func(d digest.Digest, _ *manifest) bool {
		_, err := idx.Resolve(oci.DigestRef(d))
		return err != nil
	})
	return idx, nil
}

// round carries out one plan, some of it at a time: an Update keeps pushes waiting.
// It reports whether something has gone.
func (c *collector) round(ctx context.Context, idx storage.Index) (gone bool, err error) {
	p := &planner{opts: c.opts, begun: c.begun, now: c.opts.Now(), index: idx, manifests: c.manifests, contents: c.contents}
	all := p.plan()
	if c.again { // there may be manifests that need it, which weren't read
		all.mark = nil
	}
	c.again = true
	if c.opts.DryRun {
		c.tell(p, all)
		return false, nil
	}
	if len(c.contents)+len(c.manifests) == 0 {
		return false, c.retire(ctx)
	}
	was := c.contents
	for rest := all; !rest.empty(); {
		var now plan
		now, rest = rest.cut(perUpdate)
		if err := c.apply(ctx, now); err != nil {
			return false, err
		}
	}
	if len(all.delete)+len(all.drop) == 0 {
		return false, nil
	}
	after, err := c.look(ctx)
	if err != nil {
		return false, err
	}
	return c.tellGone(all, was, after), nil
}

// readAtOnce is how many manifests are read at once. While there are requests, each gives
// way to them, so one after the other would never come to an end on a busy registry.
const readAtOnce = 8

// readManifests reads all the manifests that there are.
func (c *collector) readManifests(ctx context.Context, idx storage.Index) error {
	c.manifests = make(map[digest.Digest]*manifest)
	var mu sync.Mutex // guards c.manifests, and has findings told of one by one
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for desc := range idx.Manifests() {
		if reading.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := c.opts.Wait(reading, 1); err != nil {
				return err
			}
			m, err := c.read(reading, desc)
			lost := c.missing(reading, m)
			if reading.Err() != nil {
				return reading.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			c.know(desc.Digest, m, err)
			for _, l := range lost {
				c.problem(Blob, l.digest, l.err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// know notes what a manifest needs, or tells why it couldn't be read.
func (c *collector) know(d digest.Digest, m oci.Manifest, err error) {
	if err != nil {
		c.problem(Manifest, d, err)
		c.manifests[d] = &manifest{unread: true}
		return
	}
	c.manifests[d] = understand(m)
}

// loss is a blob that a manifest needs and isn't there.
type loss struct {
	digest digest.Digest
	err    error
}

func (c *collector) missing(ctx context.Context, m oci.Manifest) (lost []loss) {
	for _, b := range m.Blobs {
		if _, there := c.contents[b.Digest]; there || len(b.URLs) > 0 {
			continue
		}
		blob, err := c.repository.Peek(ctx, b.Digest) // it may have come just now
		if err != nil {
			lost = append(lost, loss{b.Digest, err})
			continue
		}
		_ = blob.Close() // only read
	}
	return lost
}

// read reads a manifest without taking its mark off.
func (c *collector) read(ctx context.Context, desc oci.Descriptor) (oci.Manifest, error) {
	b, err := c.repository.Peek(ctx, desc.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	raw, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		return oci.Manifest{}, err
	}
	return oci.ParseManifest(desc.MediaType, raw, desc.Digest.Algorithm())
}

// apply carries out a plan. What was pushed since it was made has taken its marks
// off what it needs.
func (c *collector) apply(ctx context.Context, p plan) error {
	if err := c.opts.mayRemove(ctx, len(p.delete)+len(p.drop)); err != nil {
		return err
	}
	now := c.opts.Now()
	return c.repository.Update(ctx, func(e *storage.Edit) error {
		e.By = "gc"
		for _, d := range p.mark {
			e.Mark(d, now)
		}
		for _, d := range p.unmark {
			if !c.orphaned(e, d) {
				e.Unmark(d)
			}
		}
		for _, d := range p.renew {
			e.Unmark(d)
			e.Mark(d, now)
		}
		for _, d := range p.delete {
			e.DeleteMarked(d, c.begun.Add(-c.opts.UntaggedGrace))
		}
		for _, d := range p.drop {
			e.DropMarkedBlob(d, c.begun.Add(-c.opts.Grace))
		}
		return nil
	})
}

// orphaned reports whether the subject of a manifest has gone since it was looked
// for. Who deleted it has marked the manifest, or has found it marked.
func (c *collector) orphaned(now storage.Index, d digest.Digest) bool {
	m := c.manifests[d]
	if m == nil || c.manifests[m.subject] == nil {
		return false
	}
	_, err := now.Resolve(oci.DigestRef(m.subject))
	return err != nil
}

// retire removes a repository that holds nothing.
func (c *collector) retire(ctx context.Context) error {
	if err := c.opts.mayRemove(ctx, 1); err != nil {
		return err
	}
	gone, err := c.repository.Retire(ctx)
	if gone {
		c.opts.Found(Finding{Kind: Repository, Repository: c.name(), Name: c.name()})
	}
	return err
}

// tell tells of what would go, and when.
func (c *collector) tell(p *planner, all plan) {
	for _, d := range all.garbage {
		f := c.finding(Blob, d)
		if c.manifests[d] != nil {
			f.Kind = Manifest
		}
		f.Size, f.Due = c.contents[d].Size, p.due(d)
		c.opts.Found(f)
	}
	if len(c.contents)+len(c.manifests) == 0 {
		c.opts.Found(Finding{Kind: Repository, Repository: c.name(), Name: c.name(), Due: p.now})
	}
}

// tellGone tells of what has gone, and reports whether something has. was is what
// there was before.
func (c *collector) tellGone(p plan, was map[digest.Digest]storage.Content, after storage.Index) (gone bool) {
	for _, d := range p.delete {
		if _, err := after.Resolve(oci.DigestRef(d)); err != nil {
			c.found(Manifest, d, 0) // its bytes are a blob now
			gone = true
		}
	}
	for _, d := range p.drop {
		if _, there := c.contents[d]; !there {
			c.found(Blob, d, was[d].Size)
			gone = true
		}
	}
	return gone
}

func (c *collector) name() string { return c.repository.Name().String() }

func (c *collector) finding(kind Kind, d digest.Digest) Finding {
	return Finding{Kind: kind, Repository: c.name(), Name: d.String()}
}

func (c *collector) found(kind Kind, d digest.Digest, size int64) {
	f := c.finding(kind, d)
	f.Size = size
	c.opts.Found(f)
}

func (c *collector) problem(kind Kind, d digest.Digest, err error) {
	f := c.finding(kind, d)
	f.Problem = err.Error()
	c.opts.Found(f)
}

// cut returns the first n things of a plan, and the rest.
func (p *plan) cut(n int) (first, rest plan) {
	take := func(list []digest.Digest) (a, b []digest.Digest) {
		k := min(n, len(list))
		n -= k
		return list[:k], list[k:]
	}
	first.unmark, rest.unmark = take(p.unmark)
	first.delete, rest.delete = take(p.delete)
	first.drop, rest.drop = take(p.drop)
	first.mark, rest.mark = take(p.mark)
	first.renew, rest.renew = take(p.renew)
	return first, rest
}
