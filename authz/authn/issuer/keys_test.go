package issuer_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
)

func TestNobodyIsAskedAtTheStart(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	newIssuer(t, issuer.Options{URL: srv.URL})
	if n := srv.Fetches(); n != 0 {
		t.Fatalf("the keys were fetched %d times", n)
	}
}

func TestANewKeyIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, issuer.Options{URL: srv.URL})
		verify := func() error {
			_, err := i.Verify(t.Context(), srv.Sign(t, srv.Claims("us", nil)))
			return err
		}
		if err := verify(); err != nil {
			t.Fatal(err)
		}
		before := i.Version(t.Context())
		time.Sleep(time.Minute)
		srv.Use(issuertest.NewKey(t, jose.ES256), srv.Key())
		if err := verify(); err != nil {
			t.Fatal(err)
		}
		if i.Version(t.Context()) == before {
			t.Error("the version is as before")
		}
		// A second one within two seconds has to wait.
		srv.Use(issuertest.NewKey(t, jose.ES256), srv.Key())
		if err := verify(); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := verify(); err != nil {
			t.Errorf("two seconds later: %v", err)
		}
	})
}

func TestUnknownKeysAreAskedForEveryTwoSeconds(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, issuer.Options{URL: srv.URL})
		claims := srv.Claims("us", map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
		for range 100 { // ten a second
			if _, err := i.Verify(t.Context(), issuertest.NewKey(t, jose.ES256).Sign(t, claims, nil)); !errors.Is(err, authn.ErrRefused) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := srv.Fetches(); n != 5 {
			t.Errorf("fetched %d times in ten seconds", n)
		}
	})
}

func TestWhileTheIssuerIsDown(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, issuer.Options{URL: srv.URL})
		sign := func() string { return srv.Sign(t, srv.Claims("us", nil)) }
		srv.SetDown(true)
		_, err := i.Verify(t.Context(), sign())
		if err == nil || errors.Is(err, authn.ErrRefused) || strings.Contains(err.Error(), "secret text") {
			t.Fatalf("no key is known yet: %v", err)
		}
		srv.SetDown(false)
		time.Sleep(5 * time.Second)
		if _, again := i.Verify(t.Context(), sign()); again == nil || again.Error() != err.Error() {
			t.Errorf("too early to ask again: %v", again)
		}
		time.Sleep(5 * time.Second)
		if _, err = i.Verify(t.Context(), sign()); err != nil {
			t.Fatalf("ten seconds later: %v", err)
		}
		srv.SetDown(true)
		time.Sleep(time.Hour)
		if _, err = i.Verify(t.Context(), sign()); err != nil {
			t.Errorf("the key is known: %v", err)
		}
		srv.Use(issuertest.NewKey(t, jose.ES256))
		for range 3 {
			if _, err = i.Verify(t.Context(), sign()); err == nil || errors.Is(err, authn.ErrRefused) {
				t.Errorf("a key that isn't known: %v", err)
			}
			time.Sleep(3 * time.Second)
		}
	})
}

func TestAKeyThatIsGoneVerifiesNothing(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, issuer.Options{URL: srv.URL})
		token := srv.Sign(t, srv.Claims("us", map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
		if _, err := i.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		version := i.Version(t.Context())
		time.Sleep(10 * time.Minute)
		if i.Version(t.Context()) != version || srv.Fetches() != 2 {
			t.Error("the same keys, fetched again, are others")
		}
		srv.Use(issuertest.NewKey(t, jose.ES256))
		time.Sleep(10 * time.Minute)
		if _, err := i.Verify(t.Context(), token); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("its key is gone: %v", err)
		}
	})
}

