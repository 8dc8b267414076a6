package handler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// TestStoreErrors: what went wrong on our side has a status, no text, and a line
// in the log.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
		want   []string
	}{
		{fmt.Errorf("write /secret/path: %w", storage.ErrFull), 507, nil},
		{fmt.Errorf("at /secret/path: %w", storage.ErrStandby), 503, []string{"Retry-After", "10"}},
		{storage.ErrBroken, 503, []string{"Retry-After", "10"}},
		{storage.ErrClosed, 503, []string{"Retry-After", "10"}},
		{fmt.Errorf("%w: read /secret/path", storage.ErrUnavailable), 503, []string{"Retry-After", "10"}},
		{errors.New("read /secret/path: input/output error"), 500, nil},
		{errors.Join(oci.Errorf(oci.DigestInvalid, "x"), storage.ErrFull), 507, nil},
		{oci.WithStatus(502, oci.Denied, "upstream /secret/path"), 500, nil},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			store := newHookedStore(t, func(r storage.Repository) storage.Repository { return failing{r, tc.err} })
			c := newClient(t, handler.Options{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil))})
			for _, x := range []exchange{
				{method: "GET", target: blobPath("a", layerDigest)},
				{method: "HEAD", target: blobPath("a", layerDigest)},
				{method: "POST", target: "/v2/a/blobs/uploads/"},
				{method: "PUT", target: manifestPath("a", "v1"), body: imageOf(), header: ctImage},
			} {
				log.Reset()
				x.status, x.want = tc.status, tc.want
				if got := c.run(x); got.body != "" {
					t.Fatalf("the client is told %q", got.body)
				}
				if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), tc.err.Error()[:10]) {
					t.Fatalf("log: %s", log.String())
				}
			}
		})
	}
}

func TestClientErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
		code   oci.Code
		want   []string
	}{
		{oci.BlobUnknown, 404, oci.BlobUnknown, nil},
		{fmt.Errorf("look up: %w", oci.Errorf(oci.BlobUnknown, "it")), 404, oci.BlobUnknown, nil},
		{&oci.Error{Code: oci.TooManyRequests, RetryAfter: 7}, 429, oci.TooManyRequests, []string{"Retry-After", "7"}},
		{oci.WithStatus(405, oci.Denied, "needed"), 405, oci.Denied, []string{"Allow", "GET, HEAD, DELETE"}},
		{&http.MaxBytesError{Limit: 1}, 413, oci.SizeInvalid, nil},
		{&oci.Error{Code: oci.Denied, Detail: func() {}}, 403, oci.Denied, nil},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			t.Parallel()
			store := newHookedStore(t, func(r storage.Repository) storage.Repository { return failing{r, tc.err} })
			c := newClient(t, handler.Options{Store: store})
			c.run(exchange{method: "GET", target: blobPath("a", layerDigest), status: tc.status, code: tc.code, want: append(tc.want, "X-Content-Type-Options", "nosniff")})
			if got := c.run(exchange{method: "HEAD", target: blobPath("a", layerDigest), status: tc.status, want: tc.want}); got.body != "" {
				t.Fatalf("HEAD has the body %q", got.body)
			}
		})
	}
}

// TestMissingBlobs: one error for each thing that isn't there, and not without end.
func TestMissingBlobs(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	put := exchange{method: "PUT", target: manifestPath("a", "v1"), body: imageOf(), header: ctImage, status: 404, code: oci.ManifestBlobUnknown}
	errs := c.run(put).errors(t)
	if len(errs) != 2 {
		t.Fatalf("%d errors, want one for the config and one for the layer", len(errs))
	}
	for i, d := range []digest.Digest{configDigest, layerDigest} {
		if want := `{"digest":"` + d.String() + `"}`; string(errs[i].Detail) != want || errs[i].Code != oci.ManifestBlobUnknown {
			t.Fatalf("error %d: %s %s, want %s", i, errs[i].Code, errs[i].Detail, want)
		}
	}
	layers := make([]string, 500)
	for i := range layers {
		layers[i] = descriptor("application/vnd.oci.image.layer.v1.tar", fmt.Sprint(i))
	}
	put.body = `{"schemaVersion":2,"mediaType":"` + img + `","config":` + layers[0] + `,"layers":[` + strings.Join(layers, ",") + `]}`
	if errs = c.run(put).errors(t); len(errs) != 100 {
		t.Fatalf("%d errors, want the first 100", len(errs))
	}
}

