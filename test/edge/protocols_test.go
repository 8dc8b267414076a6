//go:build real

package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/quic-go/quic-go/http3"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestProtocols does the same by each version of HTTP that Caddy speaks.
func TestProtocols(t *testing.T) {
	t.Parallel()
	size := tool.Sized[int64](24<<20, 256<<20)
	site := fmt.Sprintf(`{
		bind 127.0.0.1
		oci_registry {
			root %%q
			anonymous all
			max_blob_size %d
			max_manifest_size 1MiB
		}`, size)
	secure := registry.Secure(t, fmt.Sprintf(`{
		admin ADMIN
		persist_config off
		skip_install_trust
		auto_https disable_redirects
	}
	https://HOST `+site+`
		tls internal
	}`, t.TempDir()))
	plain := registry.Config(t, fmt.Sprintf(`{
		admin ADMIN
		persist_config off
		servers {
			protocols h1 h2c
		}
	}
	http://HOST `+site+`
	}`, t.TempDir()))
	trust := registry.Trusting(t, secure.CA).TLSClientConfig

	for _, tc := range []struct {
		name, version string
		srv           *registry.Server
		protocols     func(*http.Protocols)
	}{
		{"h1", "HTTP/1.1", secure, func(p *http.Protocols) { p.SetHTTP1(true) }},
		{"h2", "HTTP/2.0", secure, func(p *http.Protocols) { p.SetHTTP2(true) }},
		{"h2c", "HTTP/2.0", plain, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
		{"h3", "HTTP/3.0", secure, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, tc.srv, tc.version, trust, tc.protocols)
			w.talk(tc.name, size)
			w.refuses(tc.name)
			if n := w.dials.Load(); tc.version == "HTTP/2.0" && n != 1 {
				t.Errorf("all of this went through %d connections, not one", n)
			}
		})
	}
}

// wire is a registry as seen by a client that speaks one version of HTTP.
type wire struct {
	remote.Registry

	t       *testing.T
	next    http.RoundTripper
	version string       // of every answer
	dials   atomic.Int64 // connections that were made
}

// newWire makes a client of srv. Without protocols it speaks HTTP/3.
func newWire(t *testing.T, srv *registry.Server, version string, trust *tls.Config, protocols func(*http.Protocols)) *wire {
	t.Helper()
	w := &wire{Registry: srv.Registry, t: t, version: version}
	w.Client = &http.Client{Transport: w}
	if protocols == nil {
		transport := &http3.Transport{TLSClientConfig: trust.Clone()}
		t.Cleanup(func() { _ = transport.Close() })
		w.next = transport
		return w
	}
	transport := &http.Transport{TLSClientConfig: trust.Clone(), Protocols: new(http.Protocols)}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	protocols(transport.Protocols)
	t.Cleanup(transport.CloseIdleConnections)
	w.next = transport
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	if err == nil && resp.Proto != w.version {
		err = errors.Join(fmt.Errorf("the answer is %s, want %s", resp.Proto, w.version), resp.Body.Close())
	}
	return resp, err
}

