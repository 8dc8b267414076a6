package filesystem

import (
	"sync"
	"sync/atomic"
)

// rareSet is a set that is mostly empty, and then costs nothing to ask.
type rareSet[K comparable] struct {
	some atomic.Bool

	mu sync.Mutex
	of map[K]bool
}

func (s *rareSet[K]) has(k K) bool {
	if !s.some.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[k]
}

func (s *rareSet[K]) add(k K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[K]bool)
	}
	s.of[k] = true
	s.some.Store(true)
}

// all are the members, in no order.
func (s *rareSet[K]) all() []K {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]K, 0, len(s.of))
	for k := range s.of {
		all = append(all, k)
	}
	return all
}
