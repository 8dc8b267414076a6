package filesystem

import (
	"context"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
)

var (
	_ storage.UploadCounter = (*Store)(nil)
	_ storage.Measurer      = (*Store)(nil)
)

// OpenUploads implements storage.UploadCounter. It lists one folder, in which
// each session that is on disk has its own.
func (s *Store) OpenUploads(context.Context) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	n, err := vfs.Count(s.fs, uploadsDir)
	if missing(err) {
		n, err = 0, nil
	}
	return n + s.sessions.inMemory(), err
}

// Space implements storage.Measurer, with what the root's file system says of
// itself.
func (s *Store) Space(context.Context) (storage.Space, error) {
	if err := s.enter(); err != nil {
		return storage.Space{}, err
	}
	defer s.leave()
	free, used, err := vfs.Space(s.fs)
	return storage.Space{Free: free, Used: used}, err
}