// talk pushes and pulls several things at once, one of them large.
func (w *wire) talk(repository string, size int64) {
	w.t.Helper()
	if err := w.Get(w.t.Context(), "/v2/"); err != nil { // so that the others find a connection
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, size := range []int64{size, size / 2, size / 4} {
		wg.Go(func() {
			if err := w.stream(fmt.Sprintf("%s/stream%d", repository, i), uint64(i), size); err != nil {
				w.t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	for i := range 5 {
		wg.Go(func() {
			to := w.Repository(fmt.Sprintf("%s/image%d", repository, i))
			c := image.Random(uint64(i), 3, 200_000)
			if err := to.Push(w.t.Context(), c, "v1"); err != nil {
				w.t.Error(err)
				return
			}
			if desc, err := to.Verify(w.t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
				w.t.Errorf("pulled %s, want %s: %v", desc.Digest, c.Digest, err)
			}
		})
	}
	wg.Wait()
}

// stream pushes a blob in one request, and reads it.
func (w *wire) stream(repository string, seed uint64, size int64) error {
	ctx, to := w.t.Context(), w.Repository(repository)
	d, err := digest.FromReader(noise(seed, 0, size))
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}
	u, err := to.StartUpload(ctx)
	if err != nil {
		return err
	}
	if err := u.Stream(ctx, noise(seed, 0, size)); err != nil {
		return err
	}
	if err := u.Commit(ctx, d, nil); err != nil {
		return err
	}
	if _, err := image.Verify(ctx, to, desc); err != nil {
		return err
	}
	return w.read("/v2/"+repository+"/blobs/"+d.String(), seed, desc)
}

// read reads a blob's header, and parts of it.
func (w *wire) read(path string, seed uint64, desc ocispec.Descriptor) error {
	size, middle := desc.Size, desc.Size/2
	for _, tc := range []struct {
		method, ranges string
		status         int
		from, length   int64 // of what is sent
		header         []string
	}{
		{http.MethodHead, "", http.StatusOK, 0, 0, []string{"Content-Length", fmt.Sprint(size)}},
		{http.MethodGet, fmt.Sprintf("bytes=%d-%d", middle, middle+1<<20-1), http.StatusPartialContent, middle, 1 << 20, []string{
			"Content-Range", fmt.Sprintf("bytes %d-%d/%d", middle, middle+1<<20-1, size), "Content-Length", fmt.Sprint(1 << 20),
		}},
		{http.MethodGet, "bytes=-1000", http.StatusPartialContent, size - 1000, 1000, []string{"Content-Length", "1000"}},
	} {
		a, err := ask(w.t.Context(), &w.Registry, tc.method, path, "Range", tc.ranges)
		if err != nil {
			return err
		}
		err = a.check(tc.status, append(tc.header, "Docker-Content-Digest", desc.Digest.String(), "Etag", `"`+desc.Digest.String()+`"`,
			"Accept-Ranges", "bytes", "Content-Type", desc.MediaType)...)
		if err != nil {
			return err
		}
		if want, err := io.ReadAll(noise(seed, tc.from, tc.length)); err != nil || !bytes.Equal(a.body, want) {
			return errors.Join(err, fmt.Errorf("%s of %s isn't what was pushed", tc.ranges, path))
		}
	}
	a, err := ask(w.t.Context(), &w.Registry, http.MethodGet, path, "Range", fmt.Sprintf("bytes=%d-", size))
	if err != nil {
		return err
	}
	return a.check(http.StatusRequestedRangeNotSatisfiable, "Content-Range", fmt.Sprintf("bytes */%d", size))
}

// noise is a part of an endless stream of bytes, another for each seed.
func noise(seed uint64, from, length int64) io.Reader {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = io.CopyN(io.Discard, r, from) // it never fails
	return io.LimitReader(r, length)
}

// refuses has a client refused that would go on sending for ever, and so has to
// be told while it does.
func (w *wire) refuses(repository string) {
	w.t.Helper()
	to := w.Repository(repository)
	u, err := to.StartUpload(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	uploads := "/v2/" + repository + "/blobs/uploads/"
	for _, tc := range []struct {
		method, path string
		status       int
		code         string
	}{
		{http.MethodPatch, uploads + "AAAAAAAAAAAAAAAAAAAAAAAAAA", http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"},
		{http.MethodPatch, uploads + "?digest=sha256:x", http.StatusMethodNotAllowed, "UNSUPPORTED"},
		{http.MethodPut, "/v2/" + repository + "/manifests/v1", http.StatusRequestEntityTooLarge, "SIZE_INVALID"},
		{http.MethodPatch, u.Location, http.StatusRequestEntityTooLarge, "SIZE_INVALID"},
	} {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		resp, err := w.Do(ctx, tc.method, tc.path, endless{}, "Content-Type", ocispec.MediaTypeImageManifest)
		if err == nil {
			err = errors.Join(fmt.Errorf("it answered %s", resp.Status), resp.Body.Close())
		}
		cancel()
		if remote.Status(err) != tc.status || !strings.Contains(err.Error(), tc.code) {
			w.t.Errorf("%s %s, while it is being sent: %v, want %d %s", tc.method, tc.path, err, tc.status, tc.code)
		}
		if err := w.Get(w.t.Context(), "/v2/"); err != nil {
			w.t.Errorf("after that: %v", err)
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("endless "), 1000)), nil
}
