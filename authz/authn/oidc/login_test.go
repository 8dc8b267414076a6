package oidc_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

func TestSigningIn(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.Login.IDToken["groups"] = []string{"b", "a"}
	s := newSite(t, oidc.Config{}, provider(i))
	b := newBrowser(t)
	if got := b.get(s.URL + "/x"); got.Found || got.ID != "" {
		t.Fatalf("before: %+v", got)
	}
	got := b.get(s.URL + "/auth/login?return_to=" + url.QueryEscape("/x?y=z&a=b"))
	if got.ID != "alice@example.com" || got.Provider != "sso" || !slices.Equal(got.Groups, []string{"a", "b"}) || got.Path != "/x?y=z&a=b" {
		t.Fatalf("%+v", got)
	}
	if got := b.get(s.URL + "/other"); got.ID != "alice@example.com" {
		t.Errorf("later: %+v", got)
	}
	for _, c := range b.cookies(s.URL) {
		if !strings.HasPrefix(c.Name, "__Host-oci_session_") {
			t.Errorf("the cookie %s is left", c.Name)
		}
	}
	if text := s.log.String(); !strings.Contains(text, "signed in") || strings.Contains(text, secret) {
		t.Errorf("the log: %s", text)
	}
}

func TestCookies(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newSite(t, oidc.Config{}, provider(i))
	plain := httptest.NewServer(s.Config.Handler)
	t.Cleanup(plain.Close)
	for place, prefix := range map[string]string{s.URL: "__Host-oci_", plain.URL: "oci_"} {
		b := newBrowser(t)
		to, begun := b.step(place + "/auth/login")
		back, _ := b.step(to)
		_, done := b.step(back)
		for _, seen := range []seen{begun, done} {
			if seen.header.Get("Cache-Control") != "no-store" || seen.header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%v", seen.header)
			}
			for _, line := range seen.header["Set-Cookie"] {
				c, err := http.ParseSetCookie(line)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(c.Name, prefix) || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" ||
					c.Domain != "" || c.Secure != (prefix[0] == '_') || c.MaxAge == 0 || len(line) > 4096 {
					t.Errorf("%s", line)
				}
			}
		}
	}
}

func TestThePublicAddress(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newSite(t, oidc.Config{
		Prefix: "/zot/auth/",
		Origin: func(*http.Request) (string, string) { return "https", "registry.example.com" },
	}, provider(i))
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:5000/zot/auth/login", http.NoBody)
	w := httptest.NewRecorder()
	s.login.ServeHTTP(w, r)
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil || to.Query().Get("redirect_uri") != "https://registry.example.com/zot/auth/callback/sso" {
		t.Errorf("%s, %v", to, err)
	}
	if c := w.Header().Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-") || !strings.Contains(c, "; Secure") {
		t.Errorf("%s", c)
	}
}

