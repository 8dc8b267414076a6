package filesystem

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/caddy-oci/oci-registry/storage"
)

const (
	reserveName = "_reserve"
	reserveSize = 4 << 20 // bytes: a fold of a large repository, and then some
)

// space is what to do about a full disk. A file holds room that is given up for
// the sake of changes that only remove.
type space struct {
	store *Store

	full atomic.Bool // a write has failed since the reserve was last whole

	mu sync.Mutex // one at a time makes or gives up the reserve
}

// full makes an error that is about room a storage.ErrFull.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}

// note remembers that there was no room.
func (s *space) note(err error) error {
	err = full(err)
	if errors.Is(err, storage.ErrFull) {
		s.full.Store(true)
	}
	return err
}

// release gives up the reserve; false if there was none.
func (s *space) release() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.fs.Remove(reserveName) == nil
}

// check is storage.ErrFull from a failed write on until there's room again.
func (s *space) check() error {
	if !s.full.Load() {
		return nil
	}
	return full(s.keep())
}

// keep makes the reserve whole. If a write has failed, a whole one proves
// nothing: then there has to be room for another.
func (s *space) keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := s.store.fs.Stat(reserveName)
	switch {
	case err != nil && !missing(err):
		return err
	case err == nil && fi.Size() == reserveSize && !s.full.Load():
		return nil
	}
	const next = reserveName + ".new"
	err = s.write(next)
	if err == nil {
		err = s.store.fs.Rename(next, reserveName)
	}
	if err != nil {
		if rerr := s.store.fs.Remove(next); !missing(rerr) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	s.full.Store(false)
	return nil
}

// write fills a file with bytes that no file system can do without.
func (s *space) write(name string) error {
	f, err := s.store.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = byte(i%251) + 1
	}
	for n := 0; n < reserveSize && err == nil; n += len(chunk) {
		_, err = f.Write(chunk)
	}
	return errors.Join(err, f.Close())
}
