package filesystem

import (
	"container/list"
	"sync"

	"github.com/caddy-oci/oci-registry/oci"
)

// idleRepos is how many repositories nobody is using stay known in memory.
const idleRepos = 1024

// repoSet holds what is known of the repositories in use or lately used. What
// names a client makes up doesn't stay in it.
type repoSet struct {
	store *Store

	mu    sync.Mutex
	known map[oci.Name]*repo
	made  uint64    // how many there have been
	order list.List // of *repo, all that are known, the longest unused first
	idle  int       // how many of them have no users
}

// use returns the repository's repo, for the time until done is called with it.
func (s *repoSet) use(name oci.Name) *repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.known[name]
	switch {
	case r == nil:
		name = name.Clone()
		r = newRepo(s.store, name)
		s.made++
		r.number = s.made
		if s.known == nil {
			s.known = make(map[oci.Name]*repo)
		}
		s.known[name] = r
		r.place = s.order.PushBack(r)
	case r.users == 0:
		s.idle--
		fallthrough
	default:
		s.order.MoveToBack(r.place)
	}
	r.users++
	return r
}

func (s *repoSet) done(r *repo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	if r.users > 0 {
		return
	}
	s.idle++
	if !r.worthKeeping() {
		s.drop(r)
		return
	}
	for e := s.order.Front(); e != nil && s.idle > idleRepos; {
		next := e.Next()
		if oldest, _ := e.Value.(*repo); oldest.users == 0 {
			s.drop(oldest)
		}
		e = next
	}
}

// drop forgets a repository that nobody uses.
func (s *repoSet) drop(r *repo) {
	if s.known[r.name] == r {
		delete(s.known, r.name)
		s.order.Remove(r.place)
		s.idle--
	}
	r.release()
}

// forget makes every repository read its names again before they are used.
func (s *repoSet) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.known {
		r.state.Store(nil)
		r.marks.forget()
	}
}

// close releases every repository, when nobody uses one any more.
func (s *repoSet) close() {
	s.mu.Lock()
	known := s.known
	s.known, s.idle = nil, 0
	s.order.Init()
	s.mu.Unlock()
	for _, r := range known {
		r.release()
		r.commitMu.Lock()
		r.closeLog()
		r.commitMu.Unlock()
	}
}
