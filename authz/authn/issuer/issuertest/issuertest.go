// Package issuertest is an OpenID Connect issuer within a test: it signs what it's
// told to, right or wrong.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An Issuer serves its discovery and its keys, and signs people in who don't do
// more for it than come by.
type Issuer struct {
	URL    string
	Server *httptest.Server

	// Login is what it does when somebody signs in. Not to be changed meanwhile.
	Login Login

	mu      sync.Mutex
	key     Key   // signs
	keys    []Key // are published
	extra   []any // is published as well
	down    bool
	fetches int // of the keys
	codes   map[string]grant
	refresh map[string]grant
}

// A Key signs tokens.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Private   crypto.Signer
}

// New starts an issuer, which stops with the test.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{codes: map[string]grant{}, refresh: map[string]grant{}}
	i.key = NewKey(tb, jose.ES256)
	i.keys = []Key{i.key}
	i.Server = httptest.NewServer(i.handler())
	i.URL = i.Server.URL
	tb.Cleanup(i.Server.Close)
	return i
}

// NewKey makes a key.
func NewKey(tb testing.TB, alg jose.SignatureAlgorithm) Key {
	tb.Helper()
	k := Key{ID: rand.Text(), Algorithm: alg}
	var err error
	switch alg {
	case jose.ES256:
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		k.Private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		k.Private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.Private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Claims are an ordinary token's, for an audience, changed by others; nil removes.
func (i *Issuer) Claims(audience string, changes map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": i.URL, "sub": "somebody", "aud": audience,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	return change(claims, changes)
}

func change(claims, changes map[string]any) map[string]any {
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Sign returns a token with the key of now.
func (i *Issuer) Sign(tb testing.TB, claims map[string]any) string {
	tb.Helper()
	return i.Key().Sign(tb, claims, nil)
}

// Key returns the one that signs.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key
}

// Sign returns a token. What's in header is added to it.
func (k Key) Sign(tb testing.TB, claims map[string]any, header map[jose.HeaderKey]any) string {
	tb.Helper()
	raw, err := k.sign(claims, header)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func (k Key) sign(claims map[string]any, header map[jose.HeaderKey]any) (string, error) {
	options := (&jose.SignerOptions{}).WithType("JWT")
	if k.ID != "" {
		options.WithHeader("kid", k.ID)
	}
	for name, v := range header {
		options.WithHeader(name, v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: k.Private}, options)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// Public returns the key as a JWK.
func (k Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: k.ID, Algorithm: string(k.Algorithm), Use: "sig", Key: k.Private.Public()}
}

// Use makes the issuer sign with a key. Those of old are published with it.
func (i *Issuer) Use(k Key, old ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.keys = k, append([]Key{k}, old...)
}

// Publish adds to the JWK set what isn't a key of this package.
func (i *Issuer) Publish(jwk ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = jwk
}

// SetDown makes the issuer answer everything with 500, or no longer.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Fetches returns how often the keys have been asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *Issuer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.jwks)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /userinfo", i.userInfo)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "secret text of an issuer that is down", http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, change(map[string]any{
		"issuer":                 i.URL,
		"jwks_uri":               i.URL + "/keys",
		"authorization_endpoint": i.URL + "/authorize",
		"token_endpoint":         i.URL + "/token",
		"userinfo_endpoint":      i.URL + "/userinfo",
		"end_session_endpoint":   i.URL + "/logout",
	}, i.Login.Discovery))
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	set := append([]any{}, i.extra...)
	for _, k := range i.keys {
		set = append(set, k.Public())
	}
	answer(w, http.StatusOK, map[string]any{"keys": set})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that's gone is a test that has failed
}
