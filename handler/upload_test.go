package handler_test

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func TestUpload(t *testing.T) {
	t.Parallel()
	newD := digest.FromString("new")
	start := exchange{method: "POST", target: uploads, status: 202}
	for _, tc := range []struct {
		name  string
		steps []exchange
	}{
		{"a stream of unknown length", []exchange{
			start,
			{method: "PATCH", target: "$", body: "Hello, ", header: []string{"Transfer-Encoding", "chunked"}, status: 202, want: []string{"Range", "0-6"}},
			{method: "PATCH", target: "$", body: "registry!", header: []string{"Transfer-Encoding", "chunked"}, status: 202, want: []string{"Range", "0-15"}},
			{method: "PUT", target: "$?digest=" + layerDigest.String(), status: 201},
		}},
		{"one POST of unknown length", []exchange{
			{method: "POST", target: uploads + "?digest=" + newD.String(), body: "new", header: []string{"Transfer-Encoding", "chunked"}, status: 201},
		}},
		{"the rest in the closing PUT, without Content-Range", []exchange{
			start,
			{method: "PATCH", target: "$", body: "Hello, ", status: 202},
			{method: "PUT", target: "$?digest=" + layerDigest.String(), body: "registry!", header: []string{"Transfer-Encoding", "chunked"}, status: 201},
		}},
		{"Content-Range as HTTP has it", []exchange{
			start,
			{method: "PATCH", target: "$", body: "new", header: []string{"Content-Range", "bytes 0-2/*"}, status: 202, want: []string{"Range", "0-2"}},
		}},
		{"an empty chunk", []exchange{
			start,
			{method: "PATCH", target: "$", status: 202, want: []string{"Range", "0-0"}},
			{method: "PATCH", target: "$", body: "n", status: 202, want: []string{"Range", "0-0"}},
			{method: "PATCH", target: "$", body: "ew", header: []string{"Content-Range", "1-2"}, status: 202, want: []string{"Range", "0-2"}},
		}},
		{"an empty blob", []exchange{
			start,
			{method: "PUT", target: "$?digest=" + digest.FromString("").String(), status: 201},
			{method: "GET", target: "$", status: 200, want: []string{"Content-Length", "0"}},
			{method: "GET", target: blobPath("a/b", digest.FromString("")), header: []string{"Range", "bytes=0-9"}, status: 200, want: []string{"Content-Length", "0"}},
			{method: "POST", target: "/v2/c/blobs/uploads/?digest=" + digest.FromString("").String(), status: 201},
		}},
		{"Content-Range and Content-Length disagree", []exchange{
			start,
			{method: "PATCH", target: "$", body: "new", header: []string{"Content-Range", "0-3"}, status: 400, code: oci.SizeInvalid},
			{method: "PATCH", target: "$", header: []string{"Content-Range", "0-3"}, status: 400, code: oci.SizeInvalid},
			{method: "GET", target: "$", status: 204, want: []string{"Range", "0-0"}},
		}},
		{"fewer bytes than Content-Range says", []exchange{
			start,
			{method: "PATCH", target: "$", body: "new", header: []string{"Content-Range", "0-3", "Transfer-Encoding", "chunked"}, status: 400, code: oci.SizeInvalid},
			{method: "GET", target: "$", status: 204, want: []string{"Range", "0-2"}},
		}},
		{"more bytes than Content-Range says", []exchange{
			start,
			{method: "PUT", target: "$?digest=" + newD.String(), body: "newer", header: []string{"Content-Range", "0-2", "Transfer-Encoding", "chunked"}, status: 400, code: oci.SizeInvalid},
			{method: "HEAD", target: blobPath("a/b", newD), status: 404},
		}},
		{"positions beyond what can be", []exchange{
			start,
			{method: "PATCH", target: "$", body: "x", header: []string{"Content-Range", "9223372036854775807-9223372036854775807"}, status: 400, code: oci.BlobUploadInvalid},
			{method: "PATCH", target: "$", body: "x", header: []string{"Content-Range", "4611686018427387903-4611686018427387903"}, status: 416, code: oci.BlobUploadInvalid},
		}},
		{"content that doesn't hash right ends the session and stores nothing", []exchange{
			start,
			{method: "PUT", target: "$?digest=" + newD.String(), body: "old", status: 400, code: oci.DigestInvalid},
			{method: "GET", target: "$", status: 404, code: oci.BlobUploadUnknown},
			{method: "HEAD", target: blobPath("a/b", newD), status: 404},
			{method: "HEAD", target: blobPath("a/b", digest.FromString("old")), status: 404},
			{method: "GET", target: "/v2/_catalog", status: 200, is: `{"repositories":[]}`},
		}},
		{"a digest of another algorithm than the session's", []exchange{
			start,
			{method: "PUT", target: "$?digest=" + digest.SHA512.FromString("new").String(), body: "new", status: 201},
			{method: "GET", target: blobPath("a/b", digest.SHA512.FromString("new")), status: 200, is: "new"},
		}},
		{"a session that has ended", []exchange{
			start,
			{method: "PATCH", target: "$", body: "new", status: 202},
			{method: "PUT", target: "$?digest=" + newD.String(), status: 201, want: []string{"Location", blobPath("a/b", newD)}},
			{method: "GET", target: "$", status: 200},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, handler.Options{})
			for _, x := range tc.steps {
				c.run(x)
			}
		})
	}
}