// TestClientGone: whoever left gets no answer, above all not the 200 that
// returning without one would be.
func TestClientGone(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	var status []int
	c := newClient(t, handler.Options{
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
			cancel()
			return authz.Answer{}, ctx.Err()
		}),
		Observe: func(_ *http.Request, e *handler.Event) { status = append(status, e.Status) },
	})
	defer func() {
		if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // a panic's value, not an error
			t.Errorf("panic %v, want ErrAbortHandler", r)
		}
		if len(status) != 1 || status[0] != 0 || strings.Contains(log.String(), "ERROR") || !strings.Contains(log.String(), "DEBUG") {
			t.Errorf("status %v, log %s", status, log.String())
		}
	}()
	c.h.ServeHTTP(&sink{http.Header{}}, newRequest(t, "GET", "/v2/", nil, 0).WithContext(ctx))
}

// TestNoDecision: an Authorizer that can't decide grants nothing.
func TestNoDecision(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
		return authz.Answer{Overwrite: true}, errors.New("directory server is down")
	})})
	c.run(exchange{method: "GET", target: "/v2/", status: 500})

	// Nor is it a refusal, after which a mount would go on as an upload.
	c = newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
		if len(q.Want) > 1 {
			return authz.Answer{}, errors.New("directory server is down")
		}
		return authz.Answer{}, nil
	})})
	c.run(exchange{method: "POST", target: uploads + "?from=c&mount=" + layerDigest.String(), status: 500})
}

// TestEvents: what logs and metrics are told.
func TestEvents(t *testing.T) {
	t.Parallel()
	var e handler.Event
	calls := 0
	c := newClient(t, handler.Options{
		Identity: jane,
		Observe:  func(_ *http.Request, got *handler.Event) { e = *got; calls++ },
	})
	c.pushImage("a/b", "")
	for _, tc := range []struct {
		method, target, body string
		want                 string
	}{
		{"GET", "/v2/", "", "ping    200  0 27"},
		{"GET", manifestPath("a/b", "v1"), "", "get-manifest a/b v1 DIGEST 200  0 " + fmt.Sprint(len(imageOf(`"annotations":{"note":""}`)))},
		{"HEAD", blobPath("a/b", layerDigest), "", "get-blob a/b  " + layerDigest.String() + " 200  0 0"},
		{"GET", manifestPath("a/b", "v2"), "", "get-manifest a/b v2  404 MANIFEST_UNKNOWN 0 0"},
		{"GET", "/v2/a/b/elsewhere/x?<script>", "", "invalid    404 NAME_UNKNOWN 0 0"},
		{"GET", "/v2/%2e%2e/manifests/v1", "", "invalid    400 NAME_INVALID 0 0"},
		{"BREW", "/v2/a/b/tags/list", "", "invalid a/b   405 UNSUPPORTED 0 0"},
		{"POST", uploads + "?mount=" + missing.String(), "", "start-upload a/b  " + missing.String() + " 202  0 0"},
		{"PATCH", "$", "abc", "patch-upload a/b   202  3 0"},
		{"PUT", "$?digest=" + missing.String(), "", "finish-upload a/b  " + missing.String() + " 400 DIGEST_INVALID 0 0"},
	} {
		calls = 0
		c.send(tc.method, tc.target, tc.body)
		got := fmt.Sprintf("%s %s %s %s %d %s %d %d", e.Operation, e.Repository, e.Reference, e.Digest, e.Status, string(e.Code), e.Received, e.Sent)
		want := strings.Replace(tc.want, "DIGEST ", digest.FromString(imageOf(`"annotations":{"note":""}`)).String()+" ", 1)
		if got != want || calls != 1 {
			t.Errorf("%s %s: %d calls, %q, want %q", tc.method, tc.target, calls, got, want)
		}
		if hasUpload := strings.Contains(e.Operation, "upload"); hasUpload != (e.Upload != "") {
			t.Errorf("%s %s: upload %q", tc.method, tc.target, e.Upload)
		}
		if e.Operation != "invalid" && e.Who.ID != "jane" {
			t.Errorf("%s %s: who %+v", tc.method, tc.target, e.Who)
		}
		if (e.Err != nil) != (e.Code != "") {
			t.Errorf("%s %s: error %v", tc.method, tc.target, e.Err)
		}
	}
}

// TestCodes: no other codes than the spec's fourteen are written anywhere here.
func TestCodes(t *testing.T) {
	t.Parallel()
	spec := regexp.MustCompile(`^(BLOB_UNKNOWN|BLOB_UPLOAD_INVALID|BLOB_UPLOAD_UNKNOWN|DIGEST_INVALID|MANIFEST_BLOB_UNKNOWN|MANIFEST_INVALID|` +
		`MANIFEST_UNKNOWN|NAME_INVALID|NAME_UNKNOWN|SIZE_INVALID|UNAUTHORIZED|DENIED|UNSUPPORTED|TOOMANYREQUESTS)$`)
	c := newClient(t, handler.Options{})
	for _, tc := range specCases {
		for _, x := range tc.steps {
			if code := c.send(x.method, x.target, x.body, x.header...).code(t); code != "" && !spec.MatchString(string(code)) {
				t.Errorf("%s: code %q", tc.name, code)
			}
		}
	}
}
