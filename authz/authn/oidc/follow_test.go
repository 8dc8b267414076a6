package oidc_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

// following is an account that two replicas follow.
type following struct {
	issuer      *fake
	url         string
	store       *store
	logins      []*oidc.Login
	directories []authn.Directory
	cookie      *http.Cookie
}

// fake is an issuer whose tokens are of a test's time, and that gives a new refresh
// token each time and takes the old one for stolen.
type fake struct {
	url string
	key issuertest.Key

	mu             sync.Mutex // guards what is below
	user, subject  string
	groups         []string
	disabled, down bool
	noRefresh      bool
	nonce          string
	refresh        string
	used           map[string]bool
	requests       int // for tokens
}

func newFake() *fake {
	return &fake{user: "alice", subject: "1", groups: alice.Groups, used: map[string]bool{}}
}

func (f *fake) start(t *testing.T) string {
	t.Helper()
	f.key = issuertest.NewKey(t, jose.ES256)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{
			"issuer": f.url, "jwks_uri": f.url + "/keys", "authorization_endpoint": f.url + "/authorize", "token_endpoint": f.url + "/token",
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"keys": []any{f.key.Public()}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { f.token(t, w, r) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f.url
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *fake) token(t *testing.T, w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.down {
		http.Error(w, "secret text", http.StatusServiceUnavailable)
		return
	}
	claims := map[string]any{
		"iss": f.url, "aud": clientID, "sub": f.subject, "email": f.user, "email_verified": true, "groups": f.groups,
	}
	if r.FormValue("grant_type") == "refresh_token" {
		old := r.FormValue("refresh_token")
		if f.used[old] {
			t.Error("a refresh token is used for the second time")
		}
		if old != f.refresh || f.disabled {
			write(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		f.used[old] = true
	} else {
		claims["nonce"] = f.nonce
	}
	// The clock of a test is in another year.
	claims["exp"] = 4_000_000_000
	f.refresh = issuertest.NewKey(t, jose.ES256).ID
	answer := map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": f.key.Sign(t, claims, nil), "refresh_token": f.refresh}
	if f.noRefresh {
		delete(answer, "refresh_token")
	}
	write(w, http.StatusOK, answer)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// signIn signs in without a browser, and returns the session's cookie.
func (f *following) signIn(t *testing.T, l *oidc.Login) *http.Cookie {
	t.Helper()
	return signIn(t, l, "/auth/callback/sso?code=c", f.nonce)
}

func (f *following) nonce(to url.Values) {
	f.issuer.set(func(i *fake) { i.nonce = to.Get("nonce") })
}

func signIn(t *testing.T, l *oidc.Login, callback string, sent ...func(url.Values)) *http.Cookie {
	t.Helper()
	w := comeBack(t, l, callback, sent...)
	for _, line := range w.Header()["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == l.SessionCookie(request()) {
			return c
		}
	}
	t.Fatalf("%d, no session: %s", w.Code, w.Body)
	return nil
}

// comeBack begins to sign in, and returns what the callback answers.
func comeBack(t *testing.T, l *oidc.Login, callback string, sent ...func(url.Values)) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	l.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://registry.example.com/auth/login", http.NoBody))
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || to.Host == "" {
		t.Fatalf("%d, to %s, %v", w.Code, to, err)
	}
	for _, fn := range sent {
		fn(to.Query())
	}
	begun := given(t, w)
	r := httptest.NewRequest(http.MethodGet, "https://registry.example.com"+callback+"&state="+to.Query().Get("state"), http.NoBody)
	r.AddCookie(begun)
	w = httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w
}
