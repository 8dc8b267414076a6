package memory

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// Update implements storage.Repository. Updates of all repositories happen one
// after another: next to storing a manifest there's nothing to wait for.
func (r *repository) Update(_ context.Context, fn func(*storage.Edit) error) error {
	s := r.store
	done, err := s.begin()
	if err != nil {
		return err
	}
	defer done()

	s.updating.Lock()
	defer s.updating.Unlock()
	e := storage.NewEdit(r.base())
	if err := fn(e); err != nil {
		return err
	}
	if e.Marks() {
		return errors.ErrUnsupported
	}
	return r.apply(e)
}

// base returns the index to change: of a repository that doesn't exist an empty one.
func (r *repository) base() *layout.Index {
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	if c := r.store.contents[r.name]; c != nil {
		return c.index
	}
	return layout.New()
}

// apply stores the changes of e. No index has been stored since base.
func (r *repository) apply(e *storage.Edit) error {
	changes := e.Changes()
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if missing := r.missing(e.Required(), changes); len(missing) > 0 {
		return storage.MissingError(missing...)
	}
	c := r.store.contents[r.name]
	if c == nil {
		if !slices.ContainsFunc(changes, isPut) {
			return nil // there's nothing that could be untagged, deleted or dropped
		}
		c = r.store.create(r.name)
	}
	for _, ch := range changes {
		switch ch.Kind {
		case storage.PutChange:
			c.blobs[ch.Digest] = slices.Clone(ch.Manifest.Raw)
		case storage.DropBlobChange:
			delete(c.blobs, ch.Digest)
		case storage.TagChange, storage.UntagChange, storage.DeleteChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	c.index, _ = c.index.Apply(changes)
	return nil
}

func isPut(c storage.Change) bool { return c.Kind == storage.PutChange }

// missing returns what is required and neither here nor put, each digest once.
// A manifest is a blob too. mu is held.
func (r *repository) missing(required []digest.Digest, changes []storage.Change) (missing []digest.Digest) {
	c := r.store.contents[r.name]
	for _, d := range required {
		there := false
		if c != nil {
			_, there = c.blobs[d]
		}
		puts := func(ch storage.Change) bool { return isPut(ch) && ch.Digest == d }
		if !there && !slices.ContainsFunc(changes, puts) && !slices.Contains(missing, d) {
			missing = append(missing, d)
		}
	}
	return missing
}
