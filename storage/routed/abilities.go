package routed

import (
	"context"
	"errors"
	"iter"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var (
	_ storage.Measurer      = (*store)(nil)
	_ storage.UploadCounter = (*store)(nil)
	_ storage.Sweeper       = (*store)(nil)
	_ storage.Restorer      = (*store)(nil)
)

// maintained is a store of which one part remembers for background work on all.
type maintained struct {
	*store
	storage.Maintainable
}

// keeping is a store of which one part keeps the registry's own state.
type keeping struct {
	storage.Store
	storage.Keeper
}

// Unwrap is for storage.As.
func (k keeping) Unwrap() any { return k.Store }

// Space implements storage.Measurer. It's that of the part with the least room:
// several may be on one medium, and who asks what may still be written wants to
// know before the first of them is full.
func (s *store) Space(ctx context.Context) (storage.Space, error) {
	least, known := storage.Space{}, false
	for _, p := range s.parts {
		m, ok := storage.As[storage.Measurer](p.store)
		if !ok {
			continue
		}
		space, err := m.Space(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			return storage.Space{}, p.wrap(err)
		case !known || space.Free < least.Free:
			least, known = space, true
		}
	}
	if !known {
		return storage.Space{}, errors.ErrUnsupported
	}
	return least, nil
}

// OpenUploads implements storage.UploadCounter, for the parts that know theirs.
func (s *store) OpenUploads(ctx context.Context) (int, error) {
	sum, known := 0, false
	for _, p := range s.parts {
		c, ok := storage.As[storage.UploadCounter](p.store)
		if !ok {
			continue
		}
		n, err := c.OpenUploads(ctx)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			return 0, p.wrap(err)
		default:
			sum, known = sum+n, true
		}
	}
	if !known {
		return 0, errors.ErrUnsupported
	}
	return sum, nil
}

// Sweep implements storage.Sweeper: it sweeps one part after the other.
func (s *store) Sweep(ctx context.Context, opts storage.SweepOptions) iter.Seq2[storage.Swept, error] {
	return func(yield func(storage.Swept, error) bool) {
		for _, p := range s.parts {
			sweeper, ok := storage.As[storage.Sweeper](p.store)
			if !ok {
				continue
			}
			for swept, err := range sweeper.Sweep(ctx, opts) {
				if !yield(swept, p.wrap(err)) {
					return
				}
			}
		}
	}
}

// Broken implements storage.Restorer: those of all parts that are able to tell.
func (s *store) Broken(ctx context.Context) ([]storage.Breakage, error) {
	var all []storage.Breakage
	for i, p := range s.parts {
		r, ok := storage.As[storage.Restorer](p.store)
		if !ok {
			continue
		}
		broken, err := r.Broken(ctx)
		if err != nil {
			return nil, p.wrap(err)
		}
		for _, b := range broken {
			if s.route(b.Name).part == i {
				all = append(all, b)
			}
		}
	}
	return all, nil
}

// Restore implements storage.Restorer; errors.ErrUnsupported if the part isn't able to.
func (s *store) Restore(ctx context.Context, name oci.Name) error {
	r, ok := storage.As[storage.Restorer](s.parts[s.route(name).part].store)
	if !ok {
		return errors.ErrUnsupported
	}
	return r.Restore(ctx, name)
}