func TestManyAskOnce(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	token := srv.Sign(t, srv.Claims("us", nil))
	gone, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range 32 {
		ctx := gone
		if n%2 == 0 {
			ctx = t.Context()
		}
		wg.Go(func() {
			if _, err := i.Verify(ctx, token); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	cancel()
	wg.Wait()
	if n := srv.Fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// TestWhoeverAsksFirstMayGoAway has somebody wait for the keys that the first one asked for.
func TestWhoeverAsksFirstMayGoAway(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	handler := srv.Server.Config.Handler
	srv.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			entered <- struct{}{}
			<-release
		}
		handler.ServeHTTP(w, r)
	})
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	token := srv.Sign(t, srv.Claims("us", nil))
	gone, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = i.Verify(gone, token) })
	<-entered
	cancel()
	wg.Go(func() {
		if _, err := i.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	})
	close(release)
	wg.Wait()
	if n := srv.Fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func writeFile(t *testing.T, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeysOfAFile(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	pemOf := func(k issuertest.Key) []byte {
		der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	jwkOf := func(k issuertest.Key) []byte {
		data, err := json.Marshal(map[string]any{"keys": []any{k.Public()}})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	synctest.Test(t, func(t *testing.T) {
		one, two := issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.RS256)
		file := writeFile(t, filepath.Join(t.TempDir(), "keys"), jwkOf(one))
		i := newIssuer(t, issuer.Options{URL: "https://unreachable.invalid", KeysFile: file})
		claims := map[string]any{"iss": "https://unreachable.invalid", "exp": time.Now().Add(time.Hour).Unix()}
		check := func(what string, wantOne, wantTwo bool) {
			t.Helper()
			time.Sleep(2 * time.Second)
			for _, c := range []struct {
				key  issuertest.Key
				want bool
			}{{one, wantOne}, {two, wantTwo}} {
				if _, err := i.Verify(t.Context(), c.key.Sign(t, claims, nil)); c.want != (err == nil) {
					t.Errorf("%s: %s: %v", what, c.key.Algorithm, err)
				}
			}
		}
		check("a JWK set", true, false)
		writeFile(t, file, append(pemOf(one), pemOf(two)...))
		check("PEM", true, true)
		writeFile(t, file, pemOf(two)[:60])
		check("half a file", true, true)
		writeFile(t, file, pemOf(two))
		check("the whole", false, true)
	})
	if srv.Fetches() > 0 {
		t.Error("somebody was asked")
	}
}

func TestWhatIsRefusedAtLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, err := x509.MarshalPKCS8PrivateKey(issuertest.NewKey(t, jose.ES256).Private)
	if err != nil {
		t.Fatal(err)
	}
	privatePEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, c := range map[string]struct {
		options issuer.Options
		want    string
	}{
		"nothing":              {issuer.Options{}, "URL"},
		"plain HTTP":           {issuer.Options{URL: "http://issuer.example"}, "https"},
		"no scheme":            {issuer.Options{URL: "issuer.example"}, "https"},
		"another scheme":       {issuer.Options{URL: "file:///etc/passwd"}, "https"},
		"not a URL":            {issuer.Options{URL: "https://%zz"}, "parse"},
		"with a password":      {issuer.Options{URL: "https://a:secret@issuer.example"}, "want https"},
		"keys by plain HTTP":   {issuer.Options{URL: "https://issuer.example", JWKSURL: "http://issuer.example/keys"}, "https"},
		"two places":           {issuer.Options{URL: "https://a.example", JWKSURL: "https://a.example", KeysFile: "x"}, "both"},
		"a domain without key": {issuer.Options{TrustDomain: "example.org"}, "JWKS"},
		"a domain as URL":      {issuer.Options{TrustDomain: "spiffe://example.org", JWKSURL: "https://a.example"}, "trust domain"},
		"no file":              {issuer.Options{URL: "https://a.example", KeysFile: filepath.Join(dir, "none")}, "none"},
		"an empty file":        {issuer.Options{URL: "https://a.example", KeysFile: writeFile(t, filepath.Join(dir, "empty"), nil)}, "JWK set"},
		"no keys":              {issuer.Options{URL: "https://a.example", KeysFile: writeFile(t, filepath.Join(dir, "no"), []byte(`{"keys":[]}`))}, "no key"},
		"a private key":        {issuer.Options{URL: "https://a.example", KeysFile: writeFile(t, filepath.Join(dir, "private"), privatePEM)}, "public keys"},
		"no CA":                {issuer.Options{URL: "https://a.example", CAFile: filepath.Join(dir, "none")}, "CA"},
		"an empty CA":          {issuer.Options{URL: "https://a.example", CAFile: writeFile(t, filepath.Join(dir, "ca"), nil)}, "no certificate"},
	} {
		_, err := issuer.New(c.options)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	newIssuer(t, issuer.Options{URL: "http://issuer.example", PlainHTTP: true})
	newIssuer(t, issuer.Options{URL: "http://localhost:8080/realms/x"})
}

// kubernetes is an API server: its certificate is its own, and it wants a token.
func kubernetes(t *testing.T, srv *issuertest.Issuer, discovery func(self string) string) (*httptest.Server, issuer.Options) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	guard := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer account-token" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			h(w, r)
		}
	}
	mux.HandleFunc("/openid/v1/jwks", guard(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{srv.Key().Public()}})
	}))
	mux.HandleFunc("/.well-known/openid-configuration", guard(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, discovery(server.URL))
	}))
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return server, issuer.Options{
		CAFile:    writeFile(t, filepath.Join(dir, "ca.crt"), ca),
		TokenFile: writeFile(t, filepath.Join(dir, "token"), []byte("account-token\n")),
	}
}

