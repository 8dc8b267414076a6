package filesystem

import (
	"context"
	"errors"
	"io"
	"path"

	"github.com/caddy-oci/oci-registry/storage"
)

// notesDir has the notes of who works on the store.
const notesDir = "_notes"

var _ storage.Maintainable = (*Store)(nil)

func notePath(name string) string { return path.Join(notesDir, name) }

// LoadNote implements storage.Maintainable.
func (s *Store) LoadNote(_ context.Context, name string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	f, err := s.fs.Open(notePath(name))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// SaveNote implements storage.Maintainable.
func (s *Store) SaveNote(_ context.Context, name string, data []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.lock.check(); err != nil {
		return err
	}
	if err := s.disk.Replace(notePath(name), notesDir, data); err != nil {
		return full(err)
	}
	return s.disk.Settle(notesDir)
}

// Claim implements storage.Maintainable. Who writes to the tree works on it.
func (s *Store) Claim(context.Context, string) (release func(), ok bool, err error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()
	switch err := s.lock.check(); {
	case errors.Is(err, storage.ErrStandby):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	return func() {}, true, nil
}
