//go:build real

package backup

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	const wanted = `{"scopes": [{"repositories": "**", "actions": ["pull"]}]}`
	_, key, err := remote.As(srv.URL, remote.Basic("alice", "secret")).NewAPIKey(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{"rsync", "tar"} {
		to, restored := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "restored")
		run(t, commands(t, with, "/srv/registry", root, "/backup/registry", to))
		run(t, commands(t, "restore-"+with, "/srv/registry", restored, "/backup/registry", to))
		onlyForUs(t, filepath.Join(restored, "_state"))
		again := registry.Config(t, fmt.Sprintf(withKeys, restored, users))
		if err := remote.As(again.URL, remote.Basic("alice", key)).Get(t.Context(), "/v2/"); err != nil {
			t.Errorf("%s: an API key isn't good after a restore: %v", with, err)
		}
		if err := remote.As(again.URL, remote.Basic("alice", key+"x")).Get(t.Context(), "/v2/"); remote.Status(err) != http.StatusUnauthorized {
			t.Errorf("%s: a wrong key: %v", with, err)
		}
		again.Stop()
	}
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
