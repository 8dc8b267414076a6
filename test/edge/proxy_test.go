//go:build real

package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// proxied is the registry of examples/proxy, and a Caddy with TLS in front of it.
type proxied struct {
	front, back *registry.Server
}

func newProxied(t *testing.T) proxied {
	t.Helper()
	caddy, _ := withAlice(t)
	back := registry.Configure(t, caddy, example(t, "proxy", "admin ADMIN\npersist_config off",
		"10.0.0.1", "127.0.0.1",
		"http://:8080 {", "http://:PORT {\nbind 127.0.0.1\nlog",
		"/srv/registry", t.TempDir()))
	front := registry.Secure(t, fmt.Sprintf(`{
		admin ADMIN
		persist_config off
		skip_install_trust
		auto_https disable_redirects
	}
	https://HOST {
		bind 127.0.0.1
		tls internal
		reverse_proxy %s
	}`, back.Host))
	signIn(&front.Registry, alice)
	signIn(&back.Registry, alice)
	return proxied{front, back}
}

// TestBehindProxy pushes and pulls through a proxy, as a client that only knows
// the proxy.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	p := newProxied(t)
	one := image.Random(1, 3, 300_000)
	c := image.Index(one, image.Random(2, 3, 300_000))

	t.Run("crane", func(t *testing.T) {
		t.Parallel()
		crane := tool.Find(t, "crane")
		crane.Env = append(crane.Env, "SSL_CERT_FILE="+p.front.CA)
		ref, layout := p.front.Ref("crane", "v1"), string(one.WriteLayout(t, "v1"))
		if _, err := crane.Try("push", layout, ref); err == nil || !strings.Contains(err.Error(), "401") {
			t.Fatalf("a push without a password: %v", err)
		}
		crane.Stdin, _ = alice.Password()
		crane.Run("auth", "login", p.front.Host, "--username", alice.Username(), "--password-stdin")
		crane.Run("push", layout, ref)
		p.back.Check("crane", "v1", one)
		pulled := filepath.Join(crane.Dir, "pulled")
		crane.Run("pull", "--format", "oci", ref, pulled)
		image.Layout(pulled).Check(t, "", one)
	})
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		p.front.Push(c, "app", "v1")
		p.front.Check("app", "v1", c)
		p.back.Check("app", "v1", c)
	})
	t.Run("refusal", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 20 {
			resp, err := p.front.Do(ctx, http.MethodPatch, "/v2/app/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA", endless{})
			if err == nil {
				t.Fatalf("an unknown session took everything: %s, %v", resp.Status, resp.Body.Close())
			}
			if remote.Status(err) != http.StatusNotFound || !strings.Contains(err.Error(), "BLOB_UPLOAD_UNKNOWN") {
				t.Fatal(err)
			}
		}
	})
	t.Run("ranges", func(t *testing.T) {
		t.Parallel()
		const size = 3 << 20
		w := &wire{Registry: p.front.Registry, t: t}
		w.next, w.version = w.Client.Transport, "HTTP/2.0"
		w.Client = &http.Client{Transport: w}
		if err := w.stream("ranges", 7, size); err != nil {
			t.Fatal(err)
		}
	})
}

// TestProxyStreams shows that what a client sends arrives before it has sent all
// of it, so that no proxy has to have room for a layer.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	p := newProxied(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u, err := p.front.Repository("app").StartUpload(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(u.Location, "/v2/app/blobs/uploads/") {
		t.Fatalf("the session's location is %s, which a proxy can't be expected to understand", u.Location)
	}
	inside := remote.Upload{Registry: &p.back.Registry, Location: u.Location}
	first, second := image.RandomLayer(1, 2<<20), image.RandomLayer(2, 1<<20)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- u.Stream(ctx, r) }()
	if _, err := w.Write(first); err != nil {
		t.Fatal(err)
	}
	if err := p.back.Until(ctx, func(ctx context.Context) error {
		n, err := inside.Offset(ctx)
		if err == nil && n < len(first)/2 {
			err = fmt.Errorf("of %d bytes sent %d have arrived", len(first), n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(second); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	whole := bytes.Join([][]byte{first, second}, nil)
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(whole), Size: int64(len(whole))}
	if err := u.Commit(ctx, want.Digest, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := image.Verify(ctx, p.front.Repository("app"), want); err != nil {
		t.Fatal(err)
	}
}

// TestProxyTellsWhoAsks: the registry's log has the client's address and not the proxy's.
func TestProxyTellsWhoAsks(t *testing.T) {
	t.Parallel()
	p := newProxied(t)
	const client = "127.0.0.5"
	transport := registry.Trusting(t, p.front.CA)
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}).DialContext
	t.Cleanup(transport.CloseIdleConnections)
	from := remote.Registry{URL: p.front.URL, Client: &http.Client{Transport: transport}}
	signIn(&from, alice)
	a, err := ask(t.Context(), &from, http.MethodGet, "/v2/app/manifests/v1", "X-Forwarded-For", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.check(http.StatusNotFound); err != nil {
		t.Fatal(err)
	}
	p.back.Stop() // so that all is logged
	for line := range strings.Lines(p.back.Log()) {
		var access struct {
			Request struct {
				IP string `json:"client_ip"`
			}
			OCI struct{ User, Reference string }
		}
		if json.Unmarshal([]byte(line), &access) != nil || access.OCI.Reference != "v1" {
			continue
		}
		if access.Request.IP != client || access.OCI.User != alice.Username() {
			t.Errorf("asked by %q at %q, want %q at %q", access.OCI.User, access.Request.IP, alice.Username(), client)
		}
		return
	}
	t.Fatal("the access log doesn't have it")
}
