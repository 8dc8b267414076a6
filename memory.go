package ociregistry

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// MemoryStorage keeps content in memory: for tests, and for caches that may be
// lost. It survives reloads of the configuration, not the end of the process.
type MemoryStorage struct {
	// Name tells several registries in memory apart. Default: empty.
	Name string `json:"name,omitempty"`
}

// CaddyModule implements caddy.Module.
func (MemoryStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oci_registry.storage.memory",
		New: func() caddy.Module { return new(MemoryStorage) },
	}
}

// Identity implements Backend.
func (m *MemoryStorage) Identity() string { return m.Name }

// Open implements Backend.
func (*MemoryStorage) Open(context.Context) (storage.Store, error) { return memory.New(), nil }

// Tune implements Backend; there's nothing to tune.
func (*MemoryStorage) Tune(storage.Store) {}

// UnmarshalCaddyfile parses
//
//	storage memory [NAME]
func (m *MemoryStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	d.Args(&m.Name)
	return option.Block(d, nil)
}

var (
	_ Backend               = (*MemoryStorage)(nil)
	_ caddyfile.Unmarshaler = (*MemoryStorage)(nil)
)
