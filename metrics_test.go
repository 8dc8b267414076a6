package ociregistry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/storage"
)

// measured are the values of the registry's metrics in the configuration that
// runs, without those of operations and classes that are 0, each by its name
// without the prefix and its labels: "pulls_total main", "requests_total
// get-blob main 2xx". A histogram has the number of its observations.
func measured(t *testing.T) map[string]float64 {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "caddy_oci_registry_")
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				if l.GetValue() != "" { // which is none
					key += " " + l.GetValue()
				}
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if v != 0 || name != "requests_total" {
				values[key] = v
			}
		}
	}
	return values
}

// wantMeasured compares values that a test knows with those measured, in which
// any beginning with one of prefixes has to be expected.
func wantMeasured(t *testing.T, want map[string]float64, prefixes ...string) {
	t.Helper()
	got := measured(t)
	maps.DeleteFunc(got, func(key string, _ float64) bool {
		_, wanted := want[key]
		return !wanted && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
	})
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// named is the global option for registries in memory.
func named(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "registry %s {\nstorage memory %[1]s\nanonymous all\n}\n", n)
	}
	return "oci_registry {\n" + b.String() + "}"
}

// What clients do is counted, and nothing twice.
func TestMetricsOfRequests(t *testing.T) {
	w := newWeb(t)
	w.run(t, named("main"), "oci_registry main")
	if err := w.push(t.Context(), "a", "v1", "a layer"); err != nil {
		t.Fatal(err)
	}
	manifest := w.want(t, http.StatusOK, http.MethodGet, "/v2/a/manifests/v1", "")
	w.want(t, http.StatusOK, http.MethodHead, "/v2/a/manifests/v1", "")
	w.want(t, http.StatusNotModified, http.MethodGet, "/v2/a/manifests/v1", "", "If-None-Match", manifest.Header.Get("Etag"))
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/manifests/v2", "")
	w.want(t, http.StatusNotFound, http.MethodPut, "/v2/b/manifests/v1", manifest.body, "Content-Type", manifest.Header.Get("Content-Type"))
	w.want(t, http.StatusOK, http.MethodGet, "/v2/a/blobs/"+digest.FromString("a layer").String(), "")
	tags := w.want(t, http.StatusOK, http.MethodGet, "/v2/a/tags/list", "")
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/what/is/this", "")
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "")

	want := map[string]float64{
		"requests_total start-upload main 2xx":  3,
		"requests_total patch-upload main 2xx":  2,
		"requests_total finish-upload main 2xx": 2,
		"requests_total put-manifest main 2xx":  1,
		"requests_total put-manifest main 4xx":  1,
		"requests_total get-manifest main 2xx":  2,
		"requests_total get-manifest main 3xx":  1,
		"requests_total get-manifest main 4xx":  1,
		"requests_total get-blob main 2xx":      1,
		"requests_total list-tags main 2xx":     1,
		"requests_total invalid main 4xx":       1,

		"request_duration_seconds start-upload main":  3,
		"request_duration_seconds patch-upload main":  2,
		"request_duration_seconds finish-upload main": 2,
		"request_duration_seconds put-manifest main":  2,
		"request_duration_seconds get-manifest main":  4,
		"request_duration_seconds get-blob main":      1,
		"request_duration_seconds list-tags main":     1,
		"request_duration_seconds invalid main":       1,

		"pushes_total main":         1,
		"pulls_total main":          2, // one of them needed no bytes
		"received_bytes_total main": float64(len("a layer") + len("{}") + 2*len(manifest.body)),
		"sent_bytes_total main":     float64(len("a layer") + len(manifest.body) + len(tags.body)),
		"open_uploads main":         1,
		"ready main":                1,
	}
	for _, reason := range failureReasons {
		want["failures_total "+reason+" main"] = 0
	}
	for kind := range counters {
		want["gc_removed_total "+string(kind)+" main"] = 0
	}
	want["gc_freed_bytes_total main"] = 0
	for _, f := range faults {
		want["scrub_faults_total "+string(f)+" main"] = 0
	}
	want["scrub_checked_bytes_total main"] = 0
	want["policy_errors_total main"] = 0
	wantMeasured(t, want, "")
}

// A reload, also one that fails, interrupts nothing.
func TestMetricsSurviveReloads(t *testing.T) {
	w := newWeb(t)
	config := quiet(t, w.config(t, named("main"), "oci_registry main"))
	load(t, config)
	up := w.startUpload(t)
	for i := range 3 {
		if err := w.push(t.Context(), "a", "v1", "a layer"); err != nil {
			t.Fatal(err)
		}
		load(t, withJSON(t, config, fmt.Sprint(1000+i), "apps", "oci_registry", "registries", "main", "max_blob_size"))
		wantMeasured(t, map[string]float64{"pushes_total main": float64(i + 1), "open_uploads main": 1})
		if err := tryLoad(withJSON(t, config, "{}", "apps", "failing")); err == nil {
			t.Fatal("an app that never starts has started")
		}
		wantMeasured(t, map[string]float64{"pushes_total main": float64(i + 1), "open_uploads main": 1})
		load(t, config)
	}
	before := measured(t)["received_bytes_total main"]
	up.finish(t) // a request of the first configuration
	wantMeasured(t, map[string]float64{"received_bytes_total main": before + float64(len("first,last"))})
}

