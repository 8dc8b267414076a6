package ociregistry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/storage"
)

// isHealth reports whether path is one of the health endpoints.
func (r *Registry) isHealth(path string) bool {
	rest, ok := strings.CutPrefix(path, r.health)
	return ok && r.health != "" && (rest == "" || rest[0] == '/')
}

// serveHealth answers "ok" with 200, or a word that says what's wrong with 503,
// and nothing of what lies behind it: anybody may ask.
//
//	livez     the server answers
//	startupz  the store is open
//	readyz    the store can be read and written, and the server isn't shutting down
func (h *Handler) serveHealth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var err error
	switch strings.TrimPrefix(r.URL.Path, h.registry.health) {
	case "/livez":
	case "/startupz":
		err = h.registry.withStore(r.Context(), func(storage.Store) error { return nil })
	case "/readyz":
		if err = shuttingDown(r.Context()); err == nil {
			err = h.registry.withStore(r.Context(), func(s storage.Store) error { return s.Ready(r.Context()) })
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, readiness(err)+"\n") // the client may be gone
}

var (
	errShuttingDown = errors.New("the server is shutting down")
	errReplaced     = errors.New("the configuration was replaced")
)

func shuttingDown(ctx context.Context) error {
	repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	if v, _ := repl.Get("http.shutting_down"); v == true {
		return errShuttingDown
	}
	return nil
}

// withStore calls f with the open store, which stays open until f returns.
func (r *Registry) withStore(ctx context.Context, f func(storage.Store) error) error {
	if !r.lease.Enter() {
		return errReplaced
	}
	store, err := r.open(ctx)
	if err == nil {
		err = f(store)
	}
	return errors.Join(err, r.lease.Exit())
}

// readiness is the public word for what a store's Ready returned.
func readiness(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, storage.ErrFull):
		return "full"
	case errors.Is(err, storage.ErrStandby):
		return "standby"
	case errors.Is(err, storage.ErrBroken):
		return "broken"
	case errors.Is(err, errShuttingDown), errors.Is(err, errReplaced), errors.Is(err, storage.ErrClosed):
		return "stopping"
	}
	return "unavailable"
}
