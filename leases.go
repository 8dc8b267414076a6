package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/caddy-oci/oci-registry/internal/state"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/routed"
)

// leases are the shares of one generation of a registry's configuration in all
// the places where its content is. Its methods are those of a state.Lease.
type leases struct {
	homes   []home
	each    []*state.Lease // by home
	joined  atomic.Pointer[joined]
	stopped atomic.Bool
}

// joined is the one store over several.
type joined struct {
	stores []storage.Store
	all    storage.Store
}

func acquireLeases(r *Registry) *leases {
	l := &leases{homes: r.homes, each: make([]*state.Lease, len(r.homes))}
	for i, h := range r.homes {
		l.each[i] = state.Acquire(h.identity(), plan{r, h})
	}
	return l
}

// Open returns the store over all homes, opening what isn't open. It's the same
// one as long as the stores are the same.
func (l *leases) Open(ctx context.Context) (storage.Store, error) {
	if len(l.each) == 1 {
		return l.each[0].Open(ctx)
	}
	stores, err := l.openEach(ctx)
	if err != nil {
		return nil, err
	}
	if j := l.joined.Load(); j != nil && slices.Equal(j.stores, stores) {
		return j.all, nil
	}
	parts := make([]routed.Part, 0, len(stores)-1)
	for i, s := range stores[1:] {
		parts = append(parts, routed.Part{Store: s, Prefixes: l.homes[i+1].prefixes})
	}
	j := &joined{stores, routed.New(stores[0], parts...)}
	l.joined.Store(j)
	return j.all, nil
}

// openEach returns the store of each home. A path's is that of all its prefixes.
func (l *leases) openEach(ctx context.Context) ([]storage.Store, error) {
	stores := make([]storage.Store, len(l.each))
	for i, lease := range l.each {
		var err error
		if stores[i], err = lease.Open(ctx); err != nil {
			return nil, l.wrap(i, err)
		}
	}
	return stores, nil
}

// workplaces are where background work is done.
func (l *leases) workplaces(ctx context.Context) ([]*workplace, error) {
	stores, err := l.openEach(ctx)
	all := make([]*workplace, 0, len(stores))
	for _, s := range stores {
		if w, ok := s.(*workplace); ok {
			all = append(all, w)
		}
	}
	return all, err
}

// workplace is the one of a path; of all that's under none if it's empty.
func (l *leases) workplace(ctx context.Context, path string) (*workplace, bool, error) {
	all, err := l.workplaces(ctx)
	if err != nil {
		return nil, false, err
	}
	for i, h := range l.homes {
		if path == "" && i == 0 || slices.ContainsFunc(h.prefixes, func(p oci.Name) bool { return p.String() == path }) {
			return all[i], true, nil
		}
	}
	return nil, false, nil
}

// wrap says where something has failed, if there's more than one place.
func (l *leases) wrap(i int, err error) error {
	if err == nil || i == 0 {
		return err
	}
	return fmt.Errorf("path %s: %w", l.homes[i].prefixes[0], err)
}

// Start makes this the generation whose tunables the stores get.
func (l *leases) Start() {
	for _, lease := range l.each {
		lease.Start()
	}
}

// Stop takes back Start.
func (l *leases) Stop() {
	l.stopped.Store(true)
	for _, lease := range l.each {
		lease.Stop()
	}
}

// Stopped reports whether this generation has been stopped: another one serves, or none.
func (l *leases) Stopped() bool { return l.stopped.Load() }

// Enter holds all the leases for a request, or none of them.
func (l *leases) Enter() bool {
	for i, lease := range l.each {
		if !lease.Enter() {
			_ = l.exit(i) // what a store that nobody else holds has to say isn't about this request
			return false
		}
	}
	return true
}

// Exit ends what Enter began.
func (l *leases) Exit() error { return l.exit(len(l.each)) }

func (l *leases) exit(n int) error {
	if n == 1 {
		return l.each[0].Exit()
	}
	errs := make([]error, n)
	for i, lease := range l.each[:n] {
		errs[i] = l.wrap(i, lease.Exit())
	}
	return errors.Join(errs...)
}

// Release ends the generation.
func (l *leases) Release() error {
	errs := make([]error, len(l.each))
	for i, lease := range l.each {
		errs[i] = l.wrap(i, lease.Release())
	}
	return errors.Join(errs...)
}