// TestConcurrentPatches: of several chunks for one place one wins, the others
// are out of order, and nothing is mixed.
func TestConcurrentPatches(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.run(exchange{method: "POST", target: uploads, status: 202})
	bodies := make([]string, 8)
	replies := make([]reply, len(bodies))
	var wg sync.WaitGroup
	for i := range bodies {
		bodies[i] = strings.Repeat(string(rune('a'+i)), 1<<16)
		wg.Go(func() {
			one := *c // send notes the location
			replies[i] = one.send("PATCH", "$", bodies[i], "Content-Range", "0-65535")
		})
	}
	wg.Wait()
	winner := -1
	for i, r := range replies {
		switch {
		case r.status == 202 && winner < 0:
			winner = i
		case r.status != 416:
			t.Fatalf("chunk %d: status %d after %d has won", i, r.status, winner)
		}
	}
	c.run(exchange{method: "PUT", target: "$?digest=" + digest.FromString(bodies[winner]).String(), status: 201})
}

// TestBrokenBody: what came before the client went away stays in the session,
// and is no blob.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"PATCH", "PUT"} {
		for _, err := range []error{io.ErrUnexpectedEOF, errBroken} {
			c := newClient(t, handler.Options{})
			c.run(exchange{method: "POST", target: uploads, status: 202})
			broken := io.MultiReader(strings.NewReader("Hello, "), iotest.ErrReader(err))
			w := httptest.NewRecorder()
			c.h.ServeHTTP(w, newRequest(t, method, c.location+"?digest="+layerDigest.String(), broken, int64(len(layer))))
			if w.Code != 400 || !strings.Contains(w.Body.String(), string(oci.SizeInvalid)) {
				t.Fatalf("%s: %d %s, want 400 SIZE_INVALID", method, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Fatalf("%s: the client is told %s", method, w.Body)
			}
			c.run(exchange{method: "GET", target: "$", status: 204, want: []string{"Range", "0-6"}})
			c.run(exchange{method: "HEAD", target: blobPath("a/b", layerDigest), status: 404})
			c.run(exchange{method: "PUT", target: "$?digest=" + layerDigest.String(), body: "registry!", header: []string{"Content-Range", "7-15"}, status: 201})
		}
	}
}

// TestBrokenPost: nothing is left of a single POST that breaks off.
func TestBrokenPost(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	broken := io.MultiReader(strings.NewReader("Hello, "), iotest.ErrReader(io.ErrUnexpectedEOF))
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, newRequest(t, "POST", uploads+"?digest="+layerDigest.String(), broken, int64(len(layer))))
	if w.Code != 400 || !strings.Contains(w.Body.String(), string(oci.SizeInvalid)) {
		t.Fatalf("%d %s, want 400 SIZE_INVALID", w.Code, w.Body)
	}
	c.run(exchange{method: "GET", target: "/v2/_catalog", status: 200, is: `{"repositories":[]}`})
}

