package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/beside"
	"github.com/caddy-oci/oci-registry/storage"
)

// StateHome is where a registry keeps its own small state: the keys that sign tokens,
// API keys.
type StateHome string

// The values of StateHome.
const (
	StateCaddy StateHome = "caddy" // in Caddy's storage, for all who share that
	StateStore StateHome = "store" // beside the content, for all who serve that
)

// provisionState finds out where the state is. It asks nobody.
func (r *Registry) provisionState(ctx caddy.Context) error {
	home := r.State
	if home == "" {
		home = StateCaddy
		if r.homes[0].module != "filesystem" {
			home = StateStore
		}
	}
	switch home {
	case StateCaddy:
		r.state = newInCaddy(ctx.Storage(), r.name)
	case StateStore:
		r.state = inStore{r}
	default:
		return fmt.Errorf("state %q: want %s or %s", home, StateCaddy, StateStore)
	}
	return nil
}

// inStore is the keep.Store beside a registry's content, in the store of what's under
// no path.
type inStore struct{ registry *Registry }

var _ keep.Store = inStore{}

// with calls f with the open store.
func (s inStore) with(ctx context.Context, f func(keep.Store) error) error {
	return s.registry.withStore(ctx, func(storage.Store) error {
		main, err := s.registry.lease.each[0].Open(ctx)
		if err != nil {
			return err
		}
		keeper, ok := storage.As[storage.Keeper](main)
		if !ok {
			return errors.New("this storage keeps nothing beside the content: write 'state caddy'")
		}
		return f(beside.New(keeper))
	})
}

// Load implements keep.Store.
func (s inStore) Load(ctx context.Context, key string) (value []byte, version string, err error) {
	err = s.with(ctx, func(k keep.Store) error {
		value, version, err = k.Load(ctx, key)
		return err
	})
	return value, version, err
}

// Save implements keep.Store.
func (s inStore) Save(ctx context.Context, key string, value []byte, version string) (now string, err error) {
	err = s.with(ctx, func(k keep.Store) error {
		now, err = k.Save(ctx, key, value, version)
		return err
	})
	return now, err
}

// Delete implements keep.Store.
func (s inStore) Delete(ctx context.Context, key, version string) error {
	return s.with(ctx, func(k keep.Store) error { return k.Delete(ctx, key, version) })
}

// List implements keep.Store.
func (s inStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.with(ctx, func(k keep.Store) error {
			for key, err := range k.List(ctx, prefix) {
				if !yield(key, err) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield("", err)
		}
	}
}
