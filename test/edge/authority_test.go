//go:build real

package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// internal is a Caddyfile of a registry with a certificate of Caddy's own authority.
func internal(root string) string {
	return fmt.Sprintf(`{
		admin ADMIN
		persist_config off
		skip_install_trust
		auto_https disable_redirects
	}
	https://HOST {
		bind 127.0.0.1
		tls internal
		oci_registry {
			root %q
			anonymous all
		}
	}`, root)
}

// TestOwnAuthority has clients push and pull that were given the certificate of
// Caddy's own authority, as docs/clients.md says. Those that weren't don't.
func TestOwnAuthority(t *testing.T) {
	t.Parallel()
	srv := registry.Secure(t, internal(t.TempDir()))
	c := image.Random(1, 2, 100_000)
	layout := string(c.WriteLayout(t, "v1"))

	t.Run("crane", func(t *testing.T) {
		t.Parallel()
		crane := tool.Find(t, "crane")
		_, err := crane.Try("push", layout, srv.Ref("crane", "v1"))
		untrusted(t, err)
		crane.Env = append(crane.Env, "SSL_CERT_FILE="+srv.CA)
		crane.Run("push", layout, srv.Ref("crane", "v1"))
		srv.Check("crane", "v1", c)
		crane.Run("pull", "--format", "oci", srv.Ref("crane", "v1"), filepath.Join(crane.Dir, "pulled"))
		image.Layout(filepath.Join(crane.Dir, "pulled")).Check(t, "", c)
	})
	t.Run("skopeo", func(t *testing.T) {
		t.Parallel()
		skopeo := tool.Find(t, "skopeo")
		ref := "docker://" + srv.Ref("skopeo", "v1")
		_, err := skopeo.Try("copy", "--quiet", "oci:"+layout+":v1", ref)
		untrusted(t, err)
		dir := t.TempDir()
		if err := os.Symlink(srv.CA, filepath.Join(dir, "ca.crt")); err != nil {
			t.Fatal(err)
		}
		skopeo.Run("copy", "--quiet", "--preserve-digests", "--dest-cert-dir", dir, "oci:"+layout+":v1", ref)
		srv.Check("skopeo", "v1", c)
		pulled := image.Layout(t.TempDir())
		skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-cert-dir", dir, ref, "oci:"+string(pulled)+":v1")
		pulled.Check(t, "v1", c)
	})
}

// untrusted fails the test unless err says that a certificate isn't trusted.
func untrusted(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Fatalf("a client that doesn't trust the authority: %v", err)
	}
}
