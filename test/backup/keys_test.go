//go:build real

package backup

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const withKeys = `{
	admin ADMIN
}
http://HOST {
	oci_registry {
		root %q
		state store
		auth {
			provider oci_htpasswd %q
			api_keys
			challenge basic
		}
		policy {
			allow pull push ** to authenticated
		}
	}
}`

// TestBackupOfKeys: with "state store" the keys of users are in the folder, and in its
// backups, where nobody else reads them.
func TestBackupOfKeys(t *testing.T) {
	t.Parallel()
	tool.Find(t, "rsync")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(users, fmt.Appendf(nil, "alice:%s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "registry")
	srv := registry.Config(t, fmt.Sprintf(withKeys, root, users))
	key := newKey(t, srv)
	for _, with := range []string{"rsync", "tar"} {
		to, restored := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
		run(t, commands(t, with, "/srv/registry", root, "/backup/registry", to))
		run(t, commands(t, "restore-"+with, "/srv/registry", restored, "/backup/registry", to))
		onlyForUs(t, filepath.Join(restored, "_state"))
		again := registry.Config(t, fmt.Sprintf(withKeys, restored, users))
		if err := as(again, key).Get(t.Context(), "/v2/"); err != nil {
			t.Errorf("%s: an API key isn't good after a restore: %v", with, err)
		}
		if err := as(again, key+"x").Get(t.Context(), "/v2/"); remote.Status(err) != http.StatusUnauthorized {
			t.Errorf("%s: a wrong key: %v", with, err)
		}
		again.Stop()
	}
}

// newKey creates an API key of alice's.
func newKey(t *testing.T, srv *registry.Server) string {
	t.Helper()
	const wanted = `{"scopes": [{"repositories": "**", "actions": ["pull"]}]}`
	resp, err := as(srv, "secret").Do(t.Context(), http.MethodPost, "/v2/_apikeys", strings.NewReader(wanted), "Content-Type", "application/json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ Key string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.Key == "" {
		t.Fatalf("no API key was made: %v", err)
	}
	return made.Key
}

// as is the registry for alice.
func as(srv *registry.Server, password string) *remote.Registry {
	return &remote.Registry{URL: srv.URL, Client: &http.Client{Transport: alice(password)}}
}

// alice signs requests with a password.
type alice string

// RoundTrip implements http.RoundTripper.
func (a alice) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("alice", string(a))
	return http.DefaultTransport.RoundTrip(r)
}

// onlyForUs fails unless there are files in dir that nobody else may read.
func onlyForUs(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %v, %v", dir, entries, err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), fi.Mode(), err)
		}
	}
}