func TestKubernetesInTheCluster(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	server, o := kubernetes(t, srv, func(self string) string {
		return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, self, self+"/openid/v1/jwks")
	})
	claims := srv.Claims("us", map[string]any{"iss": "https://kubernetes.default.svc.cluster.local"})
	o.URL, o.JWKSURL = "https://kubernetes.default.svc.cluster.local", server.URL+"/openid/v1/jwks"
	if _, err := newIssuer(t, o).Verify(t.Context(), srv.Sign(t, claims)); err != nil {
		t.Errorf("by the JWKS URL: %v", err)
	}
	o.URL, o.JWKSURL = server.URL, ""
	claims["iss"] = server.URL
	if _, err := newIssuer(t, o).Verify(t.Context(), srv.Sign(t, claims)); err != nil {
		t.Errorf("by discovery: %v", err)
	}
	for name, broken := range map[string]func(*issuer.Options){
		"without CA":    func(o *issuer.Options) { o.CAFile = "" },
		"without token": func(o *issuer.Options) { o.TokenFile = "" },
	} {
		o := o
		broken(&o)
		if _, err := newIssuer(t, o).Verify(t.Context(), srv.Sign(t, claims)); err == nil || errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheTokenIsForTheIssuerAlone(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	seen := make(chan string, 1)
	var self string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/openid-configuration" {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, self, srv.URL+"/keys")
			seen <- r.Header.Get("Authorization")
		}
	}))
	t.Cleanup(other.Close)
	self = other.URL
	spy := make(chan string, 1)
	handler := srv.Server.Config.Handler
	srv.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		spy <- r.Header.Get("Authorization")
		handler.ServeHTTP(w, r)
	})
	i := newIssuer(t, issuer.Options{URL: other.URL, TokenFile: writeFile(t, filepath.Join(t.TempDir(), "token"), []byte("secret"))})
	if _, err := i.Verify(t.Context(), srv.Sign(t, srv.Claims("us", map[string]any{"iss": other.URL}))); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != "Bearer secret" {
		t.Errorf("the issuer got %q", got)
	}
	if got := <-spy; got != "" {
		t.Errorf("the other host got %q", got)
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	key := issuertest.NewKey(t, jose.ES256)
	jwks, err := json.Marshal(map[string]any{"keys": []any{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		discovery, keys string // SELF is the issuer
	}{
		"good":                 {`{"issuer":"SELF","jwks_uri":"SELF/keys"}`, string(jwks)},
		"another issuer":       {`{"issuer":"https://other.example","jwks_uri":"SELF/keys"}`, string(jwks)},
		"no issuer":            {`{"jwks_uri":"SELF/keys"}`, string(jwks)},
		"no keys":              {`{"issuer":"SELF"}`, string(jwks)},
		"keys by plain HTTP":   {`{"issuer":"SELF","jwks_uri":"http://other.example/keys"}`, string(jwks)},
		"keys of a file":       {`{"issuer":"SELF","jwks_uri":"file:///etc/passwd"}`, string(jwks)},
		"no JSON":              {"secret text", string(jwks)},
		"no JWK set":           {`{"issuer":"SELF","jwks_uri":"SELF/keys"}`, "secret text"},
		"a null":               {`{"issuer":"SELF","jwks_uri":"SELF/keys"}`, "null"},
		"much":                 {`{"issuer":"SELF","jwks_uri":"SELF/keys"}`, string(jwks) + strings.Repeat(" ", 2<<20)},
		"redirect to plain":    {`{"issuer":"SELF","jwks_uri":"SELF/redirect"}`, string(jwks)},
		"redirect to no end":   {`{"issuer":"SELF","jwks_uri":"SELF/again"}`, string(jwks)},
		"redirect to the keys": {`{"issuer":"SELF","jwks_uri":"SELF/moved"}`, string(jwks)},
	} {
		mux := http.NewServeMux()
		srv := httptest.NewServer(mux)
		t.Cleanup(srv.Close)
		mux.Handle("/redirect", http.RedirectHandler("http://other.example/keys", http.StatusFound))
		mux.Handle("/again", http.RedirectHandler("/again", http.StatusFound))
		mux.Handle("/moved", http.RedirectHandler("/keys", http.StatusFound))
		mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.keys) })
		mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.ReplaceAll(c.discovery, "SELF", srv.URL))
		})
		claims := map[string]any{"iss": srv.URL, "exp": time.Now().Add(time.Minute).Unix()}
		_, err := newIssuer(t, issuer.Options{URL: srv.URL}).Verify(t.Context(), key.Sign(t, claims, nil))
		if good := name == "good" || name == "redirect to the keys"; good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "redirect to plain" && (err == nil || !strings.Contains(err.Error(), "https only")) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (errors.Is(err, authn.ErrRefused) || strings.Contains(err.Error(), "secret text")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetadataIsKept(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, issuer.Options{URL: srv.URL})
		srv.SetDown(true)
		if _, err := i.Metadata(t.Context()); err == nil {
			t.Fatal("the issuer is down")
		}
		srv.SetDown(false)
		time.Sleep(10 * time.Second)
		m, err := i.Metadata(t.Context())
		if err != nil || m.Authorization != srv.URL+"/authorize" || m.EndSession != srv.URL+"/logout" {
			t.Fatalf("%+v, %v", m, err)
		}
		srv.SetDown(true)
		time.Sleep(2 * time.Hour)
		if _, err := i.Metadata(t.Context()); err != nil {
			t.Errorf("it's known: %v", err)
		}
	})
}
