//go:build real

package edge

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestAutomaticHTTPS gets a certificate for a registry as Caddy does for any
// site, and uses it as strangers do, who trust nothing but the authority.
func TestAutomaticHTTPS(t *testing.T) {
	t.Parallel()
	for challenge, without := range map[string]string{"http-01": "tlsalpn", "tls-alpn-01": "http"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			plain, secure := registry.FreeAddress(t), registry.FreeAddress(t)
			ca := newPebble(t, port(t, plain), port(t, secure))
			root := t.TempDir()
			config := func(maxBlobSize string) string {
				return fmt.Sprintf(`{
					admin ADMIN
					http_port %d
					https_port %d
					default_bind 127.0.0.1
				}
				registry.example.test {
					tls {
						issuer acme {
							dir %s
							trusted_roots %q
							disable_%s_challenge
						}
					}
					oci_registry {
						root %q
						anonymous all
						max_blob_size %s
					}
				}`, port(t, plain), port(t, secure), ca.directory, ca.https, without, root, maxBlobSize)
			}
			caddy := registry.Program(t)
			srv := registry.Configure(t, caddy, config("10MiB"))
			s := site{srv, ca, newProxy(t, secure)}
			s.await(t)
			first := s.serial(t)
			if !strings.Contains(srv.Log(), `"challenge":"`+challenge+`"`) {
				t.Errorf("the authority didn't validate by %s", challenge)
			}
			s.pushAndPull(t)

			if err := srv.Reload(config("20MiB")); err != nil {
				t.Fatal(err)
			}
			s.await(t)
			s.Client.CloseIdleConnections() // one that was made during the reload would hold up the stop (https://go.dev/issue/81153)
			srv.Stop()
			s.Server = registry.Configure(t, caddy, config("30MiB"))
			s.await(t)
			if again := s.serial(t); again != first || ca.issued() != 1 {
				t.Errorf("after a reload and a restart the certificate is %s, was %s; %d were issued", again, first, ca.issued())
			}
		})
	}
}

const host = "registry.example.test"

// site is a registry at a name of its own.
type site struct {
	*registry.Server

	ca    *pebble
	proxy string // the URL of the proxy by which clients find the name
}

// await waits until the site has its certificate.
func (s *site) await(t *testing.T) {
	t.Helper()
	proxy, err := url.Parse(s.proxy)
	if err != nil {
		t.Fatal(err)
	}
	transport := registry.Trusting(t, s.ca.root)
	transport.Proxy = http.ProxyURL(proxy)
	t.Cleanup(transport.CloseIdleConnections)
	s.URL, s.Client = "https://"+host, &http.Client{Transport: transport}
	s.Await("/v2/")
}

// serial is the serial number of the certificate that the site shows.
func (s *site) serial(t *testing.T) string {
	t.Helper()
	resp, err := s.Do(t.Context(), http.MethodGet, "/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.TLS.PeerCertificates[0].SerialNumber.String()
}

// pushAndPull has a client that knows only the site's name push and pull.
func (s *site) pushAndPull(t *testing.T) {
	t.Helper()
	crane := tool.Find(t, "crane")
	crane.Env = append(crane.Env, "HTTPS_PROXY="+s.proxy, "SSL_CERT_FILE="+s.ca.root)
	c := image.Random(1, 2, 100_000)
	crane.Run("push", string(c.WriteLayout(t, "v1")), host+"/app:v1")
	pulled := filepath.Join(crane.Dir, "pulled")
	crane.Run("pull", "--format", "oci", host+"/app:v1", pulled)
	image.Layout(pulled).Check(t, "", c)
	s.Check("app", "v1", c)
}
