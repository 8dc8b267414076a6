package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// repository is one that's being copied.
type repository struct {
	*copier

	name     oci.Name
	from, to storage.Repository

	index    storage.Index           // of from
	contents map[digest.Digest]int64 // what from holds, with sizes
	there    map[digest.Digest]int64 // what to has held before
	known    storage.Index           // of to, as it was before; nil if it didn't exist

	mu     sync.Mutex
	absent map[digest.Digest]bool // what isn't in to, though it's in from,
	gone   map[digest.Digest]bool // or was: garbage may be collected meanwhile
}

// copy copies bytes before the names that need them, and tags last of all.
func (r *repository) copy(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	if err := r.copyBlobs(ctx); err != nil {
		return err
	}
	if err := r.copyManifests(ctx); err != nil {
		return err
	}
	return r.copyTags(ctx)
}

// look finds out what there is on both sides. Names come first, so that what they
// need is among the contents.
func (r *repository) look(ctx context.Context) (err error) {
	r.absent, r.gone = make(map[digest.Digest]bool), make(map[digest.Digest]bool)
	if r.index, err = r.from.Index(ctx); err != nil {
		return fmt.Errorf("read the names: %w", err)
	}
	if r.contents, err = sizes(contents(ctx, r.from, r.index)); err != nil {
		return fmt.Errorf("list the content: %w", err)
	}
	r.known, err = r.to.Index(ctx)
	if errors.Is(err, oci.NameUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the target's names: %w", err)
	}
	if to, ok := storage.As[storage.Collectable](r.to); ok {
		r.there, err = sizes(to.Contents(ctx))
		return unless(errors.Is(err, oci.NameUnknown), err)
	}
	return nil
}

func unless(forgiven bool, err error) error {
	if forgiven {
		return nil
	}
	return err
}

func sizes(contents iter.Seq2[storage.Content, error]) (map[digest.Digest]int64, error) {
	all := make(map[digest.Digest]int64)
	for c, err := range contents {
		if err != nil {
			return nil, err
		}
		all[c.Digest] = c.Size
	}
	return all, nil
}

// copyBlobs copies what is no manifest.
func (r *repository) copyBlobs(ctx context.Context) error {
	var blobs []digest.Digest
	for d := range r.contents {
		if !r.isManifest(d) {
			blobs = append(blobs, d)
		}
	}
	if err := r.copyAtOnce(ctx, blobs); err != nil {
		return err
	}
	return r.settle(ctx, blobs)
}

// copyAtOnce copies as many blobs at once as is allowed in all repositories together.
func (r *repository) copyAtOnce(ctx context.Context, blobs []digest.Digest) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range blobs {
		if err := r.blobs.Acquire(ctx, 1); err != nil {
			return errors.Join(group.Wait(), err)
		}
		group.Go(func() error {
			defer r.blobs.Release(1)
			return r.copyBlob(ctx, d, r.contents[d])
		})
	}
	return group.Wait()
}

func (r *repository) isManifest(d digest.Digest) bool {
	_, err := r.index.Resolve(oci.DigestRef(d))
	return err == nil
}

// perUpdate is how much is done in one Update, which others wait for.
const perUpdate = 1000

// settle makes content durable that no manifest may ever require, and what was
// there already is not to be collected as garbage now.
func (r *repository) settle(ctx context.Context, blobs []digest.Digest) error {
	blobs = slices.DeleteFunc(blobs, func(d digest.Digest) bool { return r.absent[d] })
	for some := range slices.Chunk(blobs, perUpdate) {
		if err := r.update(ctx, func(e *storage.Edit) { e.Require(some...) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *repository) update(ctx context.Context, change func(*storage.Edit)) error {
	return r.to.Update(ctx, func(e *storage.Edit) error {
		e.By = r.opts.By
		change(e)
		return nil
	})
}

// batch is manifests that are put at once.
type batch struct {
	manifests []oci.Manifest
	bytes     int64
}

// full keeps an Update small.
func (b *batch) full() bool { return len(b.manifests) >= perUpdate || b.bytes > 8<<20 }

func (r *repository) copyManifests(ctx context.Context) error {
	var b batch
	var had []digest.Digest
	for desc := range r.index.Manifests() {
		if r.has(ctx, desc) {
			had = append(had, desc.Digest)
			r.opts.Progress.Skipped.Add(1)
			continue
		}
		m, err := r.readManifest(ctx, desc)
		if err != nil {
			if err := r.cannotRead(ctx, desc, err); err != nil {
				return err
			}
			continue
		}
		if err := r.checkNamed(ctx, m); err != nil {
			return err
		}
		b.manifests, b.bytes = append(b.manifests, m), b.bytes+m.Size
		if b.full() {
			if err := r.put(ctx, b); err != nil {
				return err
			}
			b = batch{}
		}
	}
	return errors.Join(r.put(ctx, b), r.settle(ctx, had))
}

// has reports whether the target has a manifest.
func (r *repository) has(ctx context.Context, desc oci.Descriptor) bool {
	if r.known == nil {
		return false
	}
	if _, err := r.known.Resolve(oci.DigestRef(desc.Digest)); err != nil {
		return false
	}
	if r.there != nil {
		_, ok := r.there[desc.Digest]
		return ok
	}
	_, err := r.to.StatBlob(ctx, desc.Digest)
	return err == nil
}

// readManifest makes sure that a manifest is what it's said to be.
func (r *repository) readManifest(ctx context.Context, desc oci.Descriptor) (oci.Manifest, error) {
	b, err := Peek(ctx, r.from, desc.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	raw, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		return oci.Manifest{}, err
	}
	r.opts.Progress.Bytes.Add(int64(len(raw)))
	if desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
		return oci.Manifest{}, errors.New("its bytes are damaged")
	}
	return oci.ParseManifest(desc.MediaType, raw, desc.Digest.Algorithm())
}

// cannotRead copies the bytes of what index.json calls a manifest and nobody can
// read as one.
func (r *repository) cannotRead(ctx context.Context, desc oci.Descriptor, err error) error {
	if told := r.problem(ctx, desc.Digest.String(), err); told != nil {
		return told
	}
	if !errors.Is(err, oci.ManifestInvalid) {
		return nil
	}
	if err := r.copyBlob(ctx, desc.Digest, desc.Size); err != nil {
		return err
	}
	return r.settle(ctx, []digest.Digest{desc.Digest})
}

// checkNamed tells of blobs that a manifest needs and the source hasn't got.
func (r *repository) checkNamed(ctx context.Context, m oci.Manifest) error {
	for b := range m.Required() {
		if _, ok := r.contents[b.Digest]; ok && !r.gone[b.Digest] {
			continue
		}
		if err := r.problem(ctx, b.Digest.String(), fmt.Errorf("manifest %s needs it, and it isn't there", m.Digest)); err != nil {
			return err
		}
	}
	return nil
}

// put puts manifests, if what they name is there still: the target may be one
// from which garbage is collected.
func (r *repository) put(ctx context.Context, b batch) error {
	if len(b.manifests) == 0 {
		return nil
	}
	err := r.update(ctx, func(e *storage.Edit) {
		for _, m := range b.manifests {
			for _, blob := range m.Blobs {
				if _, ok := r.contents[blob.Digest]; ok && !r.absent[blob.Digest] && !r.isManifest(blob.Digest) {
					e.Require(blob.Digest)
				}
			}
			e.Put(m)
		}
	})
	if err == nil {
		r.opts.Progress.Copied.Add(int64(len(b.manifests)))
	}
	return err
}
