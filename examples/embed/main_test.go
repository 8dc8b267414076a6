package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

const imageType = "application/vnd.oci.image.manifest.v1+json"

func TestPushAndPull(t *testing.T) {
	t.Parallel()
	store, err := filesystem.Open(t.TempDir(), filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(mux(store, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)

	config := digest.FromString("{}")
	manifest := `{"schemaVersion":2,"mediaType":"` + imageType + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` +
		config.String() + `","size":2},"layers":[]}`
	do(t, http.StatusCreated, http.MethodPost, server.URL+"/v2/hello/blobs/uploads/?digest="+config.String(), "{}")
	do(t, http.StatusCreated, http.MethodPut, server.URL+"/v2/hello/manifests/v1", manifest)
	if got := do(t, http.StatusOK, http.MethodGet, server.URL+"/v2/hello/manifests/v1", ""); got != manifest {
		t.Errorf("manifest: got %s, want %s", got, manifest)
	}
	if got := do(t, http.StatusOK, http.MethodGet, server.URL+"/v2/hello/blobs/"+config.String(), ""); got != "{}" {
		t.Errorf("blob: got %s, want {}", got)
	}
	if got := do(t, http.StatusOK, http.MethodGet, server.URL+"/", ""); got != "something else\n" {
		t.Errorf("/: got %s", got)
	}
}

// do sends a request that must be answered with status, and returns the body.
func do(t *testing.T, status int, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", imageType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d\n%s", method, url, resp.Status, status, answer)
	}
	return string(answer)
}
