package s3

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Collectable = (*Repository)(nil)

// Contents implements storage.Collectable.
func (r *Repository) Contents(ctx context.Context) iter.Seq2[storage.Content, error] {
	return func(yield func(storage.Content, error) bool) {
		s, err := r.look(ctx)
		if err != nil {
			yield(storage.Content{}, err)
			return
		}
		for key, b := range s.blobs.All() {
			if b.Unsure {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(storage.Content{}, err)
				return
			}
			if !yield(storage.Content{Digest: digest.Digest(key), Size: b.Size, Marked: b.marked, Object: b.object()}, nil) {
				return
			}
		}
	}
}

// look returns the state of the repository as it is now.
func (r *Repository) look(ctx context.Context) (*state, error) {
	known, done, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	return known.existing(ctx)
}

// Peek implements storage.Collectable.
func (r *Repository) Peek(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	known, done, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := known.having(ctx, d)
	if err != nil {
		return nil, err
	}
	b := s.find(d)
	if b == nil {
		return nil, unknownBlob(d)
	}
	return r.open(ctx, d, b), nil
}

// Retire implements storage.Collectable.
func (r *Repository) Retire(ctx context.Context) (gone bool, err error) {
	known, done, err := r.enter()
	if err != nil {
		return false, err
	}
	defer done()
	err = known.change(ctx, func(s *state) ([]change, string, error) {
		gone = s.empty()
		if !gone || s.head.Retired || s.head.Count == 0 {
			return nil, "", nil
		}
		return []change{{retire: true}}, "", nil
	})
	return gone, err
}

// empty reports whether there's neither a blob nor a manifest.
func (c *contents) empty() bool {
	for range c.index.Manifests() {
		return false
	}
	return c.blobs.Len() == 0
}
