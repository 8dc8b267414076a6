package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// storeHelp says how a command is told which store it's about.
const storeHelp = `A store is one of

  FOLDER                          a registry's root
  registry:NAME                   that of a registry in the file --config, with
                                  its paths; one that a site describes is called
                                  inline, the next ones inline-2 and so on
  s3://BUCKET[/PREFIX][?OPTIONS]  a bucket; options are region, endpoint,
                                  path_style=true and single_writer=true, and who
                                  asks is found where AWS's own tools look
  zot+s3://BUCKET[/PREFIX]…       the bucket of a zot, which is only read; PREFIX
                                  is what its repositories' names come after

What a running registry serves from a folder can be read. To be written to, a
folder must be nobody else's.`

// storeSchemes open stores by the scheme of their URL. Those that a build leaves out
// aren't there.
var storeSchemes = map[string]func(context.Context, *url.URL) (storage.Store, error){}

// storeFlags say where a command finds what a store is called.
type storeFlags struct{ config, adapter string }

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "Caddyfile", "The file that declares what registry:NAME names")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of that file, if its name doesn't say")
}

// read opens a store for reading. The caller closes it.
func (f storeFlags) read(ctx context.Context, at string) (storage.Store, error) {
	return f.open(ctx, at, false)
}

// write opens a store for writing, and makes its folder if need be. The caller
// closes it. Whether it may be written to shows when it is.
func (f storeFlags) write(ctx context.Context, at string) (storage.Store, error) {
	s, err := f.open(ctx, at, true)
	if to, ok := s.(*appStore); ok && to.readOnly {
		return nil, errors.Join(fmt.Errorf("%s is read_only: take that out of its configuration first", at), to.Close())
	}
	return s, err
}

// shown is what a store is called where anybody may read it.
func shown(at string) string {
	scheme, _, isURL := strings.Cut(at, "://")
	if isURL && (strings.Contains(at, "@") || withoutUser(at) == "") { // keys have slashes, too
		return scheme + "://…"
	}
	return at
}

// explain says what to do if a store couldn't be written to since another process
// does that.
func explain(err error, at string) error {
	if !errors.Is(err, storage.ErrStandby) {
		return err
	}
	return fmt.Errorf("%w\nIf a registry is running on %s, stop it first; or write to a new place, and have the registry use that one then", err, shown(at))
}

func (f storeFlags) open(ctx context.Context, at string, create bool) (storage.Store, error) {
	s, err := f.openNamed(ctx, at, create)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown(at), err)
	}
	return s, nil
}

func (f storeFlags) openNamed(ctx context.Context, at string, create bool) (storage.Store, error) {
	if name, ok := strings.CutPrefix(at, "registry:"); ok {
		return f.openRegistry(ctx, name, create)
	}
	if scheme, _, ok := strings.Cut(at, "://"); ok {
		return openURL(ctx, scheme, at)
	}
	root, err := canonical(at)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(root); err != nil && (!create || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	if isUnsynced(root) && !create {
		return nil, errUnsynced
	}
	return filesystem.Open(root, filesystem.Options{})
}

// openURL opens a store by the scheme of its URL.
func openURL(ctx context.Context, scheme, at string) (storage.Store, error) {
	open, known := storeSchemes[scheme]
	if !known {
		return nil, fmt.Errorf("no stores are called %s:// (there are %s)", scheme, strings.Join(slices.Sorted(maps.Keys(storeSchemes)), ", "))
	}
	if strings.Contains(at, "@") {
		return nil, errors.New("keys in a URL would be for all to see: leave them to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or to another part of AWS's usual chain")
	}
	u, err := url.Parse(at)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrong.Err // which hasn't got all of it
	}
	if err != nil {
		return nil, err
	}
	return open(ctx, u)
}

// errUnsynced is why what was written unsynced isn't only read.
var errUnsynced = errors.New("it's written with sync off, or was and not closed: who opens it removes what is damaged, so start the registry on it, which verifies it, or have a running one read it ('caddy oci-registry scrub')")

func isUnsynced(root string) bool {
	_, err := os.Stat(filepath.Join(root, "_unsynced"))
	return err == nil
}

// isUnsynced reports whether one of the registry's roots is.
func (r *Registry) isUnsynced() bool {
	return slices.ContainsFunc(r.homes, func(h home) bool {
		f, ok := h.backend.(*FilesystemStorage)
		return ok && isUnsynced(f.root)
	})
}

// openRegistry opens what the registry called name has, as its configuration says.
func (f storeFlags) openRegistry(ctx context.Context, name string, write bool) (storage.Store, error) {
	raw, _, _, err := caddycmd.LoadConfig(f.config, f.adapter)
	if err != nil {
		return nil, err
	}
	var config *caddy.Config
	if err := caddy.StrictUnmarshalJSON(caddy.RemoveMetaFields(raw), &config); err != nil {
		return nil, fmt.Errorf("%s: %w", f.config, err)
	}
	config.Logging = quietLogging()
	running, err := caddy.ProvisionContext(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.config, err)
	}
	mod, err := running.App("oci_registry")
	if err != nil {
		return nil, err
	}
	app, ok := mod.(*App)
	if !ok {
		return nil, fmt.Errorf("app oci_registry is a %T", mod)
	}
	s, readOnly, err := app.open(ctx, name, write)
	if err != nil {
		return nil, errors.Join(err, app.Cleanup())
	}
	return &appStore{s, app, readOnly}, nil
}

// open returns the open store of a registry, as long as the app has it.
func (a *App) open(ctx context.Context, name string, write bool) (s storage.Store, readOnly bool, err error) {
	r, ok := a.registry(name)
	if !ok {
		return nil, false, fmt.Errorf("the configuration has no registry of this name (it has: %s)", a.allNames())
	}
	if r.isUnsynced() && !write {
		return nil, false, errUnsynced
	}
	s, err = r.open(ctx)
	return s, r.ReadOnly, err
}

// appStore is a registry's store, which closes with its app.
type appStore struct {
	storage.Store

	app      *App
	readOnly bool
}

// Unwrap is for storage.As.
func (a *appStore) Unwrap() any { return a.Store }

// Close implements storage.Store.
func (a *appStore) Close() error { return a.app.Cleanup() }

// allNames lists the registries that are declared or described.
func (a *App) allNames() string {
	names := make([]string, len(a.serving))
	for i, r := range a.serving {
		names[i] = r.name
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// quietLogging is for commands, which say themselves what there is to say.
func quietLogging() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}}
}
