package filesystem

import (
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// syncedSet has the blobs whose bytes are known to be durable: of those that were added,
// at least the last maxSynced, and never more than twice as many. To forget one costs a
// sync of what is durable already.
type syncedSet struct {
	mu         sync.Mutex
	young, old map[syncedBlob]struct{}
}

// syncedBlob is a blob of what a process knows of a repository. What it knows of the same
// one later, having forgotten all of it, has another number.
type syncedBlob struct {
	repo   uint64
	digest digest.Digest
}

// maxSynced is a hundred images of ten layers that are pushed at the same time. The set
// takes some 300 kB then.
const maxSynced = 1024

func (s *syncedSet) add(b syncedBlob) {
	b.digest = digest.Digest(strings.Clone(b.digest.String())) // it may be a part of a request
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= maxSynced {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[syncedBlob]struct{})
	}
	s.young[b] = struct{}{}
}

func (s *syncedSet) remove(b syncedBlob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, b)
	delete(s.old, b)
}

func (s *syncedSet) has(b syncedBlob) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[b]; ok {
		return true
	}
	_, ok := s.old[b]
	return ok
}
