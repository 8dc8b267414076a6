//go:build real

package edge

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// pebble is a certificate authority that speaks ACME. It gives no certificate
// before it has seen that who asks for it has the name, and finds every name on
// this machine.
type pebble struct {
	*tool.Server

	directory string // the URL at which ACME begins
	https     string // the file with the certificate that it has there
	root      string // the file with that of the authority
}

// newPebble starts an authority that validates at two ports, those of http and https.
func newPebble(t *testing.T, httpPort, tlsPort int) *pebble {
	t.Helper()
	dns, program := tool.Find(t, "pebble-challtestsrv"), tool.Find(t, "pebble")
	resolver, listen, manage := registry.FreeAddress(t), registry.FreeAddress(t), registry.FreeAddress(t)
	dns.Start("-dnsserver", resolver, "-defaultIPv6", "", "-management", registry.FreeAddress(t), "-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", "")

	p := &pebble{directory: "https://" + listen + "/dir"}
	var key string
	p.https, key = selfSigned(t, program.Dir)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": p.https, "privateKey": key,
		"httpPort": httpPort, "tlsPort": tlsPort, "keyAlgorithm": "ecdsa",
	}})
	if err != nil {
		t.Fatal(err)
	}
	// Otherwise it waits for some seconds, and refuses some of what is right.
	program.Env = append(program.Env, "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	p.Server = program.Start("-config", write(t, program.Dir, "pebble.json", config), "-dnsserver", resolver)

	management := remote.Registry{URL: "https://" + manage, Client: &http.Client{Transport: registry.Trusting(t, p.https)}}
	var root []byte
	ctx, cancel := context.WithTimeout(t.Context(), program.Limit)
	defer cancel()
	if err := p.Until(ctx, func(ctx context.Context) error {
		resp, err := management.Do(ctx, http.MethodGet, "/roots/0", nil)
		if err != nil {
			return err
		}
		root, err = io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close())
	}); err != nil {
		t.Fatal(err)
	}
	p.root = write(t, program.Dir, "root.pem", root)
	return p
}

// issued counts the certificates that were given.
func (p *pebble) issued() int { return strings.Count(p.Log(), "Issued certificate serial") }

// selfSigned writes the certificate of 127.0.0.1 that net/http tests with.
func selfSigned(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	pair := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate = write(t, dir, "https.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	return certificate, write(t, dir, "https.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// newProxy returns the URL of a proxy that clients can ask for any name: it
// connects them to addr. So no name has to be in a name server.
func newProxy(t *testing.T, addr string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		to, err := new(net.Dialer).DialContext(r.Context(), "tcp", addr)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		go func() { _, _ = io.Copy(to, buffered) }()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}
