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
	idle  list.List // of *repo with no users, the longest idle first
}

// use returns the repository's repo, for the time until done is called.
func (s *repoSet) use(name oci.Name) (r *repo, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.known[name]
	if r == nil {
		r = newRepo(s.store, name)
		if s.known == nil {
			s.known = make(map[oci.Name]*repo)
		}
		s.known[name] = r
	}
	if r.idle != nil {
		s.idle.Remove(r.idle)
		r.idle = nil
	}
	r.users++
	return r, func() { s.done(r) }
}

func (s *repoSet) done(r *repo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	if r.users > 0 {
		return
	}
	if !r.worthKeeping() {
		s.drop(r)
		return
	}
	r.idle = s.idle.PushBack(r)
	for s.idle.Len() > idleRepos {
		oldest, _ := s.idle.Remove(s.idle.Front()).(*repo)
		s.drop(oldest)
	}
}

func (s *repoSet) drop(r *repo) {
	if s.known[r.name] == r {
		delete(s.known, r.name)
	}
	r.release()
}

// forget makes every repository read its names again before they are used.
func (s *repoSet) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.known {
		r.state.Store(nil)
	}
}

// close releases every repository, when nobody uses one any more.
func (s *repoSet) close() {
	s.mu.Lock()
	known := s.known
	s.known = nil
	s.idle.Init()
	s.mu.Unlock()
	for _, r := range known {
		r.release()
		r.commitMu.Lock()
		r.closeLog()
		r.commitMu.Unlock()
	}
}
