package state

import (
	"context"
	"sync/atomic"

	"github.com/caddy-oci/oci-registry/storage"
)

// Lease is the share of one generation of the configuration in a State. It is
// held by the generation itself, from Acquire to Release, and by each of its
// requests, from Enter to Exit. It is safe for concurrent use.
type Lease struct {
	state   *State
	backend Backend

	holders  atomic.Int64 // requests, and one for the generation
	released atomic.Bool
}

// Open returns the store, which stays open, and the same, as long as the lease
// is held. The first call opens it; one that failed may be called again. Opening isn't
// interrupted by ctx: others wait for it too.
func (l *Lease) Open(ctx context.Context) (storage.Store, error) {
	if store := l.state.opened.Load(); store != nil {
		return *store, nil
	}
	return l.state.open(context.WithoutCancel(ctx), l.backend)
}

// Start makes this the newest generation, whose tunables the store gets.
func (l *Lease) Start() { l.state.start(l) }

// Stop takes back Start and closes nothing. Without a Start it does nothing.
func (l *Lease) Stop() { l.state.stop(l) }

// Enter holds the lease for a request, which calls Exit when it's done. A
// request may come late, to a generation that is released and idle: it is let
// in if others hold the place, and the store may be another one than before. If
// nobody does, Enter reports false.
func (l *Lease) Enter() bool {
	for {
		n := l.holders.Load()
		if n == 0 {
			return l.rejoin()
		}
		if l.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// rejoin holds a lease again that nobody held. That happens only here, with
// the pool locked, so that the pool counts the lease once.
func (l *Lease) rejoin() bool {
	pool.Lock()
	defer pool.Unlock()
	if l.state.leases == 0 {
		return false
	}
	if l.holders.Add(1) == 1 {
		l.state.leases++
	}
	return true
}

// Exit ends what Enter began. If nobody else needs the store it closes it, and
// returns the error of that.
func (l *Lease) Exit() error {
	if l.holders.Add(-1) > 0 {
		return nil
	}
	return l.state.drop()
}

// Release ends the generation, stopping it if need be. Its requests go on, and
// the last one closes the store if no other generation needs it; if there's
// none, Release does, and returns the error of that. Further calls do nothing.
func (l *Lease) Release() error {
	if l.released.Swap(true) {
		return nil
	}
	l.Stop()
	return l.Exit()
}
