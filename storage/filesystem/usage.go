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
// each session that is on disk has its own, and adds those that are in memory. One
// that is being written down is in both.
func (s *Store) OpenUploads(context.Context) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	open := s.sessions.inMemory() // before the folder is read: what leaves the memory is there then
	entries, err := s.fs.ReadDir(uploadsDir)
	if err != nil && !missing(err) {
		return 0, err
	}
	for _, e := range entries {
		if e.IsDir() {
			open[e.Name()] = true
		}
	}
	return len(open), nil
}

// Space implements storage.Measurer, with what the root's file system says of
// itself.
func (s *Store) Space(context.Context) (storage.Space, error) {
	if err := s.enter(); err != nil {
		return storage.Space{}, err
	}
	defer s.leave()
	free, used, err := vfs.Space(s.under)
	return storage.Space{Free: free, Used: used}, err
}
