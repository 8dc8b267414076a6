package scrub

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// graph is what the manifests of a repository name, the other way round. Digests
// are numbers in it, since there are many of each.
type graph struct {
	index     storage.Index
	numbers   map[digest.Digest]int32
	digests   []digest.Digest
	namedBy   [][]int32 // of each number, those of the manifests that name it
	manifests map[int32]bool
	blobs     map[int32]bool          // that must be there
	unread    map[digest.Digest]error // manifests, and why

	// tagged are the tags of each manifest, by their places in the order of all tags.
	// Made when they're first asked for, as names are.
	tagged map[int32][]int32
	names  []string
}

func (g *graph) number(d digest.Digest) int32 {
	n, ok := g.numbers[d]
	if !ok {
		n = int32(len(g.digests)) //nolint:gosec // two billion digests don't fit in memory
		g.numbers[d] = n
		g.digests, g.namedBy = append(g.digests, d), append(g.namedBy, nil)
	}
	return n
}

// readGraph reads all manifests, unless they were read.
func (w *ward) readGraph(ctx context.Context) error {
	if w.graph != nil {
		return nil
	}
	idx, err := w.repository.Index(ctx)
	if errors.Is(err, oci.NameUnknown) { // there are blobs, and no manifest yet
		w.graph = new(graph)
		return nil
	}
	if err != nil {
		return err
	}
	g := &graph{
		index: idx, numbers: make(map[digest.Digest]int32), manifests: make(map[int32]bool), blobs: make(map[int32]bool),
		unread: make(map[digest.Digest]error),
	}
	for desc := range idx.Manifests() {
		n := g.number(desc.Digest)
		g.manifests[n] = true
		m, err := w.readManifest(ctx, desc)
		switch {
		case errors.Is(err, errEnd):
			return err
		case errors.Is(err, oci.ManifestInvalid): // that's how it was pushed
		case err != nil:
			g.unread[desc.Digest] = err
		default:
			g.add(n, m)
		}
	}
	w.graph = g
	return nil
}

func (g *graph) add(by int32, m oci.Manifest) {
	for _, list := range [][]oci.Descriptor{m.Blobs, m.Manifests} {
		for _, d := range list {
			n := g.number(d.Digest)
			g.namedBy[n] = append(g.namedBy[n], by)
		}
	}
	for b := range m.Required() {
		g.blobs[g.number(b.Digest)] = true
	}
}

func (g *graph) isManifest(d digest.Digest) bool {
	n, ok := g.numbers[d]
	return ok && g.manifests[n]
}

// maxTags is how many tags are told of.
const maxTags = 100

// tags are those that lead to a digest, and how many more there are.
func (g *graph) tags(d digest.Digest) (some []string, more int) {
	n, ok := g.numbers[d]
	if !ok {
		return nil, 0
	}
	leads := map[int32]bool{n: true}
	for queue := []int32{n}; len(queue) > 0; queue = queue[1:] {
		for _, by := range g.namedBy[queue[0]] {
			if !leads[by] {
				leads[by] = true
				queue = append(queue, by)
			}
		}
	}
	g.listTags()
	var all []int32
	for by := range leads {
		all = append(all, g.tagged[by]...)
	}
	slices.Sort(all)
	for _, place := range all[:min(len(all), maxTags)] {
		some = append(some, g.names[place])
	}
	return some, len(all) - len(some)
}

// listTags makes tagged and names, unless they were made.
func (g *graph) listTags() {
	if g.tagged != nil {
		return
	}
	g.tagged = make(map[int32][]int32)
	for tag, desc := range g.index.Tags(oci.Tag{}) {
		if n, ok := g.numbers[desc.Digest]; ok {
			place := int32(len(g.names)) //nolint:gosec // two billion tags don't fit in memory
			g.tagged[n] = append(g.tagged[n], place)
			g.names = append(g.names, tag.String())
		}
	}
}

// findMissing tells of what is named and isn't there: blobs, and manifests that
// the index has. Children of an image index may be left out. What was found to be
// damaged just now was there.
func (w *ward) findMissing(ctx context.Context) error {
	if err := w.readGraph(ctx); err != nil {
		return err
	}
	missing := w.graph.lacks(w.holds)
	if len(missing) == 0 {
		return nil
	}
	kept := make(map[digest.Digest]bool)
	for d, err := range w.repository.Quarantined(ctx) {
		if err != nil {
			return err
		}
		kept[d] = true
	}
	for _, d := range missing {
		if err := w.opts.Wait(ctx, least); err != nil { // they may be a million
			return errors.Join(errEnd, err)
		}
		if w.hasCome(ctx, d) {
			continue
		}
		f := Finding{Fault: Missing}
		if kept[d] { // since an earlier round
			f.Done = Quarantined
		}
		w.tell(d, f)
	}
	return ctx.Err()
}

// lacks are the digests that must be there and aren't, in order.
func (g *graph) lacks(holds func(digest.Digest) bool) (missing []digest.Digest) {
	for n := range g.blobs {
		if d := g.digests[n]; !holds(d) {
			missing = append(missing, d)
		}
	}
	for d, err := range g.unread {
		if errors.Is(err, oci.BlobUnknown) {
			missing = append(missing, d)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// hasCome reports whether a blob is there that wasn't, or may be.
func (w *ward) hasCome(ctx context.Context, d digest.Digest) bool {
	b, err := w.repository.Peek(ctx, d)
	if err == nil {
		_ = b.Close() // only looked at
	}
	return !errors.Is(err, oci.BlobUnknown)
}
