package filesystem

import (
	"container/list"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// idleSessions is how many sessions between two requests stay known in memory,
// each with its content or an open file: most go on at once, and needn't be read
// again.
const idleSessions = 256

// restTime is how long a session rests between two requests until what's only in
// memory of it is written down.
const restTime = 250 * time.Millisecond

// sessionSet holds the upload sessions that handles of this process are on, or
// lately were.
type sessionSet struct {
	store *Store

	mu      sync.Mutex // not held while a session is read or written
	open    map[string]*session
	loading map[string]chan struct{} // closed when the session of that ID has been read
	idle    list.List                // of *session without handles, the longest idle first

	unsaved atomic.Int64 // how many of the idle ones are in memory only
}

// create begins a session with one handle on it. It isn't on disk yet.
func (s *sessionSet) create(repo oci.Name, id string, a digest.Algorithm, by string) *session {
	n := &session{
		store: s.store, id: id, repo: repo, handles: 1,
		algorithm: a, hash: a.Hash(), by: by, began: timeNow(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.know(n)
	return n
}

func (s *sessionSet) know(n *session) {
	if s.open == nil {
		s.open = make(map[string]*session)
	}
	s.open[n.id] = n
}

// inMemory has the IDs of the sessions that aren't on disk, those included that
// have just ended. It waits for none of them.
func (s *sessionSet) inMemory() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make(map[string]bool)
	for id, n := range s.open {
		if !n.onDisk.Load() {
			ids[id] = true
		}
	}
	return ids
}

// resume adds a handle to a session, reading its state if it isn't known.
func (s *sessionSet) resume(repo oci.Name, id string) (*session, error) {
	if len(id) != idLength || strings.ContainsAny(id, `/\.`) {
		return nil, unknownUpload(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if n.repo != repo {
		return nil, unknownUpload(id)
	}
	s.know(n)
	s.take(n)
	return n, nil
}

// find returns a session, for who holds mu, which it gives up while it reads one
// that isn't known. Meanwhile nobody else has that one, or it wouldn't be as read.
func (s *sessionSet) find(id string) (*session, error) {
	for s.loading[id] != nil {
		loaded := s.loading[id]
		s.mu.Unlock()
		<-loaded
		s.mu.Lock()
	}
	if n := s.open[id]; n != nil {
		return n, nil
	}
	loaded := s.load(id)
	s.mu.Unlock()
	n, err := loadSession(s.store, id)
	s.mu.Lock()
	loaded()
	return n, err
}

// load has everybody else wait who wants the session, until loaded is called. Who
// calls either holds mu.
func (s *sessionSet) load(id string) (loaded func()) {
	if s.loading == nil {
		s.loading = make(map[string]chan struct{})
	}
	done := make(chan struct{})
	s.loading[id] = done
	return func() {
		delete(s.loading, id)
		close(done)
	}
}

// take adds a handle to a session that is known.
func (s *sessionSet) take(n *session) {
	if n.idle != nil {
		s.idle.Remove(n.idle)
		n.idle = nil
		if !n.onDisk.Load() {
			s.unsaved.Add(-1)
		}
	}
	n.handles++
}

func unknownUpload(id string) error {
	return oci.Errorf(oci.BlobUploadUnknown, "upload session %.64q", id)
}

// leave takes a handle off. A session that nobody is on stays known for a while.
func (s *sessionSet) leave(n *session) error {
	s.mu.Lock()
	n.handles--
	var oldest *session
	switch {
	case n.handles > 0:
	case n.over():
		delete(s.open, n.id)
	default:
		s.rest(n)
		if s.idle.Len() > idleSessions {
			oldest = s.takeOldest()
		}
	}
	s.mu.Unlock()
	if oldest == nil {
		return nil
	}
	return s.retire(oldest)
}

// rest keeps a session that nobody is on.
func (s *sessionSet) rest(n *session) {
	n.idle, n.left = s.idle.PushBack(n), time.Now()
	if !n.onDisk.Load() && s.unsaved.Add(1) == 1 {
		s.store.background.poke() // to have it written down
	}
}

// takeOldest adds a handle to the session that has rested longest; nil if none does.
func (s *sessionSet) takeOldest() *session {
	front := s.idle.Front()
	if front == nil {
		return nil
	}
	oldest, _ := front.Value.(*session)
	s.take(oldest)
	return oldest
}

// retire takes off the handle that the caller has, and makes the session one that
// has to be read again, unless somebody was on it while it was written down.
func (s *sessionSet) retire(n *session) error {
	n.mu.Lock()
	s.persist(n)
	err := n.closeFile()
	n.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	n.handles--
	if n.handles > 0 {
		return err
	}
	if n.inUse() {
		s.rest(n)
	} else {
		delete(s.open, n.id)
	}
	return err
}

// persist makes a session outlive the process. One for which there's no room
// ends, and its client begins again: that's no failure of who asks.
func (s *sessionSet) persist(n *session) {
	if err := n.persist(); err != nil {
		s.store.log().Warn("an upload session can't be written down, so it's ended", "error", full(err))
	}
}

// forgetIdle forgets all sessions without handles: the store is about to close,
// or another process has had its turn.
func (s *sessionSet) forgetIdle() error {
	var errs []error
	for {
		s.mu.Lock()
		oldest := s.takeOldest()
		s.mu.Unlock()
		if oldest == nil {
			return errors.Join(errs...)
		}
		errs = append(errs, s.retire(oldest))
	}
}

// saveRested writes down the sessions that have rested.
func (s *sessionSet) saveRested() {
	if s.unsaved.Load() == 0 {
		return
	}
	for _, n := range s.rested() {
		n.mu.Lock()
		s.persist(n)
		n.mu.Unlock()
		_ = s.leave(n) // who closes the file that persist has written knows nothing that it doesn't
	}
}

// rested returns the sessions to be written down, with a handle on each.
func (s *sessionSet) rested() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*session
	for e := s.idle.Front(); e != nil; {
		n, _ := e.Value.(*session)
		e = e.Next()
		if !n.onDisk.Load() && time.Since(n.left) >= restTime {
			s.take(n)
			due = append(due, n)
		}
	}
	return due
}
