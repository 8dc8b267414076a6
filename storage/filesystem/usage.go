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
// each session has its own.
func (s *Store) OpenUploads(context.Context) (int, error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	n, err := vfs.Count(s.fs, uploadsDir)
	if missing(err) {
		return 0, nil
	}
	return n, err
}

// Space implements storage.Measurer, with what the root's file system says of
// itself.
func (s *Store) Space(context.Context) (storage.Space, error) {
	leave, err := s.enter()
	if err != nil {
		return storage.Space{}, err
	}
	defer leave()
	free, used, err := vfs.Space(s.fs)
	return storage.Space{Free: free, Used: used}, err
}
