package ociregistry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// traces has the spans of the requests that it sends to one handler.
type traces struct {
	*testing.T

	h        *Handler
	spans    *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

// newTraces returns the traces of a registry in memory called main.
func newTraces(t *testing.T, s countedStorage) *traces {
	t.Helper()
	s.ID = rand.Text()
	app, h := provisioned(t, newWeb(t).countedConfig(t, s))
	t.Cleanup(func() {
		if err := app.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	spans := tracetest.NewSpanRecorder()
	return &traces{t, h, spans, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))}
}

// send has the registry answer a request of somebody who traces it, as the
// directive tracing does: the provider is nobody else's. It returns the spans
// that ended meanwhile, by name; "parent" is the directive's.
func (tr *traces) send(method, path, body string, header ...string) (http.Header, map[string]sdktrace.ReadOnlySpan) {
	tr.Helper()
	before := len(tr.spans.Ended())
	ctx, span := tr.provider.Tracer("test").Start(tr.Context(), "parent")
	rec := tr.serve(ctx, method, path, strings.NewReader(body), header...)
	span.End()
	spans := make(map[string]sdktrace.ReadOnlySpan)
	for _, s := range tr.spans.Ended()[before:] {
		if spans[s.Name()] != nil {
			tr.Errorf("%s %s: two spans %s", method, path, s.Name())
		}
		spans[s.Name()] = s
	}
	return rec.Header(), spans
}

func (tr *traces) serve(ctx context.Context, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	tr.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, method, path, body)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	repl := caddy.NewReplacer()
	repl.Set("http.auth.user.id", "alice")
	r = caddyhttp.PrepareRequest(r, repl, rec, new(caddyhttp.Server))
	if err := tr.h.ServeHTTP(rec, r, nil); err != nil {
		tr.Fatal(err)
	}
	return rec
}

// want compares the spans below the parent: which there are, whose child each is,
// and the attributes of the request's.
func (tr *traces) want(spans map[string]sdktrace.ReadOnlySpan, request string, attributes map[string]string, below ...string) {
	tr.Helper()
	span := spans[request]
	if span == nil {
		tr.Fatalf("no span %s among %v", request, spans)
	}
	if span.Parent().SpanID() != spans["parent"].SpanContext().SpanID() {
		tr.Errorf("%s isn't in the span of who traces it", request)
	}
	for name, s := range spans {
		switch {
		case name == "parent" || name == request:
		case !slices.Contains(below, name):
			tr.Errorf("there's a span %s too", name)
		case s.Parent().SpanID() != span.SpanContext().SpanID():
			tr.Errorf("%s isn't in the span of %s", name, request)
		}
	}
	for _, name := range below {
		if spans[name] == nil {
			tr.Errorf("no span %s", name)
		}
	}
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		tr.Fatal(err)
	}
	got := make(map[string]string)
	for _, kv := range span.Attributes() {
		got[string(kv.Key)] = kv.Value.String()
		if !bytes.Contains(doc, []byte("`"+kv.Key+"`")) {
			tr.Errorf("%s isn't documented", kv.Key)
		}
	}
	if !maps.Equal(got, attributes) {
		tr.Errorf("%s: attributes\n%v, want\n%v", request, got, attributes)
	}
}

// A push and a pull, as a trace shows them.
func TestTraceOfPushAndPull(t *testing.T) {
	tr := newTraces(t, countedStorage{})
	begun, spans := tr.send(http.MethodPost, "/v2/a/b/blobs/uploads/", "")
	id := begun.Get("Docker-Upload-Uuid")
	tr.want(spans, "start-upload", map[string]string{
		"oci.registry": "main", "oci.operation": "start-upload", "oci.repository": "a/b", "oci.upload": id,
		"oci.received": "0", "oci.sent": "0", "http.response.status_code": "202",
	}, "storage.NewUpload")

	d := digest.FromString("{}").String()
	_, spans = tr.send(http.MethodPut, begun.Get("Location")+"?digest="+d, "{}")
	tr.want(spans, "finish-upload", map[string]string{
		"oci.registry": "main", "oci.operation": "finish-upload", "oci.repository": "a/b", "oci.upload": id, "oci.digest": d,
		"oci.received": "2", "oci.sent": "0", "http.response.status_code": "201",
	}, "storage.ResumeUpload", "storage.Append", "storage.Commit")

	const image = "application/vnd.oci.image.manifest.v1+json"
	manifest := `{"schemaVersion":2,"mediaType":"` + image + `","config":{"mediaType":"x/y","digest":"` + d + `","size":2},"layers":[]}`
	_, spans = tr.send(http.MethodPut, "/v2/a/b/manifests/v1", manifest, "Content-Type", image)
	tr.want(spans, "put-manifest", map[string]string{
		"oci.registry": "main", "oci.operation": "put-manifest", "oci.repository": "a/b", "oci.reference": "v1",
		"oci.digest": digest.FromString(manifest).String(), "oci.received": strconv.Itoa(len(manifest)), "oci.sent": "0", "http.response.status_code": "201",
	}, "storage.Update")

	_, spans = tr.send(http.MethodGet, "/v2/a/b/manifests/v1", "")
	tr.want(spans, "get-manifest", map[string]string{
		"oci.registry": "main", "oci.operation": "get-manifest", "oci.repository": "a/b", "oci.reference": "v1",
		"oci.digest": digest.FromString(manifest).String(), "oci.received": "0", "oci.sent": strconv.Itoa(len(manifest)), "http.response.status_code": "200",
	}, "storage.Resolve")
	if got := spans["get-manifest"].Status().Code; got != codes.Unset {
		t.Errorf("status %v", got)
	}
}

