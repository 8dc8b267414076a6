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

	"github.com/caddy-oci/oci-registry/internal/command/serve"
)

func TestServe(t *testing.T) {
	w := newWeb(t)
	s := serve.Server{Listen: w.addr, Root: filepath.Join(t.TempDir(), "registry"), Module: serveModule}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(s.Config()); err != nil {
		t.Fatal(err)
	}
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	if a := w.want(t, http.StatusOK, http.MethodGet, "/", ""); !strings.Contains(a.body, "docker push "+w.addr) {
		t.Fatalf("the page is %s", a.body)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/health/readyz", "")
	if _, err := os.Stat(filepath.Join(s.Root, "a", "index.json")); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusMisdirectedRequest, http.MethodGet, "/v2/_catalog", "", "Host", "a.page.example") // which points here
	twice := serve.Server{Listen: w.addr, Root: t.TempDir(), Module: serveModule}
	if err := twice.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "something else listens on "+w.addr) {
		t.Fatalf("a second one on the address: %v", err)
	}
}

func TestServeReadOnly(t *testing.T) {
	w := newWeb(t)
	s := serve.Server{Listen: w.addr, Root: t.TempDir(), ReadOnly: true, Module: serveModule}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(s.Config()); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/v2/a/blobs/uploads/", "")
}

// Each connection comes as the kernel's own, or nothing is sent by sendfile:
// Caddy wraps those of a server that has a protocol for plain connections and
// not the other.
func TestServeSendsFiles(t *testing.T) {
	w := newWeb(t)
	s := serve.Server{Listen: w.addr, Root: t.TempDir(), Module: serveModule}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := s.Config()
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

// What the greeting shows as a Caddyfile is one.
func TestServeGreetingShowsACaddyfile(t *testing.T) {
	t.Parallel()
	s := serve.Server{Listen: ":5000", Root: "/srv/registry", Module: serveModule}
	var site []string
	for indented := range strings.Lines(s.Greeting()) {
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
