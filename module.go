// Package ociregistry makes any Caddy server a full OCI registry.
//
// It adds an app and an HTTP handler, both called oci_registry. The app has
// the registries that several sites may use by name; the handler serves one of
// them, or one of its own that it describes:
//
//	registry.example.com {
//		oci_registry {
//			root /srv/registry
//		}
//	}
package ociregistry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(adminAPI{})
	caddy.RegisterModule(FilesystemStorage{})
	caddy.RegisterModule(MemoryStorage{})
}

// App is the Caddy app that owns the registries of a configuration: those it
// declares and those that handlers describe.
type App struct {
	// Registries are the registries that handlers can use, by name. A name has
	// letters, digits, and . _ - within it. Default: none.
	Registries map[string]*Registry `json:"registries,omitempty"`

	serving  []*Registry // sorted by name
	auditLog *zap.Logger
}

// CaddyModule implements caddy.Module.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oci_registry",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision prepares the declared registries. Like all of provisioning it
// opens, locks and starts nothing: 'caddy validate' does it beside a running server.
func (a *App) Provision(ctx caddy.Context) error {
	a.auditLog = ctx.Logger().Named("audit")
	for _, name := range slices.Sorted(maps.Keys(a.Registries)) {
		if a.Registries[name] == nil {
			a.Registries[name] = new(Registry)
		}
		if err := a.add(ctx, name, a.Registries[name]); err != nil {
			return err
		}
	}
	return nil
}

// Start opens the registries, unless a request was faster: apps start in any
// order, and a failed Start is followed by Cleanup.
func (a *App) Start() error {
	for _, r := range a.serving {
		if err := r.start(); err != nil {
			return err
		}
	}
	return nil
}

// Stop gives the registries over to an older configuration, if there's one
// that goes on. It closes nothing: requests are still running.
func (a *App) Stop() error {
	for _, r := range a.serving {
		r.upkeep.stop() // before what it asks is closed
		r.lease.Stop()
	}
	return nil
}

// Cleanup ends this configuration's share in its registries. It's called in
// whatever state the app is, even without Stop.
func (a *App) Cleanup() error {
	errs := make([]error, len(a.serving))
	for i, r := range a.serving {
		errs[i] = r.release()
	}
	return errors.Join(errs...)
}

var registryNameRE = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)

func checkName(name string) error {
	if !registryNameRE.MatchString(name) {
		return fmt.Errorf("registry name %q: want letters and digits, with . _ - between them", name)
	}
	return nil
}

// add makes r one of the app's registries, which releases it in Cleanup.
func (a *App) add(ctx caddy.Context, name string, r *Registry) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := r.provision(ctx, name); err != nil {
		return fmt.Errorf("registry %s: %w", name, err)
	}
	for _, other := range a.serving {
		if other.name == name {
			return fmt.Errorf("there are two registries called %s that differ: rename one, or declare it once in the app and use it by name", name)
		}
		if err := conflict(other, r); err != nil {
			return err
		}
	}
	r.audit.log, r.audit.registry = a.auditLog, name
	r.acquire()
	i, _ := slices.BinarySearchFunc(a.serving, name, func(r *Registry, name string) int { return strings.Compare(r.name, name) })
	a.serving = slices.Insert(a.serving, i, r)
	return r.register(ctx.GetMetricsRegistry())
}

// describe makes r, which a handler describes, one of the app's registries. A
// site with several listeners has its handler several times, so a description
// that was there before stands for the same registry.
func (a *App) describe(ctx caddy.Context, name string, r *Registry) (*Registry, error) {
	r.unnamed, r.numbered = name == "", numberedNameRE.MatchString(name)
	if name == "" {
		name = "inline"
	}
	var err error
	if r.description, err = json.Marshal(r); err != nil {
		return nil, err
	}
	if same, ok := a.registry(name); ok && bytes.Equal(same.description, r.description) {
		return same, nil
	}
	if err := a.add(ctx, name, r); err != nil {
		return nil, err
	}
	return r, a.checkOrder()
}

// numberedNameRE matches what the Caddyfile adapter calls all but the first of the
// registries that are described without a name.
var numberedNameRE = regexp.MustCompile(`^inline-[0-9]+$`)

// checkOrder returns an error if keys are found by a name that another order of the sites
// would give to another registry.
func (a *App) checkOrder() error {
	var first, keyed *Registry
	var names []string
	for _, r := range a.serving {
		if r.unnamed {
			first = r
		}
		if !r.unnamed && !r.numbered {
			continue
		}
		names = append(names, r.name)
		if r.needsState() && r.stateHome == StateCaddy {
			keyed = r
		}
	}
	if first == nil || keyed == nil || len(names) < 2 {
		return nil
	}
	return fmt.Errorf("registries %s have no names but by their order in the file, and the keys of registry %s are in Caddy's storage under that name, where another order would give them to another registry: write 'name NAME' in the block of each (whichever was the only one, or the first, keeps its keys as 'name inline')",
		strings.Join(names, ", "), keyed.name)
}

// registry returns the registry called name, whoever described it.
func (a *App) registry(name string) (*Registry, bool) {
	for _, r := range a.serving {
		if r.name == name {
			return r, true
		}
	}
	return nil, false
}

// names lists the registries for an error message.
func (a *App) names() string {
	if len(a.Registries) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(a.Registries)), ", ")
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
