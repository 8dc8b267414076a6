//go:build real

package edge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestSites serves one registry among other things, in every way that a
// Caddyfile has of choosing between them.
func TestSites(t *testing.T) {
	t.Parallel()
	const website = `respond "website"`
	sites := map[string]string{
		"alone":   "oci_registry main\n" + website,
		"handle":  "handle /v2* {\noci_registry main\n}\nhandle {\n" + website + "\n}",
		"slash":   "handle /v2/* {\noci_registry main\n}\nhandle {\n" + website + "\n}",
		"route":   "route {\n@nobody client_ip 192.0.2.1\nrespond @nobody 403\noci_registry main\n" + website + "\n}",
		"path":    "oci_registry /v2* main\n" + website,
		"matcher": "@registry {\npath /v2 /v2/*\nclient_ip 127.0.0.0/8\n}\noci_registry @registry main\n" + website,
		"header":  "header {\nStrict-Transport-Security max-age=1\n-Server\nCache-Control no-store\n}\nlog\noci_registry main\n" + website,
		"rewrite": "try_files {path} /index.html\nhandle /v2* {\noci_registry main\n}\nhandle {\n" + website + "\n}",
	}
	config := fmt.Sprintf("{\nadmin ADMIN\npersist_config off\noci_registry {\nregistry main {\nroot %q\nanonymous all\n}\n}\n}\n", t.TempDir())
	for name, site := range sites {
		config += fmt.Sprintf("http://%s.test:PORT {\nbind 127.0.0.1\n%s\n}\n", name, site)
	}
	srv := registry.Config(t, config)
	c := image.Random(1, 2, 100_000)
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := named(t, srv, name+".test")
			to := r.Repository(name)
			if err := to.Push(t.Context(), c, "v1"); err != nil {
				t.Fatal(err)
			}
			if desc, err := to.Verify(t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
				t.Fatalf("pulled %s, want %s: %v", desc.Digest, c.Digest, err)
			}
			for path, want := range map[string]string{
				"/v2/":                     "application/json",
				"/v2/" + name + "/missing": "application/json",
				"/":                        "text/plain; charset=utf-8",
				"/v1/search":               "text/plain; charset=utf-8",
				"/v22":                     "text/plain; charset=utf-8",
			} {
				if path == "/v22" && strings.Contains(site, "handle /v2*") {
					want = "" // the block has it, and nobody in there
				}
				a, err := ask(t.Context(), r, http.MethodGet, path)
				if err != nil {
					t.Fatal(err)
				}
				if got := a.Header.Get("Content-Type"); got != want {
					t.Errorf("%s is %s %q, want %q: %s", path, a.Status, got, want, a.body)
				}
			}
		})
	}
}

// named is the site of srv that has a host name.
func named(t *testing.T, srv *registry.Server, name string) *remote.Registry {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, srv.Host)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &remote.Registry{URL: "http://" + name, Client: &http.Client{Transport: transport}}
}

// TestBelowAnotherPath shows what becomes of a registry below a path: it can be
// read there, by who knows that. But a client that is told HOST/registry/app asks
// for the repository registry/app, at the root of the host; and an upload's
// location is there too.
func TestBelowAnotherPath(t *testing.T) {
	t.Parallel()
	srv := registry.Config(t, fmt.Sprintf(`{
		admin ADMIN
		persist_config off
		oci_registry {
			registry main {
				root %q
				anonymous all
			}
		}
	}
	http://HOST {
		bind 127.0.0.1
		handle_path /registry/* {
			oci_registry main
		}
		respond 404
	}
	http://root.test:PORT {
		bind 127.0.0.1
		oci_registry main
	}`, t.TempDir()))
	c := image.Random(1, 2, 100_000)
	root := named(t, srv, "root.test")
	if err := root.Repository("app").Push(t.Context(), c, "v1"); err != nil {
		t.Fatal(err)
	}

	below := srv.Registry
	below.Client = &http.Client{Transport: prefixed("/registry")}
	if desc, err := below.Repository("app").Verify(t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
		t.Fatalf("pulled %s, want %s: %v", desc.Digest, c.Digest, err)
	}
	u, err := below.Repository("app").StartUpload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(u.Location, "/v2/app/blobs/uploads/") {
		t.Errorf("the session's location is %s", u.Location)
	}
	if err := srv.Get(t.Context(), u.Location); remote.Status(err) != http.StatusNotFound {
		t.Errorf("the session is found where its location is: %v", err)
	}

	crane := tool.Find(t, "crane")
	if _, err := crane.Try("manifest", srv.Ref("registry/app", "v1")); err == nil {
		t.Error("a client finds the registry below a path")
	}
}

// prefixed is a client that puts a path before each other one.
type prefixed string

// RoundTrip implements http.RoundTripper.
func (p prefixed) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Path = string(p) + req.URL.Path
	return http.DefaultTransport.RoundTrip(req)
}
