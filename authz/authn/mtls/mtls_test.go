package mtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/mtls"
)

// cert is a certificate with all kinds of names in it.
func cert(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{
			CommonName: "alice", Organization: []string{"Example"}, OrganizationalUnit: []string{"ops", "release"},
		},
		DNSNames:       []string{"ci.example.org", "ci.example.com"},
		EmailAddresses: []string{"alice@example.org"},
		URIs:           []*url.URL{uri(t, "spiffe://example.org/ns/prod/sa/builder")},
		NotBefore:      time.Now().Add(-time.Hour),
		NotAfter:       time.Now().Add(time.Hour),
	}
	if change != nil {
		change(c)
	}
	return c
}

func uri(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// request came over a connection in this state.
func request(t testing.TB, state *tls.ConnectionState) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = state
	return r
}

func verified(c ...*x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: c[:1], VerifiedChains: [][]*x509.Certificate{c}}
}

func method(t testing.TB, opts mtls.Options) *mtls.Method {
	t.Helper()
	m, err := mtls.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func attributes(a ...mtls.Attribute) []mtls.Attribute { return a }

func TestNames(t *testing.T) {
	t.Parallel()
	const domain = "example.org"
	for name, c := range map[string]struct {
		attributes []mtls.Attribute
		change     func(*x509.Certificate)
		want       string // nothing is refused
	}{
		"default":                 {nil, nil, "alice"},
		"common name":             {attributes(mtls.Attribute{Kind: mtls.CommonName}), nil, "alice"},
		"subject":                 {attributes(mtls.Attribute{Kind: mtls.Subject}), nil, "CN=alice,OU=ops+OU=release,O=Example"},
		"organization":            {attributes(mtls.Attribute{Kind: mtls.Organization}), nil, "Example"},
		"unit":                    {attributes(mtls.Attribute{Kind: mtls.OrganizationalUnit}), nil, "ops"},
		"DNS":                     {attributes(mtls.Attribute{Kind: mtls.DNS}), nil, "ci.example.org"},
		"email":                   {attributes(mtls.Attribute{Kind: mtls.Email}), nil, "alice@example.org"},
		"URI":                     {attributes(mtls.Attribute{Kind: mtls.URI}), nil, "spiffe://example.org/ns/prod/sa/builder"},
		"SPIFFE":                  {attributes(mtls.Attribute{Kind: mtls.SPIFFE, TrustDomain: domain}), nil, "spiffe://example.org/ns/prod/sa/builder"},
		"the second DNS name":     {attributes(mtls.Attribute{Kind: mtls.DNS, Index: 2}), nil, "ci.example.com"},
		"a third there isn't":     {attributes(mtls.Attribute{Kind: mtls.DNS, Index: 3}), nil, ""},
		"the one that matches":    {attributes(mtls.Attribute{Kind: mtls.DNS, Pattern: `.*\.com`}), nil, "ci.example.com"},
		"a group":                 {attributes(mtls.Attribute{Kind: mtls.Email, Pattern: `([^@]+)@example\.org`}), nil, "alice"},
		"the first group":         {attributes(mtls.Attribute{Kind: mtls.URI, Pattern: `spiffe://[^/]+/ns/(.*)/sa/(.*)`}), nil, "prod"},
		"a group of a SPIFFE ID":  {attributes(mtls.Attribute{Kind: mtls.SPIFFE, TrustDomain: domain, Pattern: `.*/sa/(.*)`}), nil, "builder"},
		"an empty group":          {attributes(mtls.Attribute{Kind: mtls.CommonName, Pattern: `(x?).*`}), nil, ""},
		"index and pattern":       {attributes(mtls.Attribute{Kind: mtls.DNS, Index: 1, Pattern: `.*\.com`}), nil, ""},
		"the first that has one":  {attributes(mtls.Attribute{Kind: mtls.Email, Pattern: "bob@.*"}, mtls.Attribute{Kind: mtls.DNS}, mtls.Attribute{Kind: mtls.CommonName}), nil, "ci.example.org"},
		"no common name":          {nil, func(c *x509.Certificate) { c.Subject.CommonName = "" }, ""},
		"no mail address":         {attributes(mtls.Attribute{Kind: mtls.Email}), func(c *x509.Certificate) { c.EmailAddresses = nil }, ""},
		"an empty subject":        {attributes(mtls.Attribute{Kind: mtls.Subject}), func(c *x509.Certificate) { c.Subject = pkix.Name{} }, ""},
		"control characters":      {nil, func(c *x509.Certificate) { c.Subject.CommonName = "alice\nbob" }, ""},
		"a NUL":                   {nil, func(c *x509.Certificate) { c.Subject.CommonName = "alice\x00.evil.example" }, ""},
		"no UTF-8":                {nil, func(c *x509.Certificate) { c.Subject.CommonName = "alic\xe9" }, ""},
		"a pattern matches whole": {attributes(mtls.Attribute{Kind: mtls.CommonName, Pattern: "alice|bob"}), func(c *x509.Certificate) { c.Subject.CommonName = "alice2" }, ""},
		"and not somewhere": {
			attributes(mtls.Attribute{Kind: mtls.URI, Pattern: `spiffe://example\.org/(.*)`}),
			func(c *x509.Certificate) {
				c.URIs = []*url.URL{uri(t, "https://evil.example/?spiffe://example.org/root")}
			}, "",
		},
		"another line": {
			attributes(mtls.Attribute{Kind: mtls.CommonName, Pattern: `(?m)^(alice)$(\nx)?`}),
			func(c *x509.Certificate) { c.Subject.CommonName = "alice\nx" }, "",
		},
	} {
		who, found, err := method(t, mtls.Options{Attributes: c.attributes}).Identify(request(t, verified(cert(t, c.change))))
		if !found || who.ID != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %q, %t, %v; want %q", name, who.ID, found, err, c.want)
		}
		if err == nil && who.Provider != "mtls" {
			t.Errorf("%s: known by %q", name, who.Provider)
		}
	}
}

