package filesystem

import (
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// doubts are the blobs of which a Sync has failed. From then on the system takes
// their bytes for written, and the next Sync succeeds without writing them
// (fsync(2)): only a new file makes them durable.
type doubts struct {
	mu sync.Mutex
	of map[digest.Digest]bool
}

func (s *doubts) add(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[digest.Digest]bool)
	}
	s.of[d] = true // for good: other repositories may have links to the same file
}

func (s *doubts) has(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[d]
}

// syncFile makes the bytes of a blob durable, by a copy in its place if they are
// in doubt.
func (r *repo) syncFile(d digest.Digest, f vfs.File) error {
	if r.store.doubts.has(d) {
		return r.rewrite(d, f)
	}
	err := r.store.disk.Sync(f)
	if err != nil {
		r.store.doubts.add(d)
	}
	return err
}

func (r *repo) rewrite(d digest.Digest, f vfs.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	v := d.Verifier()
	tmp, err := r.store.disk.StageFrom(r.stageDir(), io.TeeReader(f, v), fi.Mode().Perm())
	if err != nil {
		return err
	}
	if !v.Verified() {
		err = errLost
	}
	if err == nil {
		err = r.store.fs.Rename(tmp, blobPath(r.name, d))
	}
	if err != nil {
		return errors.Join(err, r.store.fs.Remove(tmp))
	}
	return nil
}

var errLost = errors.New("its bytes are lost")
