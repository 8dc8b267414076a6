package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/internal/command"
	"github.com/caddy-oci/oci-registry/storage"
)

// offline is the app of a configuration that is provisioned and not started, for
// commands.
type offline struct{ app *App }

var _ command.Configuration = offline{}

// loadOffline is Load of a command.Caddy.
func loadOffline(file, adapter string) (command.Configuration, error) {
	raw, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	var config *caddy.Config
	if err := caddy.StrictUnmarshalJSON(caddy.RemoveMetaFields(raw), &config); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	config.Logging = quietLogging()
	running, err := caddy.ProvisionContext(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	mod, err := running.App("oci_registry")
	if err != nil {
		return nil, err
	}
	app, ok := mod.(*App)
	if !ok {
		return nil, fmt.Errorf("app oci_registry is a %T", mod)
	}
	return offline{app}, nil
}

// quietLogging is for commands, which say themselves what there is to say.
func quietLogging() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}}
}

// Open implements command.Configuration.
func (o offline) Open(ctx context.Context, registry string, write bool) (s storage.Store, folders []string, err error) {
	r, ok := o.app.registry(registry)
	if !ok {
		return nil, nil, fmt.Errorf("the configuration has no registry of this name (it has: %s)", o.names())
	}
	if write && r.ReadOnly {
		return nil, nil, errors.New("it's read_only: take that out of its configuration first")
	}
	for _, h := range r.homes {
		if f, ok := h.backend.(*FilesystemStorage); ok {
			folders = append(folders, f.root)
		}
		if b, ok := h.backend.(commanded); ok {
			b.byCommand(write)
		}
	}
	s, err = r.open(ctx)
	return s, folders, err
}

// Explain implements command.Configuration.
func (o offline) Explain(ctx context.Context, registry string, s authz.Supposed) (authz.Explanation, error) {
	r, err := o.one(registry)
	if err != nil {
		return authz.Explanation{}, err
	}
	return r.explain(ctx, s)
}

// MoveState implements command.Configuration.
func (o offline) MoveState(ctx context.Context, registry, to string, moved func(key string)) error {
	r, err := o.one(registry)
	if err != nil {
		return err
	}
	if r.homes[0].module == "memory" {
		return fmt.Errorf("registry %s is in memory, where nothing outlives its process: write 'state caddy'", r.name)
	}
	if _, _, err := o.Open(ctx, r.name, true); err != nil {
		return err
	}
	home := StateHome(to)
	switch err := keep.Move(ctx, r.stateIn[home.other()], r.stateIn[home], moved); {
	case errors.Is(err, storage.ErrStandby):
		return fmt.Errorf("%w\nIf registry %s is running, stop it first", err, r.name)
	case err != nil:
		return fmt.Errorf("move the state of registry %s to %s: %w", r.name, to, advised(err))
	}
	return nil
}

// Close implements command.Configuration.
func (o offline) Close() error { return o.app.Cleanup() }

// one returns the registry called name, or the only one there is if name is empty.
func (o offline) one(name string) (*Registry, error) {
	if name == "" && len(o.app.serving) == 1 {
		return o.app.serving[0], nil
	}
	if r, ok := o.app.registry(name); ok {
		return r, nil
	}
	if name == "" {
		return nil, fmt.Errorf("which registry? Say --registry NAME (there are: %s)", o.names())
	}
	return nil, fmt.Errorf("the configuration has no registry %q (it has: %s)", name, o.names())
}

// names lists the registries that are declared or described.
func (o offline) names() string {
	names := make([]string, len(o.app.serving))
	for i, r := range o.app.serving {
		names[i] = r.name
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
