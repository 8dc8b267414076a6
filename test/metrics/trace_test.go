//go:build real

package metrics

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// traced is a Caddyfile of a site whose requests are traced.
func traced(root string) string {
	return fmt.Sprintf(`{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		tracing {
			span site
		}
		oci_registry {
			root %q
			anonymous all
		}
	}`, root)
}

// collector takes spans as OTLP sends them over HTTP.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []*tracev1.Span
	came  chan struct{} // something did
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{came: make(chan struct{}, 1)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var data tracev1.TracesData // what is sent has another name and the same fields
	if err := proto.Unmarshal(raw, &data); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range data.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
	return nil
}

// trace waits for a trace's span called site, which ends after all those in it,
// and returns the trace's spans by name.
func (c *collector) trace(t *testing.T, id string) map[string]*tracev1.Span {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		spans := make(map[string]*tracev1.Span)
		c.mu.Lock()
		for _, s := range c.spans {
			if hex.EncodeToString(s.GetTraceId()) == id {
				spans[s.GetName()] = s
			}
		}
		c.mu.Unlock()
		if spans["site"] != nil {
			return spans
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no span site in trace %s, only %v", id, slices.Collect(maps.Keys(spans)))
		case <-c.came:
		}
	}
}

// caller gives every request a trace of its own, as a traced client does.
type caller struct {
	next http.RoundTripper

	mu     sync.Mutex
	traces []string // "method path id"
}

// RoundTrip implements http.RoundTripper.
func (c *caller) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	id := fmt.Sprintf("%032x", len(c.traces)+1)
	c.traces = append(c.traces, req.Method+" "+req.URL.Path+" "+id)
	c.mu.Unlock()
	req = req.Clone(req.Context())
	req.Header.Set("Traceparent", "00-"+id+"-00000000000000ff-01")
	return c.next.RoundTrip(req)
}

// last is the trace of the last request of a method to a path with a word in it.
func (c *caller) last(t *testing.T, method, word string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range slices.Backward(c.traces) {
		fields := strings.Fields(line)
		if fields[0] == method && strings.Contains(fields[1], word) {
			return fields[2]
		}
	}
	t.Fatalf("no %s of %s among %q", method, word, c.traces)
	return ""
}

// wantTrace compares a trace: the span of the request, in Caddy's, and those in it.
func wantTrace(t *testing.T, spans map[string]*tracev1.Span, request string, attributes map[string]string, below ...string) {
	t.Helper()
	want := append([]string{"site", request}, below...)
	if got := slices.Sorted(maps.Keys(spans)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Fatalf("the trace of %s has the spans %q, want %q", request, got, want)
	}
	if parent := hex.EncodeToString(spans["site"].GetParentSpanId()); parent != "00000000000000ff" {
		t.Errorf("Caddy's span is in %s, which isn't the client's", parent)
	}
	parents := map[string]string{request: "site"}
	for _, name := range below {
		parents[name] = request
	}
	for name, parent := range parents {
		if string(spans[name].GetParentSpanId()) != string(spans[parent].GetSpanId()) {
			t.Errorf("%s isn't in %s", name, parent)
		}
	}
	got := make(map[string]string)
	for _, kv := range spans[request].GetAttributes() {
		if v := kv.GetValue(); v.GetStringValue() != "" {
			got[kv.GetKey()] = v.GetStringValue()
		} else {
			got[kv.GetKey()] = fmt.Sprint(v.GetIntValue())
		}
	}
	if !maps.Equal(got, attributes) {
		t.Errorf("%s: attributes %v\nwant %v", request, got, attributes)
	}
}

// TestTraces isn't parallel, since the program's environment is this one's.
func TestTraces(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20") // milliseconds
	root := t.TempDir()
	srv := start(t, traced(root))
	client := &caller{next: srv.Client.Transport}
	srv.Client = &http.Client{Transport: client}
	img := image.Random(1, 1, 10<<10)
	for range 2 { // and after a reload
		srv.Push(img, "team/app", "v1")
		wantTrace(t, c.trace(t, client.last(t, http.MethodPut, "/manifests/")), "put-manifest", map[string]string{
			"oci.registry": "inline", "oci.operation": "put-manifest", "oci.repository": "team/app", "oci.reference": "v1",
			"oci.digest": img.Digest.String(), "oci.received": fmt.Sprint(img.Size), "oci.sent": "0", "http.response.status_code": "201",
		}, "storage.Update")
		if err := srv.Reload(traced(root) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	commit := c.trace(t, client.last(t, http.MethodPut, "/blobs/uploads/"))
	if commit["storage.Commit"] == nil || commit["storage.ResumeUpload"] == nil {
		t.Errorf("the end of an upload has the spans %q", slices.Collect(maps.Keys(commit)))
	}

	if _, err := srv.Repository("team/app").Resolve(t.Context(), "v2"); remote.Status(err) != http.StatusNotFound {
		t.Fatal(err)
	}
	spans := c.trace(t, client.last(t, http.MethodHead, "/manifests/v2"))
	wantTrace(t, spans, "get-manifest", map[string]string{
		"oci.registry": "inline", "oci.operation": "get-manifest", "oci.repository": "team/app", "oci.reference": "v2",
		"oci.error": "MANIFEST_UNKNOWN", "oci.received": "0", "oci.sent": "0", "http.response.status_code": "404",
	}, "storage.Resolve")
	span := spans["get-manifest"]
	if code := span.GetStatus().GetCode(); code != tracev1.Status_STATUS_CODE_UNSET {
		t.Errorf("what isn't there is a failure: %v", code)
	}
	if len(span.GetEvents()) != 1 || !strings.Contains(fmt.Sprint(span.GetEvents()), "manifest unknown to registry") {
		t.Errorf("events %v", span.GetEvents())
	}
}
