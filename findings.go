package ociregistry

import (
	"slices"
	"sync"
)

// maxFindings is how many things of a round are remembered. A Report counts all.
const maxFindings = 10_000

// findings are what the last round of a job has found, the first of them.
type findings[T any] struct {
	mu   sync.Mutex
	list []T
	more int
}

// begin forgets what an earlier round has found.
func (f *findings[T]) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.more = nil, 0
}

func (f *findings[T]) add(what T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, what)
}

// all returns those that are remembered, and how many there were beyond.
func (f *findings[T]) all() (list []T, more int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list), f.more
}
