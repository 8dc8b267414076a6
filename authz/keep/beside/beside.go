// Package beside keeps small shared state beside a registry's content.
package beside

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/storage"
)

// New returns the keep.Store in what a storage.Store keeps beside its content.
func New(in storage.Keeper) keep.Store { return store{in} }

type store struct{ in storage.Keeper }

// Load implements keep.Store.
func (s store) Load(ctx context.Context, key string) (value []byte, version string, err error) {
	return s.in.LoadState(ctx, key)
}

// Save implements keep.Store.
func (s store) Save(ctx context.Context, key string, value []byte, version string) (now string, err error) {
	now, err = s.in.SaveState(ctx, key, value, version)
	return now, changed(err)
}

// Delete implements keep.Store.
func (s store) Delete(ctx context.Context, key, version string) error {
	return changed(s.in.DeleteState(ctx, key, version))
}

// List implements keep.Store.
func (s store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.in.ListState(ctx, prefix)
}

// changed makes the storage's word for a lost race the keep's.
func changed(err error) error {
	if errors.Is(err, storage.ErrChanged) {
		return fmt.Errorf("%w: %w", keep.ErrChanged, err)
	}
	return err
}