func TestWhatTheProviderIsAsked(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newSite(t, oidc.Config{}, provider(i))
	ask := func() url.Values {
		to, _ := newBrowser(t).step(s.URL + "/auth/login")
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	one, two := ask(), ask()
	if one.Get("response_type") != "code" || one.Get("code_challenge_method") != "S256" || one.Get("scope") != "openid email profile" {
		t.Errorf("%v", one)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(one.Get(name)) < 22 || one.Get(name) == two.Get(name) {
			t.Errorf("%s: %q, %q", name, one.Get(name), two.Get(name))
		}
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*issuertest.Issuer, *oidc.Provider){
		"Basic": func(*issuertest.Issuer, *oidc.Provider) {},
		"in a form": func(i *issuertest.Issuer, _ *oidc.Provider) {
			i.Login.Discovery = map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}
		},
		"public": func(i *issuertest.Issuer, p *oidc.Provider) { i.Login.ClientSecret, p.Secret = "", nil },
		"no userinfo": func(i *issuertest.Issuer, _ *oidc.Provider) {
			i.Login.Discovery = map[string]any{"userinfo_endpoint": nil}
		},
		"userinfo not wanted": func(i *issuertest.Issuer, p *oidc.Provider) {
			i.Login.UserInfo, p.NoUserInfo = map[string]any{"sub": "another"}, true
		},
	} {
		i := newIssuer(t)
		p := provider(i)
		change(i, &p)
		if got := newBrowser(t).get(newSite(t, oidc.Config{}, p).URL + "/auth/login"); got.ID != "alice@example.com" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSeveralProviders(t *testing.T) {
	t.Parallel()
	one, two := newIssuer(t), newIssuer(t)
	two.Login.IDToken["email"] = "bob@example.com"
	p1, p2 := provider(one), provider(two)
	p2.Name, p2.Title = "other", "The <other> one"
	s := newSite(t, oidc.Config{}, p1, p2)
	b := newBrowser(t)
	page := b.get(s.URL + "/auth/login?return_to=/ui")
	if page.status != http.StatusOK || !strings.Contains(page.body, "The &lt;other&gt; one") ||
		!strings.Contains(page.body, `href="/auth/login?provider=other&amp;return_to=%2Fui"`) {
		t.Fatalf("%d %s", page.status, page.body)
	}
	if got := b.get(s.URL + "/auth/login?provider=other&return_to=/ui"); got.ID != "bob@example.com" || got.Provider != "other" || got.Path != "/ui" {
		t.Errorf("%+v", got)
	}
	if got := b.get(s.URL + "/auth/login?provider=none"); got.status != http.StatusNotFound {
		t.Errorf("%+v", got)
	}
}

func TestAProviderThatIsDown(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.SetDown(true)
	s := newSite(t, oidc.Config{}, provider(i)) // and nobody panics
	b := newBrowser(t)
	if got := b.get(s.URL + "/auth/login"); got.status != http.StatusBadGateway || strings.Contains(got.body, "secret text") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if strings.Contains(s.log.String(), "secret text") {
		t.Errorf("the log: %s", s.log)
	}
}

// shape is a provider's way of saying things.
type shape struct {
	Kind                     oidc.Kind
	User, Groups             []string       // claims, if they aren't the kind's
	IDToken, UserInfo        map[string]any // what it says
	WantUser                 string
	WantGroups, WantInTheLog []string
}

func TestShapes(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/shapes.json")
	if err != nil {
		t.Fatal(err)
	}
	var shapes map[string]shape
	if err := json.Unmarshal(data, &shapes); err != nil {
		t.Fatal(err)
	}
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			i.Login.IDToken, i.Login.UserInfo = c.IDToken, c.UserInfo
			p := provider(i)
			p.Kind, p.User, p.Groups = c.Kind, c.User, c.Groups
			s := newSite(t, oidc.Config{}, p)
			got := newBrowser(t).get(s.URL + "/auth/login")
			if got.ID != c.WantUser || !slices.Equal(got.Groups, c.WantGroups) {
				t.Errorf("%+v", got)
			}
			if c.WantUser == "" && got.status != http.StatusForbidden {
				t.Errorf("%d %s", got.status, got.body)
			}
			for _, text := range c.WantInTheLog {
				if !strings.Contains(s.log.String(), text) {
					t.Errorf("%q isn't in the log: %s", text, s.log)
				}
			}
		})
	}
}

func TestWhoMaySignIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		groups, domains []string
		idToken         map[string]any
		ok              bool
	}{
		{nil, nil, nil, true},
		{[]string{"x", "dev"}, nil, map[string]any{"groups": []string{"dev"}}, true},
		{[]string{"x"}, nil, map[string]any{"groups": []string{"dev"}}, false},
		{[]string{"x"}, nil, nil, false},
		{nil, []string{"Example.com"}, nil, true},
		{nil, []string{"other.com", "example.com"}, nil, true},
		{nil, []string{"other.com"}, nil, false},
		{nil, []string{"ample.com"}, nil, false},
		{nil, []string{"example.com"}, map[string]any{"email": "alice@evil.com@example.com.evil"}, false},
		{nil, []string{"example.com"}, map[string]any{"email_verified": nil}, false},
		{nil, []string{"example.com"}, map[string]any{"email_verified": false}, false},
		{nil, []string{"example.com"}, map[string]any{"email_verified": "true"}, true},
		{nil, []string{"example.com"}, map[string]any{"email": "example.com"}, false},
		{nil, nil, map[string]any{"email_verified": false}, false},
		{nil, nil, map[string]any{"email_verified": "false"}, false},
		{nil, nil, map[string]any{"email_verified": 1}, false},
		{nil, nil, map[string]any{"email_verified": nil}, false},
		{nil, nil, map[string]any{"email": nil}, false},
		{nil, nil, map[string]any{"email": strings.Repeat("x", 257)}, false},
		{nil, nil, map[string]any{"email": "a\nb"}, false},
		{nil, nil, map[string]any{"groups": []string{"a\x00"}}, false},
		{nil, nil, map[string]any{"groups": []string{strings.Repeat("x", 1025)}}, false},
	} {
		i := newIssuer(t)
		maps.Copy(i.Login.IDToken, c.idToken)
		p := provider(i)
		p.RequireGroups, p.RequireDomains = c.groups, c.domains
		s := newSite(t, oidc.Config{}, p)
		got := newBrowser(t).get(s.URL + "/auth/login")
		if c.ok != (got.ID != "") || !c.ok && got.status != http.StatusForbidden {
			t.Errorf("%+v: %d %s", c, got.status, got.body)
		}
	}
}

// TestAnEmailOfWhichNothingIsSaid counts if the configuration says that it does, and one
// that isn't verified doesn't all the same.
func TestAnEmailOfWhichNothingIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		verified any
		domains  []string
		ok       bool
	}{
		{nil, nil, true},
		{false, nil, false},
		{nil, []string{"example.com"}, false},
		{true, []string{"example.com"}, true},
	} {
		i := newIssuer(t)
		i.Login.IDToken["email_verified"] = c.verified
		p := provider(i)
		p.UnverifiedEmail, p.RequireDomains = true, c.domains
		s := newSite(t, oidc.Config{}, p)
		if got := newBrowser(t).get(s.URL + "/auth/login"); c.ok != (got.ID != "") {
			t.Errorf("%+v: %d %s", c, got.status, got.body)
		}
	}
}

func TestOnLogin(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var told []string
	s := newSite(t, oidc.Config{OnLogin: func(_ *http.Request, who authz.Identity, err error) {
		if err != nil {
			told = append(told, who.Provider+" failed")
			return
		}
		told = append(told, who.Provider+" "+who.ID)
	}, OnLogout: func(_ *http.Request, who authz.Identity) {
		told = append(told, who.Provider+" "+who.ID+" is gone")
	}}, provider(i))
	b := newBrowser(t)
	b.get(s.URL + "/auth/login")
	b.get(s.URL + "/auth/callback/sso?state=x&code=y")
	b.post(s.URL+"/auth/logout", nil)
	b.post(s.URL+"/auth/logout", nil) // by nobody
	if !slices.Equal(told, []string{"sso alice@example.com", "sso failed", "sso alice@example.com is gone"}) {
		t.Errorf("%q", told)
	}
}

// TestAskedForRefreshTokens: what makes one provider give them another refuses.
func TestAskedForRefreshTokens(t *testing.T) {
	t.Parallel()
	for kind, want := range map[oidc.Kind]string{
		oidc.Generic:  "openid email profile offline_access",
		oidc.Keycloak: "openid email profile offline_access",
		oidc.GitLab:   "openid email profile",
		oidc.Google:   "openid email profile",
	} {
		p := provider(newIssuer(t))
		p.Kind, p.Follow = kind, time.Hour
		to, _ := newBrowser(t).step(newSite(t, oidc.Config{Store: newStore()}, p).URL + "/auth/login")
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		if q := u.Query(); q.Get("scope") != want || (q.Get("access_type") == "offline") != (kind == oidc.Google) {
			t.Errorf("%q: %v", kind, q)
		}
	}
}