func TestMaxBlobSize(t *testing.T) {
	t.Parallel()
	chunked := []string{"Transfer-Encoding", "chunked"}
	start := exchange{method: "POST", target: uploads, status: 202}
	full := digest.FromString("0123456789")
	for _, tc := range []struct {
		name  string
		steps []exchange
	}{
		{"just as much", []exchange{
			{method: "POST", target: uploads + "?digest=" + full.String(), body: "0123456789", status: 201},
			{method: "POST", target: "/v2/c/blobs/uploads/?digest=" + full.String(), body: "0123456789", header: chunked, status: 201},
		}},
		{"POST", []exchange{
			{method: "POST", target: uploads + "?digest=" + full.String(), body: "01234567890", status: 413, code: oci.SizeInvalid},
			{method: "POST", target: uploads + "?digest=" + full.String(), body: "01234567890", header: chunked, status: 413, code: oci.SizeInvalid},
		}},
		{"a chunk that is too much is refused unread", []exchange{
			start,
			{method: "PATCH", target: "$", body: "01234", status: 202},
			{method: "PATCH", target: "$", body: "567890", status: 413, code: oci.SizeInvalid},
			{method: "GET", target: "$", status: 204, want: []string{"Range", "0-4"}},
			{method: "PUT", target: "$?digest=" + full.String(), body: "56789", status: 201},
		}},
		{"a stream that gets too much ends the session", []exchange{
			start,
			{method: "PATCH", target: "$", body: "01234", status: 202},
			{method: "PATCH", target: "$", body: "567890", header: chunked, status: 413, code: oci.SizeInvalid},
			{method: "GET", target: uploads + "gone", status: 404, code: oci.BlobUploadUnknown},
			{method: "GET", target: "$", status: 404, code: oci.BlobUploadUnknown},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, handler.Options{MaxBlobSize: 10})
			for _, x := range tc.steps {
				c.run(x)
			}
		})
	}
}

// TestBodyIsLeftAlone: a body known to be empty, or refused by its length, isn't
// touched; and no body is read after its end, which restarts deadlines.
func TestBodyIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, method, target string
		content              string
		length               int64
		status               int
	}{
		{"closing PUT without a body", "PUT", "$?digest=" + digest.FromString("").String(), "", 0, 201},
		{"PATCH without a body", "PATCH", "$", "", 0, 202},
		{"POST of the empty blob", "POST", uploads + "?digest=" + digest.FromString("").String(), "", 0, 201},
		{"blob too big", "PATCH", "$", "", 101, 413},
		{"manifest too big", "PUT", manifestPath("a/b", "v1"), "", 101, 413},
		{"chunk out of order", "PATCH", "$", "", 10, 416},
		{"PATCH of known length", "PATCH", "$", "new", 3, 202},
		{"PATCH of unknown length", "PATCH", "$", "new", -1, 202},
		{"POST of known length", "POST", uploads + "?digest=" + digest.FromString("new").String(), "new", 3, 201},
		{"manifest", "PUT", manifestPath("a/b", "v1"), `{"mediaType":"x/y"}`, -1, 201},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, handler.Options{MaxBlobSize: 100, MaxManifestSize: 100})
			c.run(exchange{method: "POST", target: uploads, status: 202})
			body := &strictBody{t: t}
			if tc.content != "" {
				body.r = iotest.OneByteReader(strings.NewReader(tc.content))
			}
			r := newRequest(t, tc.method, strings.Replace(tc.target, "$", c.location, 1), body, tc.length)
			if tc.status == 416 {
				r.Header.Set("Content-Range", "5-14")
			}
			w := httptest.NewRecorder()
			c.h.ServeHTTP(w, r)
			if w.Code != tc.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
		})
	}
}

// patient is an upload session that notes whether it's interrupted with the request.
type patient struct {
	storage.Upload

	cancel context.CancelFunc // of the request
	note   func(string, context.Context)
}

func (p patient) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	p.note("append", ctx)
	return p.Upload.Append(ctx, offset, r)
}

func (p patient) Commit(ctx context.Context, d digest.Digest) (oci.Descriptor, error) {
	p.cancel() // the client leaves, all is sent
	p.note("commit", ctx)
	return p.Upload.Commit(ctx, d)
}

// TestCommitIsNotInterrupted: a client that leaves once all is sent finds the
// blob when it comes back.
func TestCommitIsNotInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	hook := func(u storage.Upload) storage.Upload {
		return patient{u, cancel, func(what string, ctx context.Context) {
			if ctx.Done() != nil {
				t.Errorf("%s ends with the request", what)
			}
		}}
	}
	c := newClient(t, handler.Options{Store: newHookedStore(t, func(r storage.Repository) storage.Repository {
		return uploading{r, nil, hook}
	})})
	c.run(exchange{method: "POST", target: uploads, status: 202})
	r := newRequest(t, "PUT", c.location+"?digest="+layerDigest.String(), strings.NewReader(layer), int64(len(layer)))
	c.h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	c.run(exchange{method: "GET", target: blobPath("a/b", layerDigest), status: 200, is: layer})
}
