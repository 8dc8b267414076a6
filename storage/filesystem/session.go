package filesystem

import (
	"container/list"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// idleSessions is how many sessions between two requests stay known in memory,
// each with an open file: most go on at once, and needn't be read again.
const idleSessions = 256

// sessionSet holds the upload sessions that handles of this process are on, or
// lately were.
type sessionSet struct {
	store *Store

	mu   sync.Mutex
	open map[string]*session
	idle list.List // of *session without handles, the longest idle first
}

// session is an upload session. Its folder holds data, and state once the
// session has outlived the request that began it.
type session struct {
	store *Store
	id    string
	repo  oci.Name

	handles int           // guarded by sessionSet.mu, as is idle
	idle    *list.Element // its place in sessionSet.idle

	mu        sync.Mutex
	file      vfs.File // nil until it's needed
	size      int64
	algorithm digest.Algorithm
	hash      hash.Hash
	hashing   sync.WaitGroup // the chunk that is being hashed
	by        string
	began     time.Time
	holder    int  // the Append that may write: the last one that claimed the session
	saved     bool // there's a state that has to be kept true
	hasData   bool // there may be data, as there may be a state.new if halfSaved
	halfSaved bool
	ended     bool
}

// sessionState is the file state: where the session stands, in its own words.
type sessionState struct {
	Repository string           `json:"repository"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	Size       int64            `json:"size"` // bytes of data that count; what's behind them doesn't
	Hash       []byte           `json:"hash"` // of these bytes, as encoding.BinaryMarshaler has it
	Boot       string           `json:"boot"` // in which the state was written
	By         string           `json:"by,omitempty"`
	Began      time.Time        `json:"began"`
}

// idLength is the length of rand.Text, which makes the IDs.
const idLength = 26

func sessionDir(id string) string { return path.Join(uploadsDir, id) }

func (s *session) path(name string) string { return path.Join(sessionDir(s.id), name) }

// create begins a session with one handle on it.
func (s *sessionSet) create(repo oci.Name, id string, a digest.Algorithm, by string) (*session, error) {
	err := s.store.fs.Mkdir(sessionDir(id))
	if missing(err) {
		if err = s.store.disk.MakeDir(uploadsDir); err == nil {
			err = s.store.fs.Mkdir(sessionDir(id))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", s.store.space.note(err))
	}
	n := &session{
		store: s.store, id: id, repo: repo, handles: 1,
		algorithm: a, hash: a.Hash(), by: by, began: timeNow(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.know(n)
	return n, nil
}

func (s *sessionSet) know(n *session) {
	if s.open == nil {
		s.open = make(map[string]*session)
	}
	s.open[n.id] = n
}

// resume adds a handle to a session, reading its state if nobody is on it.
func (s *sessionSet) resume(repo oci.Name, id string) (*session, error) {
	if len(id) != idLength || strings.ContainsAny(id, `/\.`) {
		return nil, unknownUpload(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.open[id]
	if n == nil {
		var err error
		if n, err = s.load(id); err != nil {
			return nil, err
		}
	}
	if n.repo != repo {
		return nil, unknownUpload(id)
	}
	if n.idle != nil {
		s.idle.Remove(n.idle)
		n.idle = nil
	}
	s.know(n)
	n.handles++
	return n, nil
}

func unknownUpload(id string) error {
	return oci.Errorf(oci.BlobUploadUnknown, "upload session %.64q", id)
}

// leave takes a handle off. A session that nobody is on stays known for a while.
func (s *sessionSet) leave(n *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.handles--
	if n.handles > 0 {
		return nil
	}
	n.mu.Lock()
	over := n.ended || !n.saved // what isn't saved nobody can come back to
	n.mu.Unlock()
	if over {
		return s.forget(n)
	}
	n.idle = s.idle.PushBack(n)
	if s.idle.Len() <= idleSessions {
		return nil
	}
	oldest, _ := s.idle.Front().Value.(*session)
	return s.forget(oldest)
}

// forget makes a session without handles one that has to be read again.
func (s *sessionSet) forget(n *session) error {
	if n.idle != nil {
		s.idle.Remove(n.idle)
		n.idle = nil
	}
	delete(s.open, n.id)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closeFile()
}

// forgetIdle forgets all sessions without handles: the store is about to close,
// or another process has had them meanwhile.
func (s *sessionSet) forgetIdle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for s.idle.Len() > 0 {
		oldest, _ := s.idle.Front().Value.(*session)
		errs = append(errs, s.forget(oldest))
	}
	return errors.Join(errs...)
}

func (s *sessionSet) load(id string) (*session, error) {
	n := &session{store: s.store, id: id, saved: true, hasData: true, halfSaved: true}
	f, err := s.store.fs.Open(n.path("state"))
	if missing(err) {
		return nil, unknownUpload(id)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var st sessionState
	if json.Unmarshal(data, &st) != nil || !st.Algorithm.Available() {
		return nil, unknownUpload(id) // anything in _uploads may be lost
	}
	if n.repo, err = oci.ParseName(st.Repository); err != nil {
		return nil, unknownUpload(id)
	}
	n.size, n.algorithm, n.by, n.began = st.Size, st.Algorithm, st.By, st.Began
	n.hash = st.Algorithm.Hash()
	if err := n.restore(st); err != nil {
		return nil, err
	}
	return n, nil
}

// restore makes the hash stand at the size. The saved one is believed only in
// the boot that wrote it: after a power cut the data on disk may be others than
// those that were hashed.
func (s *session) restore(st sessionState) error {
	if st.Size == 0 {
		return nil
	}
	if st.Size < 0 {
		return unknownUpload(s.id)
	}
	fi, err := s.store.fs.Stat(s.path("data"))
	if missing(err) || err == nil && fi.Size() < st.Size {
		return unknownUpload(s.id)
	}
	if err != nil {
		return err
	}
	if h, ok := s.hash.(encoding.BinaryUnmarshaler); ok && st.Boot != "" && st.Boot == bootID() {
		if h.UnmarshalBinary(st.Hash) == nil {
			return nil
		}
		s.hash.Reset()
	}
	f, err := s.store.fs.Open(s.path("data"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(s.hash, f, st.Size)
	return errors.Join(err, f.Close())
}

// save writes the state, if the session has one to keep true. It is not
// synced: what a power cut takes here may be lost.
func (s *session) save() error {
	if !s.saved || s.ended {
		return nil
	}
	st := sessionState{
		Repository: s.repo.String(), Algorithm: s.algorithm, Size: s.size,
		Boot: bootID(), By: s.by, Began: s.began,
	}
	if h, ok := s.hash.(encoding.BinaryMarshaler); ok {
		var err error
		if st.Hash, err = h.MarshalBinary(); err != nil {
			return err
		}
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	tmp := s.path("state.new")
	s.halfSaved = true
	f, err := s.store.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return s.store.space.note(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return s.store.space.note(err)
	}
	err = s.store.fs.Rename(tmp, s.path("state"))
	s.halfSaved = err != nil
	return s.store.space.note(err)
}

// openFile makes the file ready to be written at the size. What a dead process
// wrote beyond it goes.
func (s *session) openFile() error {
	if s.file != nil {
		return nil
	}
	s.hasData = true
	f, err := s.store.fs.OpenFile(s.path("data"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err = f.Truncate(s.size); err == nil {
		_, err = f.Seek(s.size, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
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
	errs := []error{s.closeFile()}
	var names []string
	if s.hasData {
		names = append(names, "data")
	}
	if s.saved {
		names = append(names, "state")
	}
	if s.halfSaved {
		names = append(names, "state.new")
	}
	for _, name := range names {
		if err := s.store.fs.Remove(s.path(name)); err != nil && !missing(err) {
			errs = append(errs, err)
		}
	}
	return s.store.space.note(errors.Join(append(errs, s.store.fs.Remove(sessionDir(s.id)))...))
}
