package ociregistry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
)

func TestHealth(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "oci_registry {\nstorage memory\nhealth /healthz\n}")
	for _, probe := range []string{"livez", "startupz", "readyz"} {
		a := w.want(t, http.StatusOK, http.MethodGet, "/healthz/"+probe, "")
		if a.body != "ok\n" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %v", probe, a.body, a.Header)
		}
		w.want(t, http.StatusOK, http.MethodHead, "/healthz/"+probe, "")
		w.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/healthz/"+probe, "")
	}
	w.want(t, http.StatusNotFound, http.MethodGet, "/healthz", "")
	w.want(t, http.StatusNotFound, http.MethodGet, "/healthz/", "")
}

// A store that has no room lives and has started, and isn't ready. The probe
// tells the class of the reason and nothing of what's inside.
func TestHealthOfAFullStore(t *testing.T) {
	w := newWeb(t)
	config := w.countedConfig(t, countedStorage{ID: rand.Text(), Broken: true})
	load(t, withJSON(t, config, `"/health"`, "apps", "oci_registry", "registries", "main", "health"))
	w.want(t, http.StatusOK, http.MethodGet, "/health/livez", "")
	w.want(t, http.StatusOK, http.MethodGet, "/health/startupz", "")
	if a := w.want(t, http.StatusServiceUnavailable, http.MethodGet, "/health/readyz", ""); a.body != "full\n" {
		t.Fatalf("readyz says %q", a.body)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{fmt.Errorf("wrapped: %w", storage.ErrFull), "full"},
		{storage.ErrStandby, "standby"},
		{storage.ErrBroken, "broken"},
		{storage.ErrClosed, "stopping"},
		{errShuttingDown, "stopping"},
		{errReplaced, "stopping"},
		{errors.New("open /secret/path: permission denied"), "unavailable"},
	} {
		if got := readiness(tc.err); got != tc.want {
			t.Errorf("readiness(%v) = %q, want %q", tc.err, got, tc.want)
		}
	}
}