func TestSPIFFE(t *testing.T) {
	t.Parallel()
	m := method(t, mtls.Options{Attributes: attributes(mtls.Attribute{Kind: mtls.SPIFFE, TrustDomain: "example.org"})})
	for ids, known := range map[string]bool{
		"spiffe://example.org/a":                        true,
		"spiffe://example.org/a/B.-_9":                  true,
		"spiffe://example.org/":                         false,
		"spiffe://example.org":                          false,
		"spiffe://example.org/a/":                       false,
		"spiffe://example.org/a//b":                     false,
		"spiffe://example.org/../a":                     false,
		"spiffe://example.org/./a":                      false,
		"spiffe://example.org/%61":                      false,
		"spiffe://example.org/a%2fb":                    false,
		"spiffe://example.org/a?b":                      false,
		"spiffe://example.org/a?":                       false,
		"spiffe://example.org/a#b":                      false,
		"spiffe://example.org/\u212a":                   false, // which is k in lower case
		"spiffe://example.org:443/a":                    false,
		"spiffe://alice@example.org/a":                  false,
		"spiffe://EXAMPLE.org/a":                        false,
		"spiffe://evil.example.org/a":                   false,
		"spiffe://example.org.evil/a":                   false,
		"spiffe://evil/example.org/a":                   false,
		"https://example.org/a":                         false,
		"spiffe:example.org/a":                          false,
		"spiffe:///a":                                   false,
		"spiffe://example.org/a spiffe://example.org/b": false, // an SVID has one
		"https://example.org/ spiffe://example.org/a":   false,
		"": false,
	} {
		c := cert(t, func(c *x509.Certificate) {
			c.URIs = nil
			for id := range strings.FieldsSeq(ids) {
				c.URIs = append(c.URIs, uri(t, id))
			}
		})
		who, found, err := m.Identify(request(t, verified(c)))
		if !found || (err == nil) != known || known && who.ID != ids || !known && (!errors.Is(err, authn.ErrRefused) || !who.IsAnonymous()) {
			t.Errorf("%s: %q, %t, %v; known: want %t", ids, who.ID, found, err, known)
		}
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	m := method(t, mtls.Options{
		Provider: "edge",
		Groups: attributes(
			mtls.Attribute{Kind: mtls.OrganizationalUnit},
			mtls.Attribute{Kind: mtls.DNS, Pattern: `ci\.example\.(.*)`},
			mtls.Attribute{Kind: mtls.URI, Pattern: `.*/ns/([^/]+)/.*`},
			mtls.Attribute{Kind: mtls.OrganizationalUnit, Pattern: "(ops)"},
		),
	})
	who, _, err := m.Identify(request(t, verified(cert(t, nil))))
	if want := []string{"ops", "release", "org", "com", "prod"}; err != nil || who.ID != "alice" || who.Provider != "edge" || !slices.Equal(who.Groups, want) {
		t.Errorf("%+v, %v; want groups %q", who, err, want)
	}
	who, _, err = m.Identify(request(t, verified(cert(t, func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit = nil
		c.DNSNames, c.URIs = nil, nil
	}))))
	if err != nil || who.ID != "alice" || len(who.Groups) > 0 {
		t.Errorf("without any: %+v, %v", who, err)
	}
}

// What somebody only sent is worth nothing, and isn't nothing.
func TestWhatNobodyHasVerified(t *testing.T) {
	t.Parallel()
	m := method(t, mtls.Options{})
	alice := cert(t, nil)
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		found bool
	}{
		"plain HTTP":         {nil, false},
		"no certificate":     {&tls.ConnectionState{}, false},
		"only sent":          {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}}, true},
		"no chains":          {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{}}, true},
		"a chain of nothing": {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{{}}}, true},
	} {
		who, found, err := m.Identify(request(t, c.state))
		if !who.IsAnonymous() || found != c.found || errors.Is(err, authn.ErrRefused) != c.found {
			t.Errorf("%s: %q, %t, %v; found: want %t", name, who.ID, found, err, c.found)
		}
	}
	bob := cert(t, func(c *x509.Certificate) { c.Subject.CommonName = "bob" })
	who, _, err := m.Identify(request(t, &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{bob, alice}, VerifiedChains: [][]*x509.Certificate{{}, {alice, bob}},
	}))
	if who.ID != "alice" || err != nil {
		t.Errorf("the verified one is %q, %v", who.ID, err)
	}
}