// TestAccountPage: it says who has signed in, to them alone, and lets them sign out.
func TestAccountPage(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.Login.IDToken["email"] = "<b>alice@example.com"
	s := newSite(t, oidc.Config{Home: "/auth", Store: newStore()}, provider(i))
	b := newBrowser(t)
	if got := b.get(s.URL + "/auth"); got.status != http.StatusOK || !strings.Contains(got.body, `href="/auth/login"`) || strings.Contains(got.body, "form") {
		t.Errorf("nobody: %d %s", got.status, got.body)
	}
	got := b.get(s.URL + "/auth/login") // and from there home
	if got.status != http.StatusOK || !strings.Contains(got.body, "You are &lt;b&gt;alice@example.com") || !strings.Contains(got.body, `action="/auth/logout"`) {
		t.Errorf("somebody: %d %s", got.status, got.body)
	}
	if got := b.post(s.URL+"/auth/logout", nil); !strings.Contains(got.header.Get("Location"), "post_logout_redirect_uri="+url.QueryEscape(s.URL+"/auth")) {
		t.Errorf("after it: %s", got.header.Get("Location"))
	}
	if got := b.get(s.URL + "/auth"); !strings.Contains(got.body, "You aren") {
		t.Errorf("nobody again: %s", got.body)
	}
}

func TestWhatIsRefusedAtLoad(t *testing.T) {
	t.Parallel()
	good := oidc.Provider{Name: "sso", ClientID: "c", Issuer: issuer.Options{URL: "https://issuer.example"}}
	changed := func(change func(*oidc.Provider)) []oidc.Provider {
		p := good
		change(&p)
		return []oidc.Provider{p}
	}
	config := oidc.Config{Registry: "r", Keys: ring("k")}
	for name, c := range map[string]struct {
		config    oidc.Config
		providers []oidc.Provider
		want      string
	}{
		"no registry":    {oidc.Config{Keys: ring("k")}, []oidc.Provider{good}, "registry's name"},
		"no keys":        {oidc.Config{Registry: "r"}, []oidc.Provider{good}, "keys"},
		"no provider":    {config, nil, "no provider"},
		"two of a name":  {config, []oidc.Provider{good, good}, "two of that name"},
		"no name":        {config, changed(func(p *oidc.Provider) { p.Name = "" }), "name"},
		"a name's slash": {config, changed(func(p *oidc.Provider) { p.Name = "a/b" }), "name"},
		"no client":      {config, changed(func(p *oidc.Provider) { p.ClientID = "" }), "client"},
		"no issuer":      {config, changed(func(p *oidc.Provider) { p.Issuer.URL = "" }), "URL"},
		"plain HTTP":     {config, changed(func(p *oidc.Provider) { p.Issuer.URL = "http://issuer.example" }), "https"},
		"no such kind":   {config, changed(func(p *oidc.Provider) { p.Kind = "myspace" }), "no kind"},
		"no openid":      {config, changed(func(p *oidc.Provider) { p.Scopes = []string{"email"} }), "openid"},
		"no store":       {config, changed(func(p *oidc.Provider) { p.Follow = 5 * 60e9 }), "store"},
		"all tenants": {config, changed(func(p *oidc.Provider) {
			p.Kind, p.Issuer.URL = oidc.Entra, "https://login.microsoftonline.com/common/v2.0"
		}), "one tenant"},
		"Entra as any other": {config, changed(func(p *oidc.Provider) {
			p.Issuer.URL = "https://Login.MicrosoftOnline.com/6a73ca24-6d4c-4dc6-8f5e-0b4e4c5cb7d5/v2.0"
		}), "want the kind entra"},
		"a short life": {oidc.Config{Registry: "r", Keys: ring("k"), Lifetime: 1}, []oidc.Provider{good}, "minute"},
		"a bad path":   {oidc.Config{Registry: "r", Keys: ring("k"), Prefix: "auth"}, []oidc.Provider{good}, "path"},
		"a bad home":   {oidc.Config{Registry: "r", Keys: ring("k"), Home: "//evil.example"}, []oidc.Provider{good}, "path"},
		"too often": {oidc.Config{Registry: "r", Keys: ring("k"), Store: newStore()}, changed(func(p *oidc.Provider) {
			p.Follow = 1e9
		}), "once a minute"},
	} {
		c.config.Providers = c.providers
		if _, err := oidc.New(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, kind := range []oidc.Kind{oidc.Google, oidc.GitHub, oidc.GitLab} {
		p := good
		p.Kind, p.Issuer.URL = kind, ""
		newLogin(t, config, p)
	}
}
