package ociregistry

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/storage"
)

// Backend is what a module of the namespace oci_registry.storage is: a factory
// of the stores in one place. It owns none of them, since they outlive the
// configuration it belongs to.
type Backend interface {
	caddy.Module

	// Identity names the place, and nothing else: two configurations with one
	// identity share a store, whatever their other options are. It is known once
	// the module is provisioned, and has no secrets.
	Identity() string

	// Open opens the store. The caller closes it.
	Open(ctx context.Context) (storage.Store, error)

	// Tune applies the module's tunables to a store that Open returned, this
	// module's or that of another configuration with the same Identity.
	Tune(storage.Store)
}

// readOnlyBackend is a Backend that has something to leave out if nothing is going
// to be written to its stores.
type readOnlyBackend interface{ onlyRead() }

// commanded is a Backend that opens its stores otherwise for a command: for one that
// doesn't write, so that nothing there is written or locked, and others may serve it
// meanwhile; for one that does, as the only one in the process that needs memory.
type commanded interface{ byCommand(write bool) }
