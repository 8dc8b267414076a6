package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// breakage is what the admin API says of a repository whose names can't be read.
type breakage struct {
	Repository string `json:"repository"`
	Cause      string `json:"cause"`
	LastGood   bool   `json:"last_good"` // there are good names, which are served
}

// breakages are those of a store, as far as it knows.
func breakages(r *http.Request, s storage.Store) []breakage {
	restorer, ok := storage.As[storage.Restorer](s)
	if !ok {
		return nil
	}
	broken, err := restorer.Broken(r.Context())
	if err != nil {
		return nil // then it isn't ready, which is said
	}
	all := make([]breakage, len(broken))
	for i, b := range broken {
		all[i] = breakage{b.Name.String(), b.Cause.Error(), b.LastGood}
	}
	return all
}

// restoreRoute is the part of the admin API that puts back the last good names of
// a repository:
//
//	POST /oci_registry/registries/{name}/restore/{repository}
func (a *adminAPI) restoreRoute() caddy.AdminRoute {
	return caddy.AdminRoute{
		Pattern: "POST " + adminapi.Path + "/{name}/restore/{repository...}",
		Handler: caddy.AdminHandlerFunc(restoreRepository),
	}
}

func restoreRepository(w http.ResponseWriter, r *http.Request) error {
	reg, err := servedAs(r.PathValue("name"))
	if err != nil {
		return err
	}
	name, err := oci.ParseName(r.PathValue("repository"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	if err := reg.restore(r.Context(), name); err != nil {
		status := http.StatusServiceUnavailable
		switch {
		case errors.Is(err, oci.NameUnknown), errors.Is(err, errors.ErrUnsupported):
			status = http.StatusNotFound
		case errors.Is(err, storage.ErrBroken):
			status, err = http.StatusConflict, fmt.Errorf("there are no good names to be restored; take index.json from a backup: %w", err)
		case errors.Is(err, oci.Unsupported):
			status = http.StatusConflict
		}
		return caddy.APIError{HTTPStatus: status, Err: err}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// restore puts back the last good names of a repository.
func (r *Registry) restore(ctx context.Context, name oci.Name) error {
	if r.ReadOnly {
		return oci.Errorf(oci.Unsupported, "registry %s is read-only", r.name)
	}
	return r.withStore(ctx, func(s storage.Store) error {
		restorer, ok := storage.As[storage.Restorer](s)
		if !ok {
			return fmt.Errorf("the storage keeps no last good names: %w", errors.ErrUnsupported)
		}
		return restorer.Restore(ctx, name)
	})
}
