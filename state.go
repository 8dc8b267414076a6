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

// other is the home that h isn't.
func (h StateHome) other() StateHome {
	if h == StateCaddy {
		return StateStore
	}
	return StateCaddy
}

// provisionState finds out where the state is. It asks nobody.
func (r *Registry) provisionState(ctx caddy.Context) error {
	home := r.State
	if home == "" {
		home = StateCaddy
		if r.homes[0].module != "filesystem" {
			home = StateStore
		}
	}
	if home != StateCaddy && home != StateStore {
		return fmt.Errorf("state %q: want %s or %s", home, StateCaddy, StateStore)
	}
	r.stateHome = home
	r.stateIn = map[StateHome]keep.Store{StateCaddy: newInCaddy(ctx.Storage(), r.name), StateStore: inStore{r}}
	other := r.stateIn[home.other()]
	if home == StateStore && r.homes[0].module == "memory" {
		other = new(keep.Memory) // each start makes new keys, wherever there are old ones
	}
	r.state = keep.Settle(r.stateIn[home], other, r.stateAdvice())
	return nil
}

// stateAdvice is what to do about keys that are in the other home.
func (r *Registry) stateAdvice() string {
	return fmt.Sprintf("stop all replicas and move them with 'caddy oci-registry state move --registry %s --to %s', or write 'state %s' to leave them there",
		r.name, r.stateHome, r.stateHome.other())
}

// needsState reports whether there are keys: of machines, of tokens or of sessions.
func (r *Registry) needsState() bool { return r.keys != nil || r.tokens != nil || r.auth.pages != nil }

// checkState returns an error if there are keys, and not where they're looked for. It
// asks nobody if the registry needs none.
func (r *Registry) checkState(ctx context.Context) error {
	if !r.needsState() {
		return nil
	}
	if err := r.state.Check(ctx); err != nil {
		return fmt.Errorf("registry %s, state %s: %w", r.name, r.stateHome, advised(err))
	}
	return nil
}

// advised is err with what to do about keys that somebody has moved to who knows where.
func advised(err error) error {
	if !errors.Is(err, keep.ErrAway) {
		return err
	}
	return fmt.Errorf("%w: 'state move' was run by another user, perhaps, whose storage of Caddy's isn't that of the service: "+
		"as that user move them back, and then run it as the service's user. If they're lost, remove the file 'moving' beside where they were, and new ones are made", err)
}

// errKeepsNothing is what a storage without a keep.Store is refused with.
var errKeepsNothing = errors.New("this storage keeps nothing beside the content: write 'state caddy'")

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
			return errKeepsNothing
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

// List implements keep.Store. Where nothing can be kept is nothing.
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
		if err != nil && !errors.Is(err, errKeepsNothing) {
			yield("", err)
		}
	}
}
