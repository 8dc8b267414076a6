package ociregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// adminAPI answers, on Caddy's admin endpoint,
//
//	GET /oci_registry/registries         what all registries are and how they do
//	GET /oci_registry/registries/{name}  what one is
//
// and what jobRoutes, restoreRoute, explainRoute and tokenRoutes have.
//
// It is made before the apps of its configuration are, so it looks for the
// registries when it's asked.
type adminAPI struct{}

// CaddyModule implements caddy.Module.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.oci_registry",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return append(slices.Concat(a.jobRoutes(), a.tokenRoutes()), a.restoreRoute(), a.explainRoute(),
		caddy.AdminRoute{Pattern: adminapi.Path, Handler: caddy.AdminHandlerFunc(a.list)},
		caddy.AdminRoute{Pattern: adminapi.Path + "/", Handler: caddy.AdminHandlerFunc(a.show)},
	)
}

// status is what the admin API says of a registry.
type status struct {
	Name      string          `json:"name"`
	Storage   place           `json:"storage"`
	Paths     []place         `json:"paths,omitempty"`
	ReadOnly  bool            `json:"read_only"`
	Anonymous authz.Anonymous `json:"anonymous,omitempty"` // empty with a policy
	External  string          `json:"external_url,omitempty"`
	Ready     bool            `json:"ready"`
	Reason    string          `json:"reason,omitempty"` // why it isn't ready
	Broken    []breakage      `json:"broken,omitempty"` // repositories that take no pushes, as far as that's known
	Checks    []storage.Check `json:"checks,omitempty"` // of what the content is on
}

// place says where content is.
type place struct {
	Path     string `json:"path,omitempty"` // of which repositories
	Module   string `json:"module"`
	Identity string `json:"identity,omitempty"`

	Checks []storage.Check `json:"checks,omitempty"` // of a path's own
}

func (a *adminAPI) list(w http.ResponseWriter, r *http.Request) error {
	if err := onlyGet(r); err != nil {
		return err
	}
	registries, err := served()
	if err != nil {
		return err
	}
	all := make([]status, len(registries))
	for i, reg := range registries {
		all[i] = reg.status(r)
	}
	return writeJSON(w, all)
}

func (a *adminAPI) show(w http.ResponseWriter, r *http.Request) error {
	if err := onlyGet(r); err != nil {
		return err
	}
	reg, err := servedAs(strings.TrimPrefix(r.URL.Path, adminapi.Path+"/"))
	if err != nil {
		return err
	}
	return writeJSON(w, reg.status(r))
}

// servedAs returns the registry of a name.
func servedAs(name string) (*Registry, error) {
	registries, err := served()
	if err != nil {
		return nil, err
	}
	for _, reg := range registries {
		if reg.name == name {
			return reg, nil
		}
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there's no registry %q", name)}
}

// served returns the registries of the configuration that is running now.
func served() ([]*Registry, error) {
	mod, err := caddy.ActiveContext().AppIfConfigured("oci_registry")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	app, ok := mod.(*App)
	if !ok {
		return nil, fmt.Errorf("app oci_registry is a %T", mod)
	}
	return app.serving, nil
}

func (r *Registry) status(req *http.Request) status {
	s := status{
		Name:      r.name,
		Storage:   r.homes[0].place(""),
		Paths:     r.places(),
		ReadOnly:  r.ReadOnly,
		Anonymous: r.Anonymous,
		External:  r.externalURL,
	}
	err := r.withStore(req.Context(), func(store storage.Store) error {
		s.Broken = breakages(req, store)
		return errors.Join(r.diagnose(req.Context(), &s), store.Ready(req.Context()))
	})
	if err != nil {
		s.Reason = err.Error()
	}
	s.Ready = err == nil
	return s
}

// diagnose fills in what each home has found out about what it's on.
func (r *Registry) diagnose(ctx context.Context, s *status) error {
	places, err := r.lease.workplaces(ctx)
	if err != nil {
		return err
	}
	for i, at := range places {
		d, ok := storage.As[storage.Diagnoser](at)
		if !ok {
			continue
		}
		if i == 0 {
			s.Checks = d.Diagnose()
		}
		for k := range s.Paths {
			if slices.ContainsFunc(r.homes[i].prefixes, func(p oci.Name) bool { return p.String() == s.Paths[k].Path }) {
				s.Paths[k].Checks = d.Diagnose()
			}
		}
	}
	return nil
}

func onlyGet(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s", r.Method)}
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

var _ caddy.AdminRouter = (*adminAPI)(nil)
