package oidc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

// hub is a GitHub Enterprise Server.
type hub struct {
	*httptest.Server
	emails  string
	orgs    int
	evil    string       // where the second page of organizations is
	revoked atomic.Bool  // the API refuses the token
	down    atomic.Bool  // the API answers nothing good
	calls   atomic.Int64 // of the API
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{emails: `[{"email":"spare@example.com","primary":false,"verified":true},{"email":"octo@example.com","primary":true,"verified":true}]`, orgs: 1}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("scope") != "read:user user:email read:org" || q.Get("code_challenge") == "" || q.Has("nonce") {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?code=c&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
	})
	mux.HandleFunc("POST /login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("client_secret") != secret || r.FormValue("code") != "c" || r.FormValue("code_verifier") == "" {
			fmt.Fprint(w, `{"error":"bad_verification_code","error_description":"secret text"}`) // with 200, as GitHub does
			return
		}
		fmt.Fprint(w, `{"access_token":"gho_access","token_type":"bearer","scope":"read:org,read:user,user:email"}`)
	})
	api := http.NewServeMux()
	mux.HandleFunc("GET /api/v3/", func(w http.ResponseWriter, r *http.Request) {
		h.calls.Add(1)
		switch {
		case h.down.Load():
			http.Error(w, "secret text", http.StatusBadGateway)
		case h.revoked.Load() || r.Header.Get("Authorization") != "Bearer gho_access":
			http.Error(w, "secret text", http.StatusUnauthorized)
		default:
			api.ServeHTTP(w, r)
		}
	})
	api.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"login":"octocat","id":583231,"name":"The Octocat","email":"public@example.com"}`)
	})
	api.HandleFunc("GET /api/v3/user/emails", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, h.emails) })
	api.HandleFunc("GET /api/v3/user/teams", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"slug":"core","name":"Core","organization":{"login":"octo-org"}}]`)
	})
	api.HandleFunc("GET /api/v3/user/orgs", h.organizations)
	h.Server = httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return h
}

// organizations come two a page.
func (h *hub) organizations(w http.ResponseWriter, r *http.Request) {
	n := 0
	_, _ = fmt.Sscan(r.URL.Query().Get("page"), &n)
	var list []map[string]string
	for i := 2 * n; i < min(2*n+2, h.orgs); i++ {
		list = append(list, map[string]string{"login": fmt.Sprintf("org-%d", i)})
	}
	if 2*n+2 < h.orgs {
		base := h.URL
		if h.evil != "" {
			base = h.evil
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s/x>; rel="prev", <%s/api/v3/user/orgs?per_page=100&page=%d>; rel="next", <%s/x>; rel="last"`, base, base, n+1, base))
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (h *hub) provider() oidc.Provider {
	return oidc.Provider{
		Name: "github", Kind: oidc.GitHub, ClientID: clientID, Issuer: issuer.Options{URL: h.URL},
		Secret: func() (string, error) { return secret, nil },
	}
}

func TestGitHub(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.orgs = 5
	got := newBrowser(t).get(newSite(t, oidc.Config{}, h.provider()).URL + "/auth/login")
	if got.ID != "octo@example.com" || !slices.Equal(got.Groups, []string{"octo-org/core", "org-0", "org-1", "org-2", "org-3", "org-4"}) {
		t.Errorf("%+v", got)
	}
	p := h.provider()
	p.User = []string{"login"}
	if got := newBrowser(t).get(newSite(t, oidc.Config{}, p).URL + "/auth/login"); got.ID != "octocat" {
		t.Errorf("%+v", got)
	}
}

func TestGitHubEmails(t *testing.T) {
	t.Parallel()
	for emails, ok := range map[string]bool{
		`[{"email":"octo@example.com","primary":true,"verified":true}]`:  true,
		`[{"email":"octo@example.com","primary":true,"verified":false}]`: false,
		`[{"email":"octo@example.com","primary":false,"verified":true}]`: false,
		`[]`: false,
	} {
		h := newHub(t)
		h.emails = emails
		p := h.provider()
		p.RequireDomains = []string{"example.com"}
		got := newBrowser(t).get(newSite(t, oidc.Config{}, p).URL + "/auth/login")
		if ok != (got.ID == "octo@example.com") || !ok && got.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", emails, got.status, got.body)
		}
	}
}

func TestGitHubsTokenStaysThere(t *testing.T) {
	t.Parallel()
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
	t.Cleanup(evil.Close)
	h := newHub(t)
	h.orgs, h.evil = 5, evil.URL
	if got := newBrowser(t).get(newSite(t, oidc.Config{}, h.provider()).URL + "/auth/login"); got.ID == "" {
		t.Errorf("%+v", got)
	}
}

func TestGitHubRefuses(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	p := h.provider()
	p.Secret = func() (string, error) { return "wrong", nil }
	s := newSite(t, oidc.Config{}, p)
	if got := newBrowser(t).get(s.URL + "/auth/login"); got.status != http.StatusBadGateway || strings.Contains(got.body+s.log.String(), "secret text") {
		t.Errorf("%d %s %s", got.status, got.body, s.log)
	}
	h.down.Store(true)
	s = newSite(t, oidc.Config{}, h.provider())
	if got := newBrowser(t).get(s.URL + "/auth/login"); got.status != http.StatusBadGateway || strings.Contains(got.body+s.log.String(), "secret text") {
		t.Errorf("%d %s %s", got.status, got.body, s.log)
	}
}
