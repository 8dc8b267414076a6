package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Maintainable = (*Store)(nil)

// LoadNote implements storage.Maintainable.
func (s *Store) LoadNote(ctx context.Context, name string) ([]byte, error) {
	done, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	data, _, err := s.bucket.fetch(ctx, getRequest{Key: s.keys.note(name)})
	if errors.Is(err, errNotFound) {
		return nil, fmt.Errorf("note %s: %w", name, fs.ErrNotExist)
	}
	return data, err
}

// SaveNote implements storage.Maintainable.
func (s *Store) SaveNote(ctx context.Context, name string, data []byte) error {
	done, err := s.begin()
	if err != nil {
		return err
	}
	defer done()
	if err := s.writable(ctx); err != nil {
		return err
	}
	_, err = s.bucket.put(ctx, putRequest{Key: s.keys.note(name), Body: data})
	return err
}
