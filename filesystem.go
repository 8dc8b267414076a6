package ociregistry

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// FilesystemStorage keeps each repository as an OCI image layout in a folder.
type FilesystemStorage struct {
	// Root is the folder, which is made if it's missing. Placeholders like
	// {env.NAME} are replaced. Default: oci_registry in Caddy's data folder.
	Root string `json:"root,omitempty"`

	// Sync says that what was acknowledged survives a power cut. Without it
	// pushes are faster, and after an unclean stop the content is verified before
	// it's served: for caches. Default: true.
	Sync *bool `json:"sync,omitempty"`

	root    string // Root, canonical
	looking bool   // it's opened for reading only
	log     *slog.Logger
}

// CaddyModule implements caddy.Module.
func (FilesystemStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oci_registry.storage.filesystem",
		New: func() caddy.Module { return new(FilesystemStorage) },
	}
}

// Provision finds out which folder Root is. It makes none.
func (f *FilesystemStorage) Provision(ctx caddy.Context) error {
	f.log = ctx.Slogger()
	root, err := option.Resolve("root", f.Root)
	if err != nil {
		return err
	}
	if root == "" {
		root = defaultRoot()
	}
	f.root, err = filesystem.Canonical(root)
	return err
}

func defaultRoot() string { return filepath.Join(caddy.AppDataDir(), "oci_registry") }

// Identity implements Backend.
func (f *FilesystemStorage) Identity() string { return f.root }

// Open implements Backend.
func (f *FilesystemStorage) Open(ctx context.Context) (storage.Store, error) {
	if f.looking {
		return filesystem.OpenReadOnly(ctx, f.root, f.options())
	}
	return filesystem.Open(f.root, f.options())
}

// byCommand implements commanded.
func (f *FilesystemStorage) byCommand(write bool) { f.looking = !write }

// Tune implements Backend.
func (f *FilesystemStorage) Tune(store storage.Store) {
	if s, ok := storage.As[*filesystem.Store](store); ok {
		s.Tune(f.options())
	}
}

func (f *FilesystemStorage) options() filesystem.Options {
	return filesystem.Options{Unsynced: f.Sync != nil && !*f.Sync, Log: f.log}
}

// UnmarshalCaddyfile parses
//
//	storage filesystem {
//		root PATH
//		sync on|off
//	}
func (f *FilesystemStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		return d.Errf("storage filesystem has no argument %q: write 'root %[1]s' in its block", d.Val())
	}
	return option.Block(d, f.caddyfileOptions())
}

// caddyfileOptions are the options a registry also has by themselves.
func (f *FilesystemStorage) caddyfileOptions() option.Set {
	return option.Set{
		"root": option.Text(&f.Root, "VALUE"),
		"sync": option.OnOff(&f.Sync),
	}
}

var (
	_ Backend               = (*FilesystemStorage)(nil)
	_ commanded             = (*FilesystemStorage)(nil)
	_ caddy.Provisioner     = (*FilesystemStorage)(nil)
	_ caddyfile.Unmarshaler = (*FilesystemStorage)(nil)
)
