//go:build real

// Package metrics asks the real program for its metrics and takes its traces, as
// Prometheus and a collector do.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// config is a Caddyfile whose site has the registry, its metrics, and something
// that differs from n to n.
func config(root string, n int) string {
	return fmt.Sprintf(`{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		metrics /metrics
		oci_registry {
			root %q
			anonymous all
			max_blob_size %dMiB
		}
	}`, root, 100+n)
}

// withoutRegistry is the same site when the registry is gone.
const withoutRegistry = `{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		metrics /metrics
	}`

const prefix = "caddy_oci_registry_"

// start starts a registry whose clients don't mind reloads.
func start(t *testing.T, caddyfile string) *registry.Server {
	t.Helper()
	srv := registry.Config(t, caddyfile)
	srv.Client = &http.Client{Transport: remote.NewPatient()}
	srv.Admin.Client = srv.Client
	return srv
}

// scrape asks for metrics and returns the registry's, by series as it's written.
// What Prometheus' linter says of them fails the test.
func scrape(t *testing.T, from *remote.Registry) map[string]float64 {
	t.Helper()
	resp, err := from.Do(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(string(text))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	values := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		series, ours := strings.CutPrefix(series, prefix)
		if !ours {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		values[series+"}"] = v
	}
	return values
}

// await waits until series have the values wanted: what is big is counted after
// its client has it.
func await(t *testing.T, from *remote.Registry, want map[string]float64) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		all := scrape(t, from)
		got := make(map[string]float64)
		for series := range want {
			if v, ok := all[series]; ok {
				got[series] = v
			}
		}
		if maps.Equal(got, want) {
			return all
		}
		select {
		case <-ctx.Done():
			t.Fatalf("got  %v\nwant %v", got, want)
		case <-again.C:
		}
	}
}

// lasting leaves out what changes by itself: others use the disk, too.
func lasting(values map[string]float64) map[string]float64 {
	maps.DeleteFunc(values, func(series string, _ float64) bool { return strings.HasPrefix(series, "filesystem_") })
	return values
}

// size is how many bytes the parts have.
func size(parts ...image.Part) (n float64) {
	for _, p := range parts {
		n += float64(p.Size)
	}
	return n
}

// TestMetrics pushes and pulls an image, and looks at what was counted at the
// site and at the admin endpoint, before and after reloads.
func TestMetrics(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	srv := start(t, config(root, 0))
	c := image.Index(image.Random(1, 2, 300<<10), image.Random(2, 1, 100<<10))
	srv.Await("/v2/")
	srv.Push(c, "app", "v1")
	srv.Check("app", "v1", c)
	if _, err := srv.Repository("app").StartUpload(t.Context()); err != nil {
		t.Fatal(err)
	}
	manifests, all := float64(len(c.Manifests)), size(append(c.Blobs, c.Manifests...)...)
	want := map[string]float64{
		`pushes_total{registry="inline"}`:                                              manifests,
		`pulls_total{registry="inline"}`:                                               manifests,
		`received_bytes_total{registry="inline"}`:                                      all,
		`open_uploads{registry="inline"}`:                                              1,
		`ready{registry="inline"}`:                                                     1,
		`failures_total{reason="broken",registry="inline"}`:                            0,
		`requests_total{operation="put-manifest",registry="inline",status="2xx"}`:      manifests,
		`requests_total{operation="get-manifest",registry="inline",status="2xx"}`:      manifests + 1, // the HEAD of the tag
		`requests_total{operation="get-blob",registry="inline",status="4xx"}`:          float64(len(c.Blobs)),
		`requests_total{operation="get-blob",registry="inline",status="2xx"}`:          float64(len(c.Blobs)),
		`request_duration_seconds_count{operation="get-blob",registry="inline"}`:       2 * float64(len(c.Blobs)),
		`request_duration_seconds_bucket{operation="ping",registry="inline",le="600"}`: 1,
	}
	site := await(t, &srv.Registry, want)
	if free, used := site[`filesystem_free_bytes{path="",registry="inline"}`], site[`filesystem_used_bytes{path="",registry="inline"}`]; free <= 0 || used <= 0 {
		t.Errorf("free %v and used %v bytes", free, used)
	}
	if sent := site[`sent_bytes_total{registry="inline"}`]; sent < all || sent > all+1000 { // and some JSON
		t.Errorf("%v bytes sent, want %v", sent, all)
	}
	before := lasting(site)
	if admin := lasting(scrape(t, &srv.Admin)); !maps.Equal(admin, before) {
		t.Errorf("the admin endpoint says %v\nthe site %v", admin, before)
	}

	for n := range 3 {
		if err := srv.Reload(config(root, n+1)); err != nil {
			t.Fatal(err)
		}
		if after := lasting(scrape(t, &srv.Admin)); !maps.Equal(after, before) {
			t.Fatalf("after reload %d %v\nbefore %v", n+1, after, before)
		}
	}
	srv.Push(c, "app", "v2")
	await(t, &srv.Registry, map[string]float64{`pushes_total{registry="inline"}`: 2 * manifests})

	if err := srv.Reload(withoutRegistry); err != nil {
		t.Fatal(err)
	}
	for _, from := range []*remote.Registry{&srv.Registry, &srv.Admin} {
		if left := scrape(t, from); len(left) > 0 {
			t.Errorf("%s has no registry and shows %v", from.URL, left)
		}
	}
}

// TestFailures looks at what an alert would.
func TestFailures(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "disk")
	const disk, layer = 16 << 20, 1 << 20
	tool.Mount(t, root, disk)
	if err := os.MkdirAll(filepath.Join(root, "bad"), 0o750); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": "torn"} {
		if err := os.WriteFile(filepath.Join(root, "bad", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	srv := start(t, config(root, 0))
	if _, err := srv.Repository("bad").Resolve(t.Context(), "v1"); remote.Status(err) != http.StatusServiceUnavailable {
		t.Fatalf("a repository with a torn index: %v", err)
	}
	values := await(t, &srv.Registry, map[string]float64{
		`ready{registry="inline"}`:                                                1, // the others work
		`failures_total{reason="broken",registry="inline"}`:                       1,
		`failures_total{reason="full",registry="inline"}`:                         0,
		`requests_total{operation="get-manifest",registry="inline",status="5xx"}`: 1,
	})
	free, used := values[`filesystem_free_bytes{path="",registry="inline"}`], values[`filesystem_used_bytes{path="",registry="inline"}`]
	if free+used != disk {
		t.Errorf("free %v and used %v bytes of %d", free, used, disk)
	}

	pushed := 0
	for ; pushed < disk/layer; pushed++ {
		if err := srv.Repository("app").Push(t.Context(), image.Random(uint64(pushed), 1, layer), "v1"); err != nil {
			if remote.Status(err) != http.StatusInsufficientStorage {
				t.Fatal(err)
			}
			break
		}
	}
	values = await(t, &srv.Registry, map[string]float64{
		`ready{registry="inline"}`:                        0,
		`failures_total{reason="full",registry="inline"}`: 1,
		`pushes_total{registry="inline"}`:                 float64(pushed),
		`open_uploads{registry="inline"}`:                 0,
	})
	if left := values[`filesystem_free_bytes{path="",registry="inline"}`]; left > free-float64(pushed*layer) {
		t.Errorf("%v bytes are free after %d images of %d bytes, and %v were before", left, pushed, layer, free)
	}
}

// What serve listens on is for everybody, and its metrics aren't.
func TestServeHasNone(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	if err := srv.Get(t.Context(), "/metrics"); remote.Status(err) != http.StatusNotFound {
		t.Errorf("GET /metrics: %v, want 404", err)
	}
}
