//go:build real

package edge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestLoad gives a Caddy that runs the configuration of examples/json, in which
// the root, the password's hash and the URL are placeholders. None of what they
// stand for can be read anywhere, and it's there again when Caddy resumes.
func TestLoad(t *testing.T) {
	t.Parallel()
	const name = "registry.example.com"
	root := filepath.Join(t.TempDir(), "content")
	rootFile := write(t, t.TempDir(), "root", []byte(root+"\n"))
	caddy, hash := withAlice(t)
	caddy.Env = append(caddy.Env, "REGISTRY_NAME="+name)
	srv := registry.Configure(t, caddy, "{\nadmin ADMIN\n}\n")
	raw, err := os.ReadFile(filepath.Join(tool.Root(t), "examples", "json", "caddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	config := replace(t, string(raw),
		`":443"`, `"`+srv.Host+`"`,
		`"`+name+`"`, `"127.0.0.1"`,
		`"/srv/registry"}`, `"{file.`+rootFile+`}"}, "external_url": "http://{env.REGISTRY_NAME}"`,
		`"routes": [`, `"automatic_https": {"disable": true}, "logs": {}, "routes": [`,
		`"apps": {`, `"admin": {"listen": "`+strings.TrimPrefix(srv.Admin.URL, "http://")+`"}, "logging": {"logs": {"default": {"level": "DEBUG"}}}, "apps": {`)
	if err := srv.ReloadJSON(config); err != nil {
		t.Fatal(err)
	}
	usable(t, srv)
	if _, err := os.Stat(filepath.Join(root, "app", "index.json")); err != nil {
		t.Error(err)
	}
	wantStatus(t, srv, root, "http://"+name)

	err = srv.ReloadJSON(replace(t, config, rootFile, "/no/such/file"))
	if err == nil || !strings.Contains(err.Error(), `root \"{file./no/such/file}\"`) {
		t.Errorf("a file that's missing: %v", err)
	}
	usable(t, srv) // the old configuration goes on

	saved, err := os.ReadFile(filepath.Join(caddy.Dir, ".config", "caddy", "autosave.json"))
	if err != nil {
		t.Fatal(err)
	}
	hasNone(t, "/config/", read(t, srv, "/config/"), hash, root, name)
	hasNone(t, "autosave.json", string(saved), hash, root, name)
	srv.Stop() // so that all is logged
	password, _ := alice.Password()
	hasNone(t, "the log", srv.Log(), hash, password, base64.StdEncoding.EncodeToString([]byte(alice.Username()+":"+password)))
	if !strings.Contains(srv.Log(), `"Authorization":["REDACTED"]`) {
		t.Error("the log doesn't have the requests that a password came with, so this test shows nothing")
	}

	srv.Server = caddy.Start("run", "--resume")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Until(ctx, func(ctx context.Context) error { return srv.Admin.Get(ctx, "/config/") }); err != nil {
		t.Fatal(err)
	}
	usable(t, srv)
}

// wantStatus fails unless the registry is ready, with this root and URL.
func wantStatus(t *testing.T, srv *registry.Server, root, external string) {
	t.Helper()
	var status struct {
		Ready    bool
		External string `json:"external_url"`
		Storage  struct{ Identity string }
	}
	said := read(t, srv, "/oci_registry/registries/inline")
	if err := json.Unmarshal([]byte(said), &status); err != nil {
		t.Fatal(err)
	}
	if !status.Ready || status.Storage.Identity != root || status.External != external {
		t.Errorf("the admin API has %s", said)
	}
}

// read returns what the admin endpoint has at a path.
func read(t *testing.T, srv *registry.Server, path string) string {
	t.Helper()
	a, err := ask(t.Context(), &srv.Admin, http.MethodGet, path)
	if err == nil {
		err = a.check(http.StatusOK)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(a.body)
}

// usable fails the test unless alice, and nobody else, can push and pull.
func usable(t *testing.T, srv *registry.Server) {
	t.Helper()
	a, err := ask(t.Context(), &srv.Registry, http.MethodGet, "/v2/")
	if err == nil {
		err = a.check(http.StatusUnauthorized)
	}
	if err != nil {
		t.Error(err)
	}
	signedIn := srv.Registry
	signIn(&signedIn, alice)
	c := image.Random(1, 2, 100_000)
	if err := signedIn.Repository("app").Push(t.Context(), c, "v1"); err != nil {
		t.Fatal(err)
	}
	if desc, err := signedIn.Repository("app").Verify(t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
		t.Fatalf("pulled %s, want %s: %v", desc.Digest, c.Digest, err)
	}
}

// hasNone fails the test if a text has one of the words.
func hasNone(t *testing.T, where, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(text, w) {
			t.Errorf("%s has %q", where, w)
		}
	}
}
