//go:build real

package edge

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const page = "<h1>A website</h1>"

// website is the site of examples/website.
func website(t *testing.T) *registry.Server {
	t.Helper()
	www := t.TempDir()
	write(t, www, "index.html", []byte(page))
	caddy, _ := withAlice(t)
	return registry.Configure(t, caddy, example(t, "website", "admin ADMIN\npersist_config off",
		"example.com {", "http://HOST {\nbind 127.0.0.1", "/srv/registry", t.TempDir(), "/srv/www", www))
}

// TestBesideWebsite shows who sees what of a website with a registry below /v2/.
func TestBesideWebsite(t *testing.T) {
	t.Parallel()
	srv := website(t)
	c := image.Random(1, 2, 100_000)
	signedIn := srv.Registry
	signIn(&signedIn, alice)
	if err := signedIn.Repository("app").Push(t.Context(), c, "v1"); err != nil {
		t.Fatal(err)
	}
	wrong := srv.Registry
	signIn(&wrong, url.UserPassword("alice", "wrong"))
	stranger := srv.Registry
	signIn(&stranger, url.UserPassword("mallory", "correct horse"))

	const challenge = `Basic realm="restricted"`
	for _, tc := range []struct {
		who          *remote.Registry
		method, path string
		status       int
		challenge    string
	}{
		{&srv.Registry, http.MethodGet, "/", http.StatusOK, ""},
		{&wrong, http.MethodGet, "/", http.StatusOK, ""},
		{&srv.Registry, http.MethodGet, "/missing", http.StatusNotFound, ""},
		{&srv.Registry, http.MethodGet, "/registry-health/readyz", http.StatusOK, ""},
		{&srv.Registry, http.MethodGet, "/v2", http.StatusUnauthorized, challenge},
		{&srv.Registry, http.MethodGet, "/v2/", http.StatusUnauthorized, challenge},
		{&srv.Registry, http.MethodGet, "/v2/_catalog", http.StatusUnauthorized, challenge},
		{&srv.Registry, http.MethodHead, "/v2/app/manifests/v1", http.StatusUnauthorized, challenge},
		{&srv.Registry, http.MethodPost, "/v2/app/blobs/uploads/", http.StatusUnauthorized, challenge},
		{&srv.Registry, http.MethodDelete, "/v2/app/manifests/v1", http.StatusUnauthorized, challenge},
		{&wrong, http.MethodGet, "/v2/", http.StatusUnauthorized, challenge},
		{&wrong, http.MethodGet, "/v2/app/manifests/v1", http.StatusUnauthorized, challenge},
		{&stranger, http.MethodGet, "/v2/", http.StatusUnauthorized, challenge},
		{&signedIn, http.MethodGet, "/v2/", http.StatusOK, ""},
		{&signedIn, http.MethodGet, "/v2/app/manifests/v1", http.StatusOK, ""},
	} {
		a, err := ask(t.Context(), tc.who, tc.method, tc.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.check(tc.status, "Www-Authenticate", tc.challenge); err != nil {
			t.Error(err)
		}
		if tc.path == "/" && string(a.body) != page {
			t.Errorf("the website is %q", a.body)
		}
	}
	if err := signedIn.Get(t.Context(), "/v2/app/manifests/v1"); err != nil {
		t.Errorf("who wasn't to delete it has: %v", err)
	}
}

// TestNoWayAround asks for the registry's paths as the guard in front of it might
// read them differently.
func TestNoWayAround(t *testing.T) {
	t.Parallel()
	srv := website(t)
	for _, path := range []string{
		"/v2/_catalog", "/%76%32/_catalog", "/v%32/_catalog", "/v2%2f_catalog", "//v2/_catalog", "/./v2/_catalog", "/x/../v2/_catalog",
		"/x/%2e%2e/v2/_catalog", "/v2/./_catalog", "/V2/_catalog", "/v2;/_catalog", "/v2\\_catalog", "/v2%5c_catalog", "/v2/%00/_catalog",
		"http://" + srv.Host + "/v2/_catalog", "/v2/_catalog?x=/", "/v2/#/../x", "/v2/../v2/_catalog",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, srv.Host); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode < 400 || resp.Header.Get("Docker-Distribution-Api-Version") != "" {
			t.Errorf("%s is answered without a password: %s %v", path, resp.Status, resp.Header)
		}
		if err := errors.Join(resp.Body.Close(), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignIn has real clients sign in, push, pull and sign out again.
func TestSignIn(t *testing.T) {
	t.Parallel()
	srv := website(t)
	c := image.Random(1, 2, 100_000)
	layout := string(c.WriteLayout(t, "v1"))
	reader := srv.Registry
	signIn(&reader, alice)
	check := func(t *testing.T, repository string) {
		t.Helper()
		if desc, err := reader.Repository(repository).Verify(t.Context(), "v1"); err != nil || desc.Digest != c.Digest {
			t.Fatalf("pushed %s, want %s: %v", desc.Digest, c.Digest, err)
		}
	}
	password, _ := alice.Password()

	t.Run("crane", func(t *testing.T) {
		t.Parallel()
		crane := tool.Find(t, "crane")
		ref := srv.Ref("crane", "v1")
		refused(t, crane, "push", layout, ref)
		crane.Stdin = "wrong"
		crane.Run("auth", "login", srv.Host, "--username", alice.Username(), "--password-stdin") // it believes everybody
		refused(t, crane, "push", layout, ref)
		crane.Stdin = password
		crane.Run("auth", "login", srv.Host, "--username", alice.Username(), "--password-stdin")
		crane.Run("push", layout, ref)
		check(t, "crane")
		pulled := filepath.Join(crane.Dir, "pulled")
		crane.Run("pull", "--format", "oci", ref, pulled)
		image.Layout(pulled).Check(t, "", c)
		crane.Run("auth", "logout", srv.Host)
		refused(t, crane, "manifest", ref)
	})
	t.Run("skopeo", func(t *testing.T) {
		t.Parallel()
		skopeo := tool.Find(t, "skopeo")
		ref := "docker://" + srv.Ref("skopeo", "v1")
		login := []string{"login", "--tls-verify=false", "--username", alice.Username(), "--password-stdin", srv.Host}
		push := []string{"copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "oci:" + layout + ":v1", ref}
		refused(t, skopeo, push...)
		skopeo.Stdin = "wrong"
		refused(t, skopeo, login...)
		skopeo.Stdin = password
		skopeo.Run(login...)
		skopeo.Run(push...)
		check(t, "skopeo")
		pulled := image.Layout(t.TempDir())
		skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", ref, "oci:"+string(pulled)+":v1")
		pulled.Check(t, "v1", c)
		skopeo.Run("logout", "--tls-verify=false", srv.Host)
		refused(t, skopeo, "inspect", "--tls-verify=false", ref)
	})
}

// refused fails the test unless a client is told that it has to sign in.
func refused(t *testing.T, client *tool.Tool, args ...string) {
	t.Helper()
	_, err := client.Try(args...)
	if err == nil {
		t.Fatalf("%s works without a right password", args[0])
	}
	said := strings.ToLower(err.Error())
	for _, word := range []string{"unauthorized", "authentication required", "invalid username/password"} {
		if strings.Contains(said, word) {
			return
		}
	}
	t.Fatalf("refused, but for another reason: %v", err)
}

// TestPasswordsForPushes lets everybody pull and asks who pushes for a password,
// on one host. The password is asked for at /v2/ too, where clients look whether
// one is needed: all of these pull without one nevertheless.
func TestPasswordsForPushes(t *testing.T) {
	t.Parallel()
	caddy, _ := withAlice(t)
	srv := registry.Configure(t, caddy, fmt.Sprintf(`{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		@guarded not {
			method GET HEAD
			not path /v2 /v2/
		}
		basic_auth @guarded {
			alice {env.ALICE_HASH}
		}
		oci_registry {
			root %q
			anonymous pull
		}
	}`, t.TempDir()))
	c := image.Random(1, 2, 100_000)
	layout := string(c.WriteLayout(t, "v1"))
	password, _ := alice.Password()

	crane, skopeo := tool.Find(t, "crane"), tool.Find(t, "skopeo")
	refused(t, crane, "push", layout, srv.Ref("app", "v1"))
	crane.Stdin, skopeo.Stdin = password, password
	crane.Run("auth", "login", srv.Host, "--username", alice.Username(), "--password-stdin")
	crane.Run("push", layout, srv.Ref("app", "v1"))
	skopeo.Run("login", "--tls-verify=false", "--username", alice.Username(), "--password-stdin", srv.Host)
	skopeo.Run("copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout+":v1", "docker://"+srv.Ref("other", "v1"))
	srv.Check("app", "v1", c)
	srv.Check("other", "v1", c)

	crane, skopeo = tool.Find(t, "crane"), tool.Find(t, "skopeo")
	pulled := filepath.Join(crane.Dir, "pulled")
	crane.Run("pull", "--format", "oci", srv.Ref("app", "v1"), pulled)
	image.Layout(pulled).Check(t, "", c)
	copied := image.Layout(t.TempDir())
	skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "docker://"+srv.Ref("app", "v1"), "oci:"+string(copied)+":v1")
	copied.Check(t, "v1", c)
	refused(t, crane, "delete", srv.Ref("app", "v1"))
	srv.Check("app", "v1", c)
}
