package handler_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// client sends requests to a Handler without a network in between.
type client struct {
	testing.TB

	h        http.Handler
	location string // of the last response that had one; "$" in a target stands for it
}

// newClient returns a client of a Handler for an empty store, where everyone
// may do everything unless opts say otherwise.
func newClient(t testing.TB, opts handler.Options) *client {
	t.Helper()
	if opts.Store == nil {
		store := memory.New()
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		opts.Store = store
	}
	if opts.Authorizer == nil {
		opts.Authorizer = authz.AnonymousAll
	}
	return &client{TB: t, h: handler.New(opts)}
}

// reply is a response that was read.
type reply struct {
	status int
	header http.Header
	body   string
}

// send sends one request. header is a list of keys and values. A body of
// unknown length is asked for with the pair "Transfer-Encoding", "chunked".
func (c *client) send(method, target, body string, header ...string) reply {
	c.Helper()
	if rest, ok := strings.CutPrefix(target, "$"); ok {
		target = c.location + rest
	}
	r := httptest.NewRequestWithContext(c.Context(), method, target, io.NopCloser(strings.NewReader(body)))
	r.ContentLength = int64(len(body))
	for kv := range slices.Chunk(header, 2) {
		if kv[0] == "Transfer-Encoding" {
			r.ContentLength = -1
			continue
		}
		r.Header.Add(kv[0], kv[1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	got := reply{w.Code, w.Result().Header, w.Body.String()}
	if l := got.header.Get("Location"); l != "" {
		c.location = l
	}
	return got
}

// exchange is a request and what its response has to be.
type exchange struct {
	method, target, body string
	header               []string // keys and values

	status int
	code   oci.Code // of an error; empty is none
	want   []string // header keys and values; an empty value means there's none, "*" any
	is     string   // the body, if it isn't empty
}

// run sends x and checks the answer.
func (c *client) run(x exchange) reply {
	c.Helper()
	got := c.send(x.method, x.target, x.body, x.header...)
	if got.status != x.status {
		c.Fatalf("%s %s: status %d, want %d; body %s", x.method, x.target, got.status, x.status, got.body)
	}
	if code := got.code(c); code != x.code {
		c.Fatalf("%s %s: code %q, want %q", x.method, x.target, code, x.code)
	}
	for kv := range slices.Chunk(x.want, 2) {
		v := strings.Join(got.header.Values(kv[0]), ", ")
		if v != kv[1] && (kv[1] != "*" || v == "") {
			c.Fatalf("%s %s: %s is %q, want %q", x.method, x.target, kv[0], v, kv[1])
		}
	}
	if x.is != "" && got.body != x.is {
		c.Fatalf("%s %s: body %s, want %s", x.method, x.target, got.body, x.is)
	}
	return got
}

// code returns the code of the first error in an error's body. It fails the
// test if the body of an error isn't as the spec has it.
func (r reply) code(t testing.TB) oci.Code {
	t.Helper()
	if r.status < 400 || r.status >= 500 || r.body == "" {
		return ""
	}
	if ct := r.header.Get("Content-Type"); ct != "application/json" {
		t.Fatalf("Content-Type of an error is %q", ct)
	}
	errs := r.errors(t)
	if len(errs) == 0 {
		t.Fatalf("no error in %s", r.body)
	}
	return errs[0].Code
}

type wireError struct {
	Code    oci.Code        `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail"`
}

func (r reply) errors(t testing.TB) []wireError {
	t.Helper()
	var body struct {
		Errors []wireError `json:"errors"`
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	return body.Errors
}

// The content that tests push.
const (
	layer  = "Hello, registry!"
	config = "{}"
)

var (
	layerDigest  = digest.FromString(layer)
	configDigest = digest.FromString(config)
)

func blobPath(repo string, d digest.Digest) string { return "/v2/" + repo + "/blobs/" + d.String() }

func manifestPath(repo, ref string) string { return "/v2/" + repo + "/manifests/" + ref }

// pushBlob pushes content in one POST.
func (c *client) pushBlob(repo, content string) digest.Digest {
	c.Helper()
	d := digest.FromString(content)
	c.run(exchange{
		method: "POST", target: "/v2/" + repo + "/blobs/uploads/?digest=" + d.String(), body: content, status: 201,
	})
	return d
}

// pushManifest pushes raw under a tag, or under its digest if tag is empty.
func (c *client) pushManifest(repo, tag, mediaType, raw string) digest.Digest {
	c.Helper()
	d := digest.FromString(raw)
	if tag == "" {
		tag = d.String()
	}
	c.run(exchange{
		method: "PUT", target: manifestPath(repo, tag), body: raw,
		header: []string{"Content-Type", mediaType}, status: 201,
	})
	return d
}

// pushImage pushes an image that differs by note, tagged v1, and returns its manifest.
func (c *client) pushImage(repo, note string) (raw string, d digest.Digest) {
	c.Helper()
	c.pushBlob(repo, config)
	c.pushBlob(repo, layer)
	raw = imageOf(`"annotations":{"note":"` + note + `"}`)
	return raw, c.pushManifest(repo, "v1", oci.MediaTypeImageManifest, raw)
}

// imageOf is an image manifest with more fields.
func imageOf(fields ...string) string {
	all := append([]string{
		`"schemaVersion":2`,
		`"mediaType":"` + oci.MediaTypeImageManifest + `"`,
		`"config":` + descriptor("application/vnd.oci.image.config.v1+json", config),
		`"layers":[` + descriptor("application/vnd.oci.image.layer.v1.tar", layer) + `]`,
	}, fields...)
	return "{" + strings.Join(all, ",") + "}"
}

// indexOf is an image index of the manifests given, with more fields.
func indexOf(manifests []string, fields ...string) string {
	children := make([]string, len(manifests))
	for i, m := range manifests {
		children[i] = descriptor(oci.MediaTypeImageManifest, m)
	}
	all := append([]string{
		`"schemaVersion":2`,
		`"mediaType":"` + oci.MediaTypeImageIndex + `"`,
		`"manifests":[` + strings.Join(children, ",") + `]`,
	}, fields...)
	return "{" + strings.Join(all, ",") + "}"
}

func descriptor(mediaType, content string) string {
	b, err := json.Marshal(oci.Descriptor{
		MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content)),
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// subject is the field of a manifest that refers to raw.
func subject(raw string) string {
	return `"subject":` + descriptor(oci.MediaTypeImageManifest, raw)
}

func mustName(s string) oci.Name {
	n, err := oci.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}