// One registry on two sites is counted once, and two registries are told apart.
func TestMetricsOfSeveral(t *testing.T) {
	w := newWeb(t)
	w.run(t, named("a", "b"), "@b header X-Registry b\n@twin header X-Registry twin\nroute {\noci_registry @b b\noci_registry @twin a\noci_registry a\n}")
	for _, registry := range []string{"a", "b", "a", "twin"} {
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "X-Registry", registry)
	}
	wantMeasured(t, map[string]float64{
		"requests_total ping a 2xx": 3, "requests_total ping b 2xx": 1, "ready a": 1, "ready b": 1,
	}, "requests_total", "ready")
}

// What isn't in the configuration any more isn't shown any more, and is new if it comes back.
func TestMetricsDisappear(t *testing.T) {
	w := newWeb(t)
	both := func() {
		w.run(t, named("a", "b"), "@b header X-Registry b\nroute {\noci_registry @b b\noci_registry a\n}")
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "X-Registry", "b")
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	}
	both()
	w.run(t, named("a"), "oci_registry a")
	for key := range measured(t) {
		if slices.Contains(strings.Fields(key), "b") {
			t.Errorf("there's still %q", key)
		}
	}
	wantMeasured(t, map[string]float64{"requests_total ping a 2xx": 1}, "requests_total")
	both()
	wantMeasured(t, map[string]float64{"requests_total ping a 2xx": 2, "requests_total ping b 2xx": 1}, "requests_total")
	stop(t)
	meterPool.Range(func(name, _ any) bool {
		t.Errorf("the meters of %s are kept without a configuration", name)
		return true
	})
}

// A store that fails shows, and so does what kind of failure it was.
func TestMetricsOfFailures(t *testing.T) {
	w := newWeb(t)
	load(t, w.countedConfig(t, countedStorage{ID: rand.Text(), Broken: true}))
	w.want(t, http.StatusInternalServerError, http.MethodGet, "/v2/a/tags/list", "")
	want := map[string]float64{"ready main": 0, "requests_total list-tags main 5xx": 1}
	for _, reason := range failureReasons {
		want["failures_total "+reason+" main"] = 0
	}
	want["failures_total unavailable main"] = 1
	wantMeasured(t, want, "requests_total", "failures_total", "ready")
}

// Requests that find no store are counted, although no store has seen them.
func TestMetricsWithoutStore(t *testing.T) {
	id := rand.Text()
	app, h := provisioned(t, newWeb(t).countedConfig(t, countedStorage{ID: id, FailOpen: true}))
	wantCode(t, h, http.StatusServiceUnavailable)
	if err := app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h, http.StatusServiceUnavailable)
	m := h.registry.meters
	for c, want := range map[prometheus.Collector]float64{
		m.requests.WithLabelValues(unavailable, "5xx"): 2,
		m.failures.WithLabelValues("unavailable"):      1,
		m.failures.WithLabelValues("stopping"):         1,
	} {
		if got := testutil.ToFloat64(c); got != want {
			t.Errorf("%v is %v, want %v", c, got, want)
		}
	}
}

// What only a file system knows.
func TestMetricsOfFilesystem(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "oci_registry {\nroot "+t.TempDir()+"\nanonymous all\n}")
	got := measured(t)
	if got["filesystem_free_bytes inline"] <= 0 || got["filesystem_used_bytes inline"] <= 0 {
		t.Errorf("got %v", got)
	}
	w.run(t, "", inMemory)
	for key := range measured(t) {
		if strings.HasPrefix(key, "filesystem") {
			t.Errorf("memory shows %s", key)
		}
	}
}

