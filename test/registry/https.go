//go:build real

package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/remote"
)

// HTTPS starts a site with a certificate of Caddy's own authority. name is what
// clients call this machine, a name or an address; the site listens on loopback
// whatever it is. directives are what the site has.
func HTTPS(t *testing.T, name, directives string) *Server {
	t.Helper()
	caddy := Program(t)
	return start(t, caddy, func(s *Server) ([]string, func(context.Context) error) {
		_, port, _ := strings.Cut(s.Address, ":")
		s.Host = net.JoinHostPort(name, port)
		s.URL, s.CA = "https://"+s.Host, filepath.Join(caddy.Dir, caFile)
		s.Client = &http.Client{Transport: finding(t, s.CA, name, s.Address)}
		config := strings.NewReplacer("HOST", s.Host, "NAME", name, "DIRECTIVES", directives).Replace(secure)
		return runCaddyfile(t, caddy.Dir, config), s.answers
	})
}

// secure would put Caddy's authority into the list of those that this machine
// trusts, were it not told to skip that.
const secure = `{
	admin off
	skip_install_trust
	auto_https disable_redirects
	default_sni NAME
}
https://HOST {
	bind 127.0.0.1
	tls internal
	DIRECTIVES
}
`

// finding returns a transport that finds the server name at an address, speaks
// HTTP/2 if the server does, and believes one authority: that in the file ca,
// which Caddy writes while it starts.
func finding(t *testing.T, ca, name, address string) *http.Transport {
	t.Helper()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		roots, err := authority(ca)
		if err != nil {
			return nil, err
		}
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2", "http/1.1"}}}
		return d.DialContext(ctx, network, address)
	}
	transport := &http.Transport{DialTLSContext: dial, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// caFile is where Caddy keeps the certificate of its own authority, in its home.
const caFile = ".local/share/caddy/pki/authorities/local/root.crt"

// Secure is Config for a site at https://HOST that has 'tls internal'. The
// server's client trusts the authority that Caddy makes for that, and no other.
func Secure(t *testing.T, caddyfile string) *Server {
	t.Helper()
	caddy := Program(t)
	s := Configure(t, caddy, caddyfile)
	s.URL, s.CA = "https://"+s.Host, filepath.Join(caddy.Dir, caFile)
	transport := Trusting(t, s.CA)
	t.Cleanup(transport.CloseIdleConnections)
	s.Client = &http.Client{Transport: transport}
	s.wait(s.answers) // its certificate comes a moment after Caddy runs
	return s
}

// answers fails unless there's an answer, whatever it is.
func (s *Server) answers(ctx context.Context) error {
	if err := s.Get(ctx, "/v2/"); remote.Status(err) == 0 {
		return err
	}
	return nil
}

// Trusting returns a transport, for HTTP/1 and HTTP/2, that trusts the authority
// whose certificate is in the file ca, and no other.
func Trusting(t *testing.T, ca string) *http.Transport {
	t.Helper()
	roots, err := authority(ca)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
}

// authority reads a certificate that is to be trusted.
func authority(ca string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	return roots, nil
}
