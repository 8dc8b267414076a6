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
// stand for can be read anywhere.
func TestLoad(t *testing.T) {
	t.Parallel()
	caddy, hash := withAlice(t)
	root := filepath.Join(t.TempDir(), "content")
	rootFile := write(t, t.TempDir(), "root", []byte(root+"\n"))
	caddy.Env = append(caddy.Env, "REGISTRY_NAME=registry.example.com")
	srv := registry.Configure(t, caddy, "{\nadmin ADMIN\n}\n")

	raw, err := os.ReadFile(filepath.Join(tool.Root(t), "examples", "json", "caddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	config := replace(t, string(raw),
		`":443"`, `"`+srv.Host+`"`,
		`"registry.example.com"`, `"127.0.0.1"`,
		`"/srv/registry"}`, `"{file.`+rootFile+`}"}, "external_url": "http://{env.REGISTRY_NAME}"`,
		`"routes": [`, `"automatic_https": {"disable": true}, "logs": {}, "routes": [`,
		`"apps": {`, `"admin": {"listen": "`+strings.TrimPrefix(srv.Admin.URL, "http://")+`"}, "logging": {"logs": {"default": {"level": "DEBUG"}}}, "apps": {`)
	if err := load(t, srv, config); err != nil {
		t.Fatal(err)
	}
	c := image.Random(1, 2, 100_000)
	use := func(srv *registry.Server) {
		t.Helper()
		anonymous, err := ask(t.Context(), &srv.Registry, http.MethodGet, "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		if err := anonymous.check(http.StatusUnauthorized); err != nil {
			t.Error(err)
		}
		alices := srv.Registry
		signIn(&alices, alice)
		if err := alices.Repository("app").Push(t.Context(), c, "v1"); err != nil {
			t.Fatal(err)
		}
		if desc, err := alices.Repository("app").Verify(t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
			t.Fatalf("pulled %s, want %s: %v", desc.Digest, c.Digest, err)
		}
	}
	use(srv)
	if _, err := os.Stat(filepath.Join(root, "app", "index.json")); err != nil {
		t.Error(err)
	}
	a, err := ask(t.Context(), &srv.Admin, http.MethodGet, "/oci_registry/registries/inline")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Ready    bool
		External string `json:"external_url"`
		Storage  struct{ Identity string }
	}
	if err := json.Unmarshal(a.body, &status); err != nil || !status.Ready || status.Storage.Identity != root || status.External != "http://registry.example.com" {
		t.Errorf("the admin API has %s: %v", a.body, err)
	}

	t.Run("a file that's missing", func(t *testing.T) {
		err := load(t, srv, replace(t, config, rootFile, "/no/such/file"))
		if err == nil || !strings.Contains(err.Error(), `root \"{file./no/such/file}\"`) {
			t.Errorf("loaded, or without saying what's wrong: %v", err)
		}
		use(srv) // the old configuration goes on
	})

	saved := filepath.Join(caddy.Dir, ".config", "caddy", "autosave.json")
	secret := func(where, text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if strings.Contains(text, w) {
				t.Errorf("%s has %q", where, w)
			}
		}
	}
	password, _ := alice.Password()
	running, err := ask(t.Context(), &srv.Admin, http.MethodGet, "/config/")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	secret("/config/", string(running.body), hash, root, "registry.example.com")
	secret("autosave.json", string(kept), hash, root, "registry.example.com")
	srv.Stop()
	secret("the log", srv.Log(), hash, password, base64.StdEncoding.EncodeToString([]byte(alice.Username()+":"+password)))
	if !strings.Contains(srv.Log(), `"Authorization":["REDACTED"]`) {
		t.Error("the log doesn't have the requests that a password came with, so this test shows nothing")
	}

	srv.Server = caddy.Start("run", "--resume")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Until(ctx, func(ctx context.Context) error { return srv.Admin.Get(ctx, "/config/") }); err != nil {
		t.Fatal(err)
	}
	use(srv)
}

// load gives a Caddy that runs another configuration.
func load(t *testing.T, srv *registry.Server, config string) error {
	t.Helper()
	resp, err := srv.Admin.Do(t.Context(), http.MethodPost, "/load", strings.NewReader(config), "Content-Type", "application/json")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