// An event is counted by how it ended for the client, and by whose fault that was.
func TestMetersOfEvents(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	failure := errors.New("the disk is on fire")
	full := fmt.Errorf("write: %w", storage.ErrFull)
	for _, tc := range []struct {
		name, method string
		ctx          context.Context //nolint:containedctx // of the request
		event        handler.Event
		want         string
	}{
		{"a push", "PUT", t.Context(), handler.Event{Operation: "put-manifest", Status: 201}, "2xx pushed"},
		{"a refused push", "PUT", t.Context(), handler.Event{Operation: "put-manifest", Status: 400, Err: failure}, "4xx"},
		{"a pull", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 200}, "2xx pulled"},
		{"a pull of what the client has", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 304}, "3xx pulled"},
		{"a look", "HEAD", t.Context(), handler.Event{Operation: "get-manifest", Status: 200}, "2xx"},
		{"a full disk", "PUT", t.Context(), handler.Event{Operation: "put-manifest", Status: 507, Err: full}, "5xx full"},
		{"another process", "PUT", t.Context(), handler.Event{Operation: "put-manifest", Status: 503, Err: storage.ErrStandby}, "5xx standby"},
		{"a broken index", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 503, Err: storage.ErrBroken}, "5xx broken"},
		{"a closed store", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 503, Err: storage.ErrClosed}, "5xx stopping"},
		{"any other fault", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 500, Err: failure}, "5xx unavailable"},
		{"a client that goes away before the answer", "GET", gone, handler.Event{Operation: "get-manifest", Err: failure}, "aborted"},
		{"a client that goes away amid the answer", "GET", gone, handler.Event{Operation: "get-manifest", Status: 200, Err: failure}, "aborted"},
		{"content that ends amid the answer", "GET", t.Context(), handler.Event{Operation: "get-manifest", Status: 200, Err: failure}, "aborted unavailable"},
	} {
		m := newMeters()
		m.observe(httptest.NewRequestWithContext(tc.ctx, tc.method, "/v2/", nil), &tc.event)
		var got []string
		count := func(what string, c prometheus.Collector) {
			if testutil.ToFloat64(c) == 1 {
				got = append(got, what)
			}
		}
		for i, class := range statusClasses {
			count(class, m.operations[tc.event.Operation]().byStatus[i])
		}
		for _, reason := range failureReasons {
			count(reason, m.failures.WithLabelValues(reason))
		}
		count("pushed", m.pushes)
		count("pulled", m.pulls)
		if got := strings.Join(got, " "); got != tc.want {
			t.Errorf("%s: counted as %q, want %q", tc.name, got, tc.want)
		}
	}
}

// Metrics are not what a pull waits for.
func TestMetersAllocateNothing(t *testing.T) {
	m := newMeters()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		r := httptest.NewRequestWithContext(t.Context(), method, "/v2/a/manifests/v1", nil)
		e := handler.Event{Operation: "get-manifest", Status: http.StatusOK, Sent: 700, Duration: time.Millisecond}
		m.observe(r, &e)
		if n := testing.AllocsPerRun(100, func() { m.observe(r, &e) }); n != 0 {
			t.Errorf("%s: %v allocations", method, n)
		}
	}
}

func BenchmarkMeters(b *testing.B) {
	m := newMeters()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodHead, "/v2/a/manifests/v1", nil)
	e := handler.Event{Operation: "get-manifest", Status: http.StatusOK, Duration: time.Millisecond}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.observe(r, &e)
		}
	})
}

// Every metric is one that Prometheus' own linter finds well named and explained.
func TestMetricsAreWellNamed(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "oci_registry {\nroot "+t.TempDir()+"\nanonymous all\n}")
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	ctx := caddy.ActiveContext()
	problems, err := testutil.GatherAndLint(ctx.GetMetricsRegistry(), slices.Collect(maps.Keys(metricRows(t)))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// metricRows describes the registry's metrics in the configuration that runs:
// type and labels by name.
func metricRows(t *testing.T) map[string]string {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "caddy_oci_registry_") {
			continue
		}
		row := strings.ToLower(f.GetType().String())
		for _, l := range f.GetMetric()[0].GetLabel() {
			row += " " + l.GetName()
		}
		rows[f.GetName()] = row
	}
	return rows
}

// docs/operations.md has a row for each metric, and names every value of a label.
func TestMetricsAreDocumented(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(t.TempDir(), ""), "oci_registry main")
	admin.round(t, adminapi.GC, "")
	admin.round(t, adminapi.Scrub, "")
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(caddy_oci_registry_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllSubmatch(doc, -1) {
		documented[string(m[1])] = string(m[2]) + " " + strings.ReplaceAll(strings.ReplaceAll(string(m[3]), "`", ""), ",", "")
	}
	got := metricRows(t)
	load(t, w.countedConfig(t, countedStorage{ID: rand.Text()})) // it says what it's on
	maps.Copy(got, metricRows(t))
	if !maps.Equal(got, documented) {
		t.Errorf("there is   %v\ndocumented %v", got, documented)
	}
	_, section, ok := bytes.Cut(doc, []byte("\n## Metrics\n"))
	if !ok {
		t.Fatal("there's no section Metrics")
	}
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	for _, name := range regexp.MustCompile(`caddy_oci_registry_\w+`).FindAllString(string(section), -1) {
		if _, ok := documented[strings.TrimSuffix(name, "_bucket")]; !ok {
			t.Errorf("there's no %s", name)
		}
	}
	words := slices.Concat(handler.Operations(), apikey.Operations(), []string{unavailable}, statusClasses[:], failureReasons[:])
	for _, word := range words {
		if !bytes.Contains(section, []byte("`"+word+"`")) {
			t.Errorf("%q is not explained", word)
		}
	}
}
