package oidc_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// store is a keep.Store in memory, which can fail.
type store struct {
	mu     sync.Mutex
	values map[string]value
	down   bool
	saves  int
	loads  int
}

type value struct {
	data    []byte
	version int
}

func newStore() *store { return &store{values: map[string]value{}} }

var errDown = errors.New("the store is down")

func (s *store) Load(_ context.Context, key string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	s.loads++
	if s.down {
		return nil, "", errDown
	}
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return bytes.Clone(v.data), strconv.Itoa(v.version), nil
}

func (s *store) Save(_ context.Context, key string, data []byte, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	switch {
	case s.down:
		return "", errDown
	case len(data) > 64<<10:
		return "", errors.New("too large")
	case ok && version != strconv.Itoa(v.version), !ok && version != "":
		return "", keep.ErrChanged
	}
	s.saves++
	s.values[key] = value{bytes.Clone(data), v.version + 1}
	return strconv.Itoa(v.version + 1), nil
}

func (s *store) Delete(_ context.Context, key, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return nil
}

func (s *store) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.values {
		if strings.HasPrefix(key, prefix+"/") {
			keys = append(keys, key)
		}
	}
	return func(yield func(string, error) bool) {
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// fill stores a value whatever was there.
func (s *store) fill(t *testing.T, key string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value{data, s.values[key].version + 1}
}

// loaded is how many values were asked for.
func (s *store) loaded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

func (s *store) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// text is what the store has, for looking for secrets in it.
func (s *store) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, v := range s.values {
		all = append(all, string(v.data))
	}
	return strings.Join(all, "\n")
}

// log keeps what was logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// site is a registry with a Login, by TLS, that says on every other path who asks.
type site struct {
	*httptest.Server
	login *oidc.Login
	log   *log
}

// ring is an oidc.Ring of one secret.
type ring string

func (r ring) sign(message []byte) []byte {
	h := hmac.New(sha256.New, []byte(r))
	h.Write(message)
	return h.Sum(nil)
}

func (r ring) Sign(_ context.Context, message []byte) (string, []byte, error) {
	return "key", r.sign(message), nil
}

func (r ring) Verify(_ context.Context, key string, message, signature []byte) (bool, error) {
	return key == "key" && hmac.Equal(r.sign(message), signature), nil
}

func (ring) Replace(context.Context) error { return errors.ErrUnsupported }

// newLogin returns a Login; what's missing in the configuration has a value.
func newLogin(t *testing.T, c oidc.Config, providers ...oidc.Provider) *oidc.Login {
	t.Helper()
	c.Providers = providers
	if c.Registry == "" {
		c.Registry = "test"
	}
	if c.Keys == nil {
		c.Keys = ring("k")
	}
	l, err := oidc.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newSite(t *testing.T, c oidc.Config, providers ...oidc.Provider) *site {
	t.Helper()
	s := &site{log: new(log)}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	}
	s.login = newLogin(t, c, providers...)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	if s.login.Serves(r.URL.Path) || strings.HasPrefix(r.URL.Path, "/auth/") {
		s.login.ServeHTTP(w, r)
		return
	}
	who, found, err := s.login.Identify(r)
	s.login.Renew(w, r)
	answer := map[string]any{"id": who.ID, "groups": who.Groups, "provider": who.Provider, "found": found, "path": r.URL.RequestURI()}
	if err != nil {
		answer["refused"] = errors.Is(err, authn.ErrRefused)
		w.WriteHeader(http.StatusUnauthorized)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// seen is what a site says of who asks.
type seen struct {
	ID, Provider, Path string
	Groups             []string
	Found              bool
	Refused            *bool

	status int
	body   string
	header http.Header
}

// browser has cookies. It follows redirects unless it's told not to.
type browser struct {
	*http.Client
	t *testing.T
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, Transport: insecure}, t}
}

func (b *browser) do(req *http.Request) seen {
	b.t.Helper()
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	s := seen{status: resp.StatusCode, body: string(body), header: resp.Header}
	_ = json.Unmarshal(body, &s) // pages aren't JSON
	return s
}

func (b *browser) get(place string) seen {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, place, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(req)
}

// step follows no redirect, and returns where it would go.
func (b *browser) step(place string) (to string, s seen) {
	b.t.Helper()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.CheckRedirect = nil }()
	s = b.get(place)
	return s.header.Get("Location"), s
}

// post sends a form of a page, with headers as the browser would.
func (b *browser) post(place string, header map[string]string) seen {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, place, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer func() { b.CheckRedirect = nil }()
	return b.do(req)
}

func (b *browser) cookies(place string) []*http.Cookie {
	u, err := url.Parse(place)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.Jar.Cookies(u)
}

func (b *browser) put(place string, cookies ...*http.Cookie) {
	u, err := url.Parse(place)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range cookies {
		c.Path, c.Secure = "/", u.Scheme == "https"
	}
	b.Jar.SetCookies(u, cookies)
}

const (
	clientID = "registry-client"
	secret   = "client-secret-text"
)

// newIssuer is an issuer that knows the client.
func newIssuer(t *testing.T) *issuertest.Issuer {
	t.Helper()
	i := issuertest.New(t)
	i.Login.ClientID, i.Login.ClientSecret = clientID, secret
	i.Login.IDToken = map[string]any{"email": "alice@example.com", "email_verified": true}
	return i
}

// provider is one of an issuer that nothing else is said of.
func provider(i *issuertest.Issuer) oidc.Provider {
	return oidc.Provider{
		Name: "sso", Issuer: issuer.Options{URL: i.URL}, ClientID: clientID,
		Secret: func() (string, error) { return secret, nil },
	}
}

// insecure trusts every certificate: they are the test's own.
var insecure = &http.Transport{
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	DisableKeepAlives: true,
}
