//go:build real

package rotation

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestClientCertificates has an authority go and another one come, by a reload, while
// the users of a third one push and pull. Who goes has connections that are open, or
// takes up a session of before.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, kept := tool.NewAuthority(t), tool.NewAuthority(t)
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	server.Certify(cert, key, "registry", net.IPv4(127, 0, 0, 1))
	pool := func(trusted ...*tool.Authority) string {
		var files []string
		for _, a := range trusted {
			files = append(files, a.File)
		}
		return strings.NewReplacer("ROOT", filepath.Join(dir, "registry"), "CERT", cert, "KEY", key,
			"POOL", strings.Join(files, " ")).Replace(byCertificate)
	}
	old, next := tool.NewAuthority(t), tool.NewAuthority(t)
	w := &world{T: t, Server: registry.Config(t, pool(kept, old))}
	w.URL = "https://" + w.Host
	patient := remote.NewSecurePatient(showing(t, server, kept))
	w.goOn(w.caller("one of an authority that stays", patient), w.caller("one more", remote.NewSecurePatient(showing(t, server, kept))))
	for range rounds() {
		resuming := showing(t, server, old)
		resuming.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		w.change(func() {
			if err := w.Reload(pool(kept, next)); err != nil {
				w.Error(err)
			}
		}, []*caller{w.caller("one of the new authority", remote.NewSecurePatient(showing(t, server, next)))}, []*caller{
			w.caller("one of the old authority", remote.NewSecurePatient(showing(t, server, old))),
			w.caller("one of the old authority, with a session", &http.Transport{TLSClientConfig: resuming, DisableKeepAlives: true}),
		})
		old, next = next, tool.NewAuthority(t)
	}
	w.Logf("%d requests sent again", patient.Resent.Load())
	w.stop()
}

const byCertificate = `{
	admin ADMIN
	auto_https disable_redirects
	servers {
		strict_sni_host insecure_off
	}
}
https://:PORT {
	bind 127.0.0.1
	tls CERT KEY {
		client_auth {
			mode verify_if_given
			trust_pool file POOL
		}
	}
	oci_registry {
		root ROOT
		anonymous none
		auth {
			provider oci_mtls
		}
	}
}
`

// showing is how a client connects that shows a certificate.
func showing(t *testing.T, server, by *tool.Authority) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	by.Certify(cert, key, "somebody")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	config := registry.Trusting(t, server.File).TLSClientConfig
	config.Certificates = []tls.Certificate{pair}
	return config
}

// isAlert reports whether a server didn't want a certificate.
func isAlert(err error) bool {
	said := fmt.Sprint(err) // the error of an alert from the other side has no type
	return strings.Contains(said, "remote error: tls: unknown certificate authority") || strings.Contains(said, "remote error: tls: bad certificate")
}
