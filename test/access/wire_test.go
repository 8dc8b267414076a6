//go:build real

package access

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// A client that trusts everything on loopback meets sites with certificates under other
// addresses, which are for documentation, and a proxy leads it here.
const (
	near = "127.0.4." // the way mtls
	afar = "192.0.2."
)

// wire is how a client reaches the site that it visits.
type wire struct {
	dir string // the folder with ca.crt, and with client.cert and client.key for who shows them; empty: no TLS
}

// has returns the path of a file, or nothing if it isn't there.
func (w *wire) has(name string) string {
	path := filepath.Join(w.dir, name)
	if _, err := os.Stat(path); w.dir == "" || err != nil {
		return ""
	}
	return path
}

// read returns a file, or nothing if it isn't there.
func (w *wire) read(name string) string {
	path := w.has(name)
	if path == "" {
		return ""
	}
	b, _ := os.ReadFile(path) // which the client is going to miss
	return string(b)
}

// verify is the flag of podman's kind, about a registry that's the source or the target.
func (w *wire) verify(which string) []string {
	if w.dir == "" {
		return []string{"--" + which + "tls-verify=false"}
	}
	return []string{"--" + which + "cert-dir", w.dir}
}

// files are the flags of oras and helm.
func (w *wire) files(which string) []string {
	if w.dir == "" {
		return []string{"--" + which + "plain-http"}
	}
	flags := []string{"--" + which + "plain-http=false", "--" + which + "ca-file", w.has("ca.crt")}
	if cert := w.has("client.cert"); cert != "" {
		flags = append(flags, "--"+which+"cert-file", cert, "--"+which+"key-file", w.has("client.key"))
	}
	return flags
}

// hosts is the flag of ctr, with a folder as nodes of Kubernetes have it.
func (w *wire) hosts(t *testing.T) []string {
	t.Helper()
	if w.dir == "" {
		return []string{"--plain-http"}
	}
	config := fmt.Sprintf("ca = %q\n", w.has("ca.crt"))
	if cert := w.has("client.cert"); cert != "" {
		config += fmt.Sprintf("client = [[%q, %q]]\n", cert, w.has("client.key"))
	}
	dir := filepath.Join(w.dir, "hosts")
	every := filepath.Join(dir, "_default")
	if err := os.MkdirAll(every, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(every, "hosts.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--hosts-dir", dir}
}

// tls is what regctl calls it.
func (w *wire) tls() string {
	if w.dir == "" {
		return "disabled"
	}
	return "enabled"
}

// byCertificate makes a client sign in to a site by a certificate, of an authority that
// the site doesn't know if the secret is wrong.
func (w *wire) byCertificate(t *testing.T, c client, s site) client {
	t.Helper()
	w.dir = t.TempDir()
	if err := os.Symlink(s.authority.File, filepath.Join(w.dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	another := tool.NewAuthority(t)
	cert, key := filepath.Join(w.dir, "client.cert"), filepath.Join(w.dir, "client.key")
	c.trusting = true
	c.login = func(_, user, secret string) error {
		by := s.authority
		if secret == wrong {
			by = another
		}
		by.Certify(cert, key, user)
		return nil
	}
	c.logout = func(string) {
		for _, file := range []string{cert, key} {
			if err := os.Remove(file); err != nil {
				t.Error(err)
			}
		}
	}
	return c
}

// far returns the site as it's called from afar.
func (s site) far() site {
	server := *s.Server
	server.Host = strings.Replace(s.Host, near, afar, 1)
	s.Server = &server
	return s
}
