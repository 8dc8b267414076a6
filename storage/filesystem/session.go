package filesystem

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// maxInMemory is how large a session may be, in bytes, that isn't on disk: the blobs
// of most pushes are configs and small layers, whose sessions are over at once.
const maxInMemory = 64 << 10

// session is an upload session. It begins in memory. On disk, its folder holds
// data, and state once the session has outlived the request that began it.
type session struct {
	store *Store
	id    string
	repo  oci.Name

	handles int           // guarded by sessionSet.mu, as are idle and left
	idle    *list.Element // its place in sessionSet.idle
	left    time.Time     // when the last handle was taken off

	onDisk atomic.Bool // written under mu

	mu        sync.Mutex
	mem       []byte   // the content, unless it's on disk; see remember
	file      vfs.File // nil until it's needed
	size      int64
	room      int64 // where what is set aside in the file ends
	noRoom    bool  // nothing can be set aside
	algorithm digest.Algorithm
	hash      hash.Hash
	hashing   sync.WaitGroup // the chunks that aren't hashed yet
	by        string
	began     time.Time
	holder    int  // the Append that may write: the last one that claimed the session
	saved     bool // there's a state that has to be kept true
	hasDir    bool // there may be the folder, as there may be data if hasData
	hasData   bool
	halfSaved bool // there may be a state.new
	ended     bool
}

// idLength is the length of rand.Text, which makes the IDs.
const idLength = 26

func sessionDir(id string) string { return path.Join(uploadsDir, id) }

func (s *session) path(name string) string { return path.Join(sessionDir(s.id), name) }

func (s *session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// inUse reports whether there's an open file, which who goes on with it needs.
func (s *session) inUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil
}

// spill puts a session that was in memory on disk.
func (s *session) spill() error {
	if s.onDisk.Load() {
		return nil
	}
	if err := s.makeDir(); err != nil {
		return fmt.Errorf("begin upload: %w", s.store.space.note(err))
	}
	if len(s.mem) > 0 {
		if err := s.openData(0); err != nil {
			return s.store.space.note(err)
		}
		if _, err := s.file.Write(s.mem); err != nil {
			return errors.Join(s.store.space.note(err), s.closeFile())
		}
	}
	s.forget()
	s.onDisk.Store(true)
	return nil
}

// remember adds a chunk to what's in memory, which comes from firstChunks as long
// as that is enough.
func (s *session) remember(chunk []byte) {
	if s.mem == nil && len(chunk) <= firstChunk {
		buf, _ := firstChunks.Get().(*[firstChunk]byte)
		s.mem = buf[:0]
	}
	s.mem = append(s.mem, chunk...)
}

// forget gives back what remember has taken.
func (s *session) forget() {
	if cap(s.mem) == firstChunk {
		firstChunks.Put((*[firstChunk]byte)(s.mem[:firstChunk]))
	}
	s.mem = nil
}

func (s *session) makeDir() error {
	if s.hasDir {
		return nil
	}
	s.hasDir = true
	return s.store.disk.Within(sessionDir(s.id), func() error { return s.store.fs.Mkdir(sessionDir(s.id)) })
}

// persist makes a session outlive the process. If it can't be, it's ended.
func (s *session) persist() error {
	if s.ended || s.saved {
		return nil
	}
	err := s.spill()
	if err == nil {
		s.saved = true
		err = s.save()
	}
	if err != nil {
		err = errors.Join(s.store.space.note(err), s.end())
	}
	return err
}

// openFile makes the file of a session that is on disk ready to be written at the size.
func (s *session) openFile() error {
	if s.file != nil || !s.onDisk.Load() {
		return nil
	}
	return s.openData(s.size)
}

// openData opens the file to be written at the size. What a dead process wrote
// beyond it goes.
func (s *session) openData(size int64) error {
	s.hasData = true
	f, err := s.store.fs.OpenFile(s.path("data"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err = f.Truncate(size); err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.room, s.noRoom = f, 0, false
	return nil
}

func (s *session) closeFile() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// put adds a chunk to the content.
func (s *session) put(chunk []byte) error {
	if !s.onDisk.Load() {
		if len(s.mem)+len(chunk) <= maxInMemory {
			s.remember(chunk)
			return nil
		}
		if err := s.spill(); err != nil {
			return err
		}
	}
	if err := s.openFile(); err != nil {
		return s.store.space.note(err)
	}
	if _, err := s.file.Write(chunk); err != nil {
		// What is half there doesn't count; who opens the file again cuts it off.
		s.giveBack()
		return errors.Join(s.store.space.note(err), s.closeFile())
	}
	return nil
}

// content reads all of it, from the beginning.
func (s *session) content() (io.Reader, error) {
	if !s.onDisk.Load() {
		return bytes.NewReader(s.mem), nil
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.LimitReader(s.file, s.size), nil
}

// digest is what the session's content hashes to.
func (s *session) digest(a digest.Algorithm) (digest.Digest, error) {
	if a == s.algorithm {
		return digest.NewDigest(a, s.hash), nil
	}
	content, err := s.content()
	if err != nil {
		return "", err
	}
	h := a.Hash()
	if _, err := io.CopyN(h, content, s.size); err != nil {
		return "", fmt.Errorf("read back: %w", err)
	}
	return digest.NewDigest(a, h), nil
}

// fail returns err as a client is to see it. It ends the session if there's no
// room for it; else it can go on, with a file whose position isn't known any more.
func (s *session) fail(err error) error {
	err = s.store.space.note(err)
	if errors.Is(err, storage.ErrFull) {
		return errors.Join(err, s.end())
	}
	return errors.Join(err, s.closeFile())
}

// end closes the session and removes what it has on disk.
func (s *session) end() error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.forget()
	errs := []error{s.closeFile()}
	if !s.hasDir {
		return errs[0]
	}
	for name, there := range map[string]bool{"data": s.hasData, "state": s.saved, "state.new": s.halfSaved} {
		if !there {
			continue
		}
		if err := s.store.fs.Remove(s.path(name)); err != nil && !missing(err) {
			errs = append(errs, err)
		}
	}
	if err := s.store.fs.Remove(sessionDir(s.id)); err != nil && !missing(err) {
		errs = append(errs, err)
	}
	return s.store.space.note(errors.Join(errs...))
}
