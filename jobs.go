package ociregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks"
)

// jobRoutes are the part of the admin API that background work is asked for with:
//
//	GET  /oci_registry/registries/{name}/jobs                 all there are, and when they're due
//	GET  /oci_registry/registries/{name}/jobs/{job}           one
//	POST /oci_registry/registries/{name}/jobs/{job}           begins a round now; ?dry_run changes nothing
//	GET  /oci_registry/registries/{name}/jobs/{job}/findings  what the last round of this process has found
//
// They are about the store of what's under no path; with ?path=PREFIX, about that of
// a path. A round that runs already is 409, whatever process runs it.
func (a *adminAPI) jobRoutes() []caddy.AdminRoute {
	const jobs = adminapi.Path + "/{name}/jobs"
	return []caddy.AdminRoute{
		{Pattern: "GET " + jobs, Handler: ofPlace(listJobs)},
		{Pattern: "GET " + jobs + "/{job}", Handler: ofPlace(showJob)},
		{Pattern: "POST " + jobs + "/{job}", Handler: ofPlace(beginRound)},
		{Pattern: "GET " + jobs + "/{job}/findings", Handler: ofPlace(listFindings)},
	}
}

// ofPlace handles requests that are about what is done on a registry's store.
func ofPlace(serve func(w http.ResponseWriter, r *http.Request, at *workplace) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		reg, err := servedAs(r.PathValue("name"))
		if err != nil {
			return err
		}
		err = reg.withWorkplace(r.Context(), r.URL.Query().Get("path"), func(at *workplace) error {
			if at.runner == nil {
				return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("registry %s has no jobs: its storage needs none", reg.name)}
			}
			return serve(w, r, at)
		})
		if known, ok := errors.AsType[caddy.APIError](err); ok {
			return known // Caddy looks for it without unwrapping
		}
		return err
	})
}

// withWorkplace calls f with where the work of a path is done, which stays open
// until f returns.
func (r *Registry) withWorkplace(ctx context.Context, path string, f func(*workplace) error) error {
	return r.withStore(ctx, func(storage.Store) error {
		at, ok, err := r.lease.workplace(ctx, path)
		if err != nil {
			return err
		}
		if !ok {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("registry %s has no path %q", r.name, path)}
		}
		return f(at)
	})
}

func listJobs(w http.ResponseWriter, _ *http.Request, at *workplace) error {
	return writeJSON(w, at.runner.Statuses())
}

func showJob(w http.ResponseWriter, r *http.Request, at *workplace) error {
	s, ok := at.runner.Status(r.PathValue("job"))
	if !ok {
		return jobError(r, tasks.ErrUnknown)
	}
	return writeJSON(w, s)
}

// roundParams are what a round may be asked for with.
type roundParams struct {
	DryRun bool `json:"dry_run"`
}

func paramsOf(r *tasks.Round) (params roundParams, err error) {
	if raw := r.Params(); raw != nil {
		err = json.Unmarshal(raw, &params)
	}
	if err != nil {
		return params, fmt.Errorf("parameters: %w", err)
	}
	return params, nil
}

func beginRound(w http.ResponseWriter, r *http.Request, at *workplace) error {
	var params json.RawMessage
	dry, err := isDry(r)
	if err != nil {
		return err
	}
	if dry {
		if params, err = json.Marshal(roundParams{DryRun: true}); err != nil {
			return err
		}
	}
	report, err := at.runner.Trigger(r.Context(), r.PathValue("job"), params)
	if err != nil {
		return jobError(r, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	return json.NewEncoder(w).Encode(report)
}

// isDry reports whether a round is to change nothing: ?dry_run, or ?dry_run=true.
func isDry(r *http.Request) (bool, error) {
	q := r.URL.Query()
	if !q.Has("dry_run") || q.Get("dry_run") == "" {
		return q.Has("dry_run"), nil
	}
	dry, err := strconv.ParseBool(q.Get("dry_run"))
	if err != nil {
		return false, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("dry_run=%s: want true or false", q.Get("dry_run"))}
	}
	return dry, nil
}

func listFindings(w http.ResponseWriter, r *http.Request, at *workplace) error {
	switch r.PathValue("job") {
	case adminapi.GC:
		return writeFindings(w, &at.findings)
	case adminapi.Scrub:
		return writeFindings(w, &at.damage)
	}
	return jobError(r, tasks.ErrUnknown)
}

func writeFindings[T any](w http.ResponseWriter, of *findings[T]) error {
	list, more := of.all()
	return writeJSON(w, adminapi.Findings[T]{Findings: append([]T{}, list...), More: more})
}

// jobError is what the admin API answers.
func jobError(r *http.Request, err error) error {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, tasks.ErrUnknown):
		status, err = http.StatusNotFound, fmt.Errorf("there's no job %q, or the registry is read-only", r.PathValue("job"))
	case errors.Is(err, tasks.ErrRunning):
		status = http.StatusConflict
	case errors.Is(err, tasks.ErrStopped), errors.Is(err, context.Canceled):
		status = http.StatusServiceUnavailable
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}
