package ociregistry

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func TestServe(t *testing.T) {
	w := newWeb(t)
	s := server{listen: w.addr, root: filepath.Join(t.TempDir(), "registry")}
	if err := s.setDefaults(); err != nil {
		t.Fatal(err)
	}
	if err := s.checkFree(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(s.config()); err != nil {
		t.Fatal(err)
	}
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	if a := w.want(t, http.StatusOK, http.MethodGet, "/", ""); !strings.Contains(a.body, "docker push "+w.addr) {
		t.Fatalf("the page is %s", a.body)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/health/readyz", "")
	if _, err := os.Stat(filepath.Join(s.root, "a", "index.json")); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusMisdirectedRequest, http.MethodGet, "/v2/_catalog", "", "Host", "a.page.example") // which points here
	twice := server{listen: w.addr}
	if err := twice.checkFree(t.Context()); err == nil || !strings.Contains(err.Error(), "something else listens on "+w.addr) {
		t.Fatalf("a second one on the address: %v", err)
	}
}

func TestServeReadOnly(t *testing.T) {
	w := newWeb(t)
	s := server{listen: w.addr, root: t.TempDir(), readOnly: true}
	if err := s.setDefaults(); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(s.config()); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/v2/a/blobs/uploads/", "")
}

// Each connection comes as the kernel's own, or nothing is sent by sendfile:
// Caddy wraps those of a server that has a protocol for plain connections and
// not the other.
func TestServeSendsFiles(t *testing.T) {
	w := newWeb(t)
	s := server{listen: w.addr, root: t.TempDir()}
	if err := s.setDefaults(); err != nil {
		t.Fatal(err)
	}
	config := s.config()
	var app caddyhttp.App
	if err := json.Unmarshal(config.AppsRaw["http"], &app); err != nil {
		t.Fatal(err)
	}
	web := app.Servers["registry"]
	web.Routes = slices.Insert(web.Routes, 0, caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"seen"}`)}})
	config.AppsRaw["http"] = caddyconfig.JSON(app, nil)
	if err := caddy.Run(config); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	if conn := *seenConn.Load(); reflect.TypeOf(conn) != reflect.TypeFor[*net.TCPConn]() {
		t.Fatalf("a connection is a %T", conn)
	}
}

// Who may push without signing in hangs on the address, and what is printed says it.
func TestServeGreeting(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		server    server
		anonymous authz.Anonymous
		want      []string
		absent    []string
	}{
		{
			"default",
			server{},
			authz.AnonymousAll,
			[]string{"listens on  http://127.0.0.1:5000\n", "docker push localhost:5000/hello", "stores in   " + mustCanonical(t, defaultRoot())},
			[]string{"insecure-registries", "basic_auth"},
		}, {
			"IPv6",
			server{listen: "[::1]:5001"},
			authz.AnonymousAll,
			[]string{"http://[::1]:5001\n", "docker push localhost:5001/hello"},
			nil,
		}, {
			"no port",
			server{listen: "127.0.0.2"},
			authz.AnonymousAll,
			[]string{"http://127.0.0.2:5000\n"},
			nil,
		}, {
			"everywhere",
			server{listen: ":5000", root: "/srv/registry"},
			authz.AnonymousPull,
			[]string{"nobody may push", "basic_auth", "http://:5000 {", "port 5000 of every address", "HOST is what clients call this machine", "root /srv/registry", `{"insecure-registries": ["HOST:5000"]}`},
			nil,
		}, {
			"one address",
			server{listen: "192.0.2.1:80"},
			authz.AnonymousPull,
			[]string{"listens on  http://192.0.2.1:80\n", `{"insecure-registries": ["192.0.2.1:80"]}`},
			nil,
		}, {
			"domain",
			server{domain: "registry.example.com"},
			authz.AnonymousPull,
			[]string{"listens on  https://registry.example.com\n", "registry.example.com {", "nobody may push"},
			[]string{"insecure-registries", "http://"},
		}, {
			"domain and port",
			server{domain: "registry.example.com", listen: ":8443"},
			authz.AnonymousPull,
			[]string{"listens on  https://registry.example.com:8443\n"},
			[]string{"insecure-registries"},
		}, {
			"read-only",
			server{listen: ":5000", readOnly: true},
			authz.AnonymousPull,
			[]string{"read-only", "docker pull HOST:5000/hello"},
			[]string{"docker push", "basic_auth"},
		}, {
			"socket",
			server{listen: "unix//run/registry.sock"},
			authz.AnonymousPull,
			[]string{"listens on  unix//run/registry.sock\n", "nobody may push"},
			nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if err := tc.server.setDefaults(); err != nil {
				t.Fatal(err)
			}
			if got := tc.server.anonymous(); got != tc.anonymous {
				t.Errorf("anonymous %s, want %s", got, tc.anonymous)
			}
			got := tc.server.greeting()
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			for _, absent := range tc.absent {
				if strings.Contains(got, absent) {
					t.Errorf("%q in\n%s", absent, got)
				}
			}
		})
	}
}

// What the greeting shows as a Caddyfile is one.
func TestServeGreetingShowsACaddyfile(t *testing.T) {
	t.Parallel()
	s := server{listen: ":5000", root: "/srv/registry"}
	if err := s.setDefaults(); err != nil {
		t.Fatal(err)
	}
	var site []string
	for indented := range strings.Lines(s.greeting()) {
		line, ok := strings.CutPrefix(indented, "  ")
		if ok && (len(site) > 0 && site[len(site)-1] != "}\n" || strings.HasSuffix(line, " {\n")) {
			site = append(site, line)
		}
	}
	in := strings.Replace(strings.Join(site, ""), "HASH", "$2a$04$RmShXd8s2Lp8w5jz7ApfI.FFc3/Bqyh7HP.suzhD.PMKZYbOCvB6K", 1)
	if out, err := adapt(t, in); err != nil || !strings.Contains(out, `"/srv/registry"`) {
		t.Fatalf("%s\n%v %s", in, err, out)
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", taken.Addr().String()}, "something else listens on " + taken.Addr().String() + " already"},
		{[]string{"--listen", "localhost:port"}, "--listen:"},
		{[]string{"--root", "/dev/null/registry"}, "--root:"},
		{[]string{"extra"}, "unknown command"},
		{[]string{"--rot"}, "unknown flag"},
	} {
		if _, err := runCommand(t, append([]string{"serve"}, tc.args...)...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("serve %v: %v, want %s", tc.args, err, tc.want)
		}
	}
}

func mustCanonical(t *testing.T, folder string) string {
	t.Helper()
	folder, err := filesystem.Canonical(folder)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}