// What a client did wrong is in the trace, and isn't a failure.
func TestTraceOfRefusal(t *testing.T) {
	tr := newTraces(t, countedStorage{})
	_, spans := tr.send(http.MethodGet, "/v2/a/manifests/v1", "")
	tr.want(spans, "get-manifest", map[string]string{
		"oci.registry": "main", "oci.operation": "get-manifest", "oci.repository": "a", "oci.reference": "v1", "oci.error": "NAME_UNKNOWN",
		"oci.received": "0", "oci.sent": "0", "http.response.status_code": "404",
	}, "storage.Resolve")
	wantEnd(t, spans["get-manifest"], codes.Unset, "repository name not known")
	wantEnd(t, spans["storage.Resolve"], codes.Unset, "repository name not known")
}

// wantEnd looks at a span's status, and for an error in its events.
func wantEnd(t *testing.T, span sdktrace.ReadOnlySpan, status codes.Code, message string) {
	t.Helper()
	if got := span.Status().Code; got != status {
		t.Errorf("%s: status %v, want %v", span.Name(), got, status)
	}
	for _, e := range span.Events() {
		for _, kv := range e.Attributes {
			if kv.Key == "exception.message" && strings.Contains(kv.Value.AsString(), message) {
				return
			}
		}
	}
	t.Errorf("%s: no %q among the events %v", span.Name(), message, span.Events())
}

// A fault of ours is a failure, of the request and of what it did.
func TestTraceOfFailure(t *testing.T) {
	tr := newTraces(t, countedStorage{Broken: true})
	_, spans := tr.send(http.MethodGet, "/v2/a/tags/list", "")
	tr.want(spans, "list-tags", map[string]string{
		"oci.registry": "main", "oci.operation": "list-tags", "oci.repository": "a",
		"oci.received": "0", "oci.sent": "0", "http.response.status_code": "500",
	}, "storage.Index")
	wantEnd(t, spans["list-tags"], codes.Error, "secret detail")
	wantEnd(t, spans["storage.Index"], codes.Error, "secret detail")
}

func TestTraceWithoutStore(t *testing.T) {
	tr := newTraces(t, countedStorage{FailOpen: true})
	_, spans := tr.send(http.MethodGet, "/v2/a/tags/list", "")
	tr.want(spans, "unavailable", map[string]string{
		"oci.registry": "main", "oci.operation": "unavailable",
		"oci.received": "0", "oci.sent": "0", "http.response.status_code": "503",
	})
	wantEnd(t, spans["unavailable"], codes.Error, "the disk is on fire")
}

// A span ends, whatever becomes of its request.
func TestTraceOfAbort(t *testing.T) {
	tr := newTraces(t, countedStorage{})
	ctx, cancel := context.WithCancel(t.Context())
	ctx, span := tr.provider.Tracer("test").Start(ctx, "parent")
	cancel()
	func() {
		defer func() {
			if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // a panic's value, not an error
				t.Errorf("panic %v, want ErrAbortHandler", r)
			}
		}()
		tr.serve(ctx, http.MethodPut, "/v2/a/manifests/v1", failingReader{})
	}()
	span.End()
	ended := tr.spans.Ended()
	if len(ended) != 2 || ended[0].Name() != "put-manifest" || len(tr.spans.Started()) != 2 {
		t.Fatalf("ended %v of %v", ended, tr.spans.Started())
	}
	if ended[0].Status().Code != codes.Unset {
		t.Errorf("that a client goes away is a failure: %v", ended[0].Status())
	}
	if !slices.Contains(ended[0].Attributes(), attribute.Int("http.response.status_code", 0)) {
		t.Errorf("attributes %v", ended[0].Attributes())
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the client went away") }

// Who doesn't trace gets no span and pays nothing.
func TestNoTrace(t *testing.T) {
	tr := newTraces(t, countedStorage{})
	sampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	_, off := noop.NewTracerProvider().Tracer("test").Start(t.Context(), "off")
	for name, ctx := range map[string]context.Context{
		"no span":                   t.Context(),
		"a span that records not":   trace.ContextWithSpan(t.Context(), off),
		"a span that isn't sampled": trace.ContextWithRemoteSpanContext(t.Context(), sampled),
	} {
		tr.serve(ctx, http.MethodGet, "/v2/", nil)
		if n := testing.AllocsPerRun(100, func() { isTraced(ctx) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if started := tr.spans.Started(); len(started) > 0 {
		t.Errorf("there are spans: %v", started)
	}
}
