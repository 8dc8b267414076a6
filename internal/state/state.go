// Package state holds what outlives a configuration: the open store of each
// place where content is kept.
//
// A server replaces its configuration while requests of the old one still run,
// so a store belongs to no configuration. It belongs to a State, found by the
// identity of the place alone (a canonical root folder, say; never a tunable),
// and is open while any Lease on it is held. Each generation of the
// configuration has one Lease, which its requests hold too: whoever is last
// closes the store.
package state

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-oci/oci-registry/storage"
)

// A Backend opens the store of one place, as one generation of the
// configuration wants it.
type Backend interface {
	// Open opens the store. Whoever asked for it closes it.
	Open(ctx context.Context) (storage.Store, error)

	// Tune applies this generation's tunables to a store that's open, maybe by
	// another generation. It is quick and can't fail.
	Tune(storage.Store)
}

// pool has the States somebody holds, by identity.
//
// It isn't a caddy.UsagePool, since that forgets a value before it's
// destructed: a successor could then open a place that its predecessor is
// still closing. Here the State stays until its store is closed.
var pool = struct {
	sync.Mutex
	states map[string]*State
}{states: make(map[string]*State)}

// State is what all the leases on one place share.
type State struct {
	identity string
	leases   int // guarded by the pool

	opened atomic.Pointer[storage.Store] // nil while it isn't open; written with mu held

	mu      sync.Mutex
	started []*Lease // the newest last: its tunables apply
}

// Acquire takes a Lease on the place that identity stands for. It does no I/O:
// the store is opened by Lease.Open. The caller releases the Lease.
func Acquire(identity string, b Backend) *Lease {
	pool.Lock()
	defer pool.Unlock()
	s, ok := pool.states[identity]
	if !ok {
		s = &State{identity: identity}
		pool.states[identity] = s
	}
	s.leases++
	l := &Lease{state: s, backend: b}
	l.holders.Store(1)
	return l
}

// open returns the store, opening it with b if need be. What failed is tried
// again by the next call.
func (s *State) open(ctx context.Context, b Backend) (storage.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if store := s.opened.Load(); store != nil {
		return *store, nil
	}
	store, err := b.Open(ctx)
	if err != nil {
		return nil, err
	}
	s.tune(store)
	s.opened.Store(&store) // where others find it
	return store, nil
}

// start makes l the newest generation.
func (s *State) start(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, l)
	s.tuneOpen()
}

// stop takes l off the stack, and the generation below is the newest again: so
// a configuration that failed to start leaves the one before as it was.
func (s *State) stop(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.started, l)
	if i < 0 {
		return
	}
	s.started = slices.Delete(s.started, i, i+1)
	s.tuneOpen()
}

// tuneOpen tunes the store if it's open. The caller holds mu.
func (s *State) tuneOpen() {
	if store := s.opened.Load(); store != nil {
		s.tune(*store)
	}
}

// tune applies the newest generation's tunables. The caller holds mu.
func (s *State) tune(store storage.Store) {
	if n := len(s.started); n > 0 {
		s.started[n-1].backend.Tune(store)
	}
}

// drop gives one lease back; the last one closes the store. Who acquires the
// place while it closes gets this State, and opens it again afterwards.
func (s *State) drop() error {
	pool.Lock()
	s.leases--
	last := s.leases == 0
	pool.Unlock()
	if !last {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	store, unused := s.takeUnused()
	if !unused {
		return nil
	}
	var err error
	if store != nil {
		err = (*store).Close()
	}
	pool.Lock()
	defer pool.Unlock()
	if s.leases == 0 && pool.states[s.identity] == s {
		delete(pool.states, s.identity)
	}
	return err
}

// takeUnused takes the store, if no lease is held: who acquires one after that doesn't
// find it open.
func (s *State) takeUnused() (store *storage.Store, unused bool) {
	pool.Lock()
	defer pool.Unlock()
	if s.leases > 0 {
		return nil, false
	}
	return s.opened.Swap(nil), true
}