// A connection that is kept open is none of those that a certificate opens.
func TestACertificateExpiresWhileItsConnectionIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := method(t, mtls.Options{})
		for i := range 2 { // be it the leaf or its issuer
			short, long := cert(t, nil), cert(t, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) })
			chain := []*x509.Certificate{short, long}
			if i == 1 {
				slices.Reverse(chain)
			}
			r := request(t, verified(chain...))
			for _, c := range []struct {
				sleep time.Duration
				known bool
			}{{0, true}, {time.Hour, true}, {1, false}} {
				time.Sleep(c.sleep)
				if who, found, err := m.Identify(r); !found || (err == nil) != c.known || errors.Is(err, authn.ErrRefused) == c.known || c.known != (who.ID == "alice") {
					t.Errorf("%q, %t, %v; known: want %t", who.ID, found, err, c.known)
				}
			}
			r.TLS.VerifiedChains = append(r.TLS.VerifiedChains, []*x509.Certificate{long})
			if who, _, err := m.Identify(r); who.ID != "alice" || err != nil {
				t.Errorf("by another chain: %q, %v", who.ID, err)
			}
		}
		early := cert(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(1) })
		if _, _, err := m.Identify(request(t, verified(early))); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("too early: %v", err)
		}
	})
}

func TestOptionsThatAreWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		attribute mtls.Attribute
		want      string
	}{
		{mtls.Attribute{}, "want common_name, "},
		{mtls.Attribute{Kind: "cn"}, `"cn": want common_name, `},
		{mtls.Attribute{Kind: mtls.SPIFFE}, "needs a trust domain"},
		{mtls.Attribute{Kind: mtls.SPIFFE, TrustDomain: "Example.org"}, "consists of a-z"},
		{mtls.Attribute{Kind: mtls.SPIFFE, TrustDomain: "example.org/a"}, "consists of a-z"},
		{mtls.Attribute{Kind: mtls.URI, TrustDomain: "example.org"}, "uri has no trust domain"},
		{mtls.Attribute{Kind: mtls.DNS, Pattern: "("}, "pattern: "},
		{mtls.Attribute{Kind: mtls.DNS, Pattern: "a)|(b"}, "pattern: "},
		{mtls.Attribute{Kind: mtls.DNS, Index: -1}, "count from 1"},
	} {
		list := attributes(mtls.Attribute{Kind: mtls.Subject}, c.attribute)
		_, err := mtls.New(mtls.Options{Attributes: list})
		if err == nil || !strings.HasPrefix(err.Error(), "attribute 2: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.attribute, err, c.want)
		}
		_, err = mtls.New(mtls.Options{Groups: list})
		if err == nil || !strings.HasPrefix(err.Error(), "groups: attribute 2: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("groups %+v: %v, want %q", c.attribute, err, c.want)
		}
	}
}

// issue makes a certificate, signed by a parent or by itself.
func issue(t *testing.T, template *x509.Certificate, parent *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	signer, by := key, template
	if parent != nil {
		signer, by = parent.PrivateKey.(*ecdsa.PrivateKey), parent.Leaf
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestOverTLS asks servers that verify, and some that don't.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	ca := func() tls.Certificate {
		return issue(t, &x509.Certificate{
			Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}, nil)
	}
	ours, theirs := ca(), ca()
	client := func() *x509.Certificate {
		return cert(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	}
	alice, eve := issue(t, client(), &ours), issue(t, client(), &theirs)
	pool := x509.NewCertPool()
	pool.AddCert(ours.Leaf)
	m := method(t, mtls.Options{})
	for _, c := range []struct {
		mode tls.ClientAuthType
		cert *tls.Certificate
		want string
	}{
		{tls.NoClientCert, &alice, " false <nil>"},
		{tls.RequestClientCert, nil, " false <nil>"},
		{tls.RequestClientCert, &alice, " true wrong credentials"},
		{tls.RequestClientCert, &eve, " true wrong credentials"},
		{tls.RequireAnyClientCert, &eve, " true wrong credentials"},
		{tls.VerifyClientCertIfGiven, nil, " false <nil>"},
		{tls.VerifyClientCertIfGiven, &alice, "alice true <nil>"},
		{tls.RequireAndVerifyClientCert, &alice, "alice true <nil>"},
		{tls.RequireAndVerifyClientCert, &eve, "no connection"},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, found, err := m.Identify(r)
			fmt.Fprintf(w, "%s %t %v", who.ID, found, err)
		}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{ClientAuth: c.mode, ClientCAs: pool}
		server.StartTLS()
		got := ask(t, server, c.cert)
		server.Close()
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.mode, got, c.want)
		}
	}
}

func ask(t *testing.T, server *httptest.Server, cert *tls.Certificate) string {
	t.Helper()
	client := server.Client()
	defer client.CloseIdleConnections()
	transport := client.Transport.(*http.Transport)
	if cert != nil { // whichever authorities the server asks for
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return "no connection"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "no connection"
	}
	return string(body)
}
