//go:build real

package access

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// A policy is what a site allows.
type policy struct {
	name      string
	everybody string // who may pull without a secret
	rest      string // what's said beside the rules
}

var policies = []policy{
	{name: "anonymous-read", everybody: "*"},
	{name: "private", everybody: "authenticated"},
	{name: "read-only", everybody: "authenticated", rest: "read_only **"},
}

// open reports whether who hasn't signed in may pull.
func (p policy) open() bool { return p.everybody == "*" }

// writable reports whether anybody may push.
func (p policy) writable() bool { return p.rest == "" }

// A way is how a client shows who it is.
type way struct {
	name, challenge string
	provider        string // beside htpasswd
	key             bool   // its password is an API key
	jwt             bool   // its password is an issuer's token
	cert            bool   // it has a certificate, and no password
}

// ways: near is about the last one.
var ways = []way{
	{name: "basic", challenge: "basic"},
	{name: "token", challenge: "bearer"},
	{name: "key", challenge: "bearer", key: true},
	{name: "jwt", challenge: "auto", provider: workloads, jwt: true},
	{name: "mtls", challenge: "auto", provider: "provider oci_mtls", cert: true},
}

const workloads = `provider oci_workload {
			issuer ISSUER {
				audience registry
				user claims.sub
			}
		}`

// site is a registry with a policy, to which clients sign in in some way.
type site struct {
	*registry.Server
	policy
	way

	authority *tool.Authority // of clients, and of the site itself
	issuer    *issuertest.Issuer
	mounts    *sync.Map // repositories into which something was to be mounted
}

func (s site) String() string { return s.policy.name + "-" + s.way.name }

// asks reports whether GET /v2/ says how to sign in.
func (s site) asks() bool { return s.challenge != "basic" || !s.open() }

const (
	admin    = "admin"  // may do everything
	password = "secret" // is everybody's
	wrong    = "wrong"  // is nobody's
)

// scopes are those of each API key: all that its user may do, but for wide.
const scopes = `{"scopes": [
	{"repositories": "base/**", "actions": ["pull", "push", "overwrite", "delete"]},
	{"repositories": "team/**", "actions": ["pull", "push", "overwrite", "delete"]},
	{"repositories": "hidden/**", "actions": ["pull", "push", "overwrite", "delete"]},
	{"repositories": "wide/**", "actions": ["pull"]}
]}`

const siteConfig = `http://:PORT {
	bind %[1]s
	log
	oci_registry %[2]s
}
`

const secureSiteConfig = `https://:PORT {
	bind %[1]s
	tls %[3]s %[4]s {
		client_auth {
			mode verify_if_given
			trust_pool file %[5]s
		}
	}
	log
	oci_registry %[2]s
}
`

const registryConfig = `registry %[1]s {
	root %[6]s
	auth {
		%[7]s
		provider oci_htpasswd %[2]s
		challenge %[3]s
		api_keys
	}
	policy {
		allow pull ** to %[4]s
		allow pull push overwrite delete team/** to authenticated
		allow pull push wide/** to authenticated
		allow pull hidden/** to admin
		admin pull push overwrite delete list to admin
		%[5]s
	}
}
`

// world is what all sites have in common.
type world struct {
	roots, htpasswd string
	cert, key       string // of the sites that are reached by TLS
	authority       *tool.Authority
	issuer          *issuertest.Issuer
}

// start runs one Caddy with a site for each policy and way. users have a password
// there. base has an image on each, and so has hidden.
func start(t *testing.T, users []string) []site {
	t.Helper()
	dir := t.TempDir()
	w := world{
		roots: dir, htpasswd: writeUsers(t, append(users, admin)), authority: tool.NewAuthority(t), issuer: issuertest.New(t),
		cert: filepath.Join(dir, "server.cert"), key: filepath.Join(dir, "server.key"),
	}
	var addresses []net.IP
	for i := range policies {
		for _, where := range []string{near, afar} {
			addresses = append(addresses, net.ParseIP(fmt.Sprint(where, i+1)))
		}
	}
	w.authority.Certify(w.cert, w.key, "registry", addresses...)
	srv := registry.Config(t, w.caddyfile(false))
	var sites []site
	for i, p := range policies {
		for j, y := range ways {
			s := w.site(t, srv, address(i, j), p, y)
			s.Push(app, "base/app", "v1")
			s.Push(app, "hidden/app", "v1")
			s.Push(chart, "base/chart", "v1")
			s.Push(chart, "hidden/chart", "v1")
			for _, user := range users {
				s.Push(app, "team/old/"+user, "v1")
			}
			sites = append(sites, s)
		}
	}
	if err := srv.Reload(w.caddyfile(true)); err != nil { // from here on some are read-only
		t.Fatal(err)
	}
	return sites
}

// site returns one of a server's, with the admin as its client.
func (w world) site(t *testing.T, srv *registry.Server, address string, p policy, y way) site {
	t.Helper()
	_, port, _ := strings.Cut(srv.Address, ":")
	s := site{new(*srv), p, y, w.authority, w.issuer, new(sync.Map)}
	s.Host = address + ":" + port
	s.URL = "http://" + s.Host
	as := remote.Basic(admin, password)
	if y.cert {
		s.URL = "https://" + s.Host
		as.Next = registry.Trusting(t, w.authority.File)
	}
	s.Client = &http.Client{Transport: as}
	return s
}

// address is one of this machine's, which are more than one of a site's names.
func address(policy, way int) string { return fmt.Sprintf("127.0.%d.%d", way, policy+1) }

func (w world) caddyfile(filled bool) string {
	var registries, sites strings.Builder
	for i, p := range policies {
		for j, y := range ways {
			name := p.name + "-" + y.name
			if !filled {
				p.rest = ""
			}
			provider := strings.ReplaceAll(y.provider, "ISSUER", w.issuer.URL)
			fmt.Fprintf(&registries, registryConfig, name, w.htpasswd, y.challenge, p.everybody, p.rest, filepath.Join(w.roots, name), provider)
			if y.cert {
				fmt.Fprintf(&sites, secureSiteConfig, address(i, j), name, w.cert, w.key, w.authority.File)
			} else {
				fmt.Fprintf(&sites, siteConfig, address(i, j), name)
			}
		}
	}
	// A client that calls a site by its address names nobody while it says hello.
	return "{\nadmin ADMIN\nauto_https disable_redirects\nservers {\nstrict_sni_host insecure_off\n}\noci_registry {\n" +
		registries.String() + "}\n}\n" + sites.String()
}

func writeUsers(t *testing.T, names []string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, name := range names {
		fmt.Fprintf(&lines, "%s:%s\n%s:%[2]s\n", name, hash, another(name))
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// another is a second user, whose wrong secrets don't count against the first.
func another(user string) string { return user + "-2" }

// secret returns what a user signs in with, as the password.
func (s site) secret(t *testing.T, user string) string {
	t.Helper()
	switch {
	case s.jwt:
		return s.issuer.Sign(t, s.issuer.Claims("registry", map[string]any{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}))
	case !s.key:
		return password
	}
	_, key, err := remote.As(s.URL, remote.Basic(user, password)).NewAPIKey(t.Context(), scopes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// app and chart are what's in base.
var (
	app   = image.Random(1, 2, 9000)
	chart = newChart("chart")
)

// chartArchive makes a chart.
func chartArchive(name string) []byte {
	return image.Layer(image.File{Name: name + "/Chart.yaml", Content: []byte("apiVersion: v2\nversion: v1\nname: " + name + "\n")})
}

// newChart makes what helm makes of one.
func newChart(name string) *image.Content {
	part := func(mediaType string, b []byte) image.Part {
		return image.Part{Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, Bytes: b}
	}
	config := part("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"`+name+`","version":"v1","apiVersion":"v2"}`))
	layer := part("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chartArchive(name))
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config.Descriptor, Layers: []ocispec.Descriptor{layer.Descriptor},
	})
	if err != nil {
		panic(err)
	}
	manifest := part(ocispec.MediaTypeImageManifest, b)
	return &image.Content{Descriptor: manifest.Descriptor, Manifests: []image.Part{manifest}, Blobs: []image.Part{config, layer}}
}
