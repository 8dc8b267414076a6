package oidc_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

// refusedPage fails unless a page says no more than that it didn't work.
func refusedPage(t *testing.T, what string, got seen) {
	t.Helper()
	if got.status != http.StatusBadRequest || !strings.Contains(got.body, "<h1>Signing in didn") {
		t.Errorf("%s: %d %s", what, got.status, got.body)
	}
	h := got.header
	if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Cache-Control") != "no-store" || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Errorf("%s: %v", what, h)
	}
}

// upToCallback signs in, but doesn't come back.
func upToCallback(b *browser, s *site) (callback string) {
	to, _ := b.step(s.URL + "/auth/login?provider=sso&return_to=/x")
	callback, _ = b.step(to)
	return callback
}

// with changes the query of a URL.
func with(t *testing.T, place string, changes ...string) string {
	t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(changes); i += 2 {
		q.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			q.Del(changes[i])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// forgeries are callbacks that are other than the provider has sent them to a browser.
func forgeries(t *testing.T, s *site, two *issuertest.Issuer) map[string]func(b *browser, callback string) seen {
	t.Helper()
	return map[string]func(b *browser, callback string) seen{
		"no cookie": func(_ *browser, callback string) seen { return newBrowser(t).get(callback) },
		"a callback of another browser": func(_ *browser, callback string) seen {
			victim := newBrowser(t)
			upToCallback(victim, s)
			return victim.get(callback)
		},
		"another state": func(b *browser, callback string) seen { return b.get(with(t, callback, "state", "x")) },
		"no state":      func(b *browser, callback string) seen { return b.get(with(t, callback, "state", "")) },
		"no code":       func(b *browser, callback string) seen { return b.get(with(t, callback, "code", "")) },
		"another code":  func(b *browser, callback string) seen { return b.get(with(t, callback, "code", "x")) },
		"an error": func(b *browser, callback string) seen {
			return b.get(with(t, callback, "error", "<script>access_denied"))
		},
		"a code of another login": func(b *browser, callback string) seen {
			theirs, _ := url.Parse(upToCallback(newBrowser(t), s))
			return b.get(with(t, callback, "code", theirs.Query().Get("code")))
		},
		"another provider": func(b *browser, callback string) seen {
			return b.get(strings.Replace(callback, "/callback/sso", "/callback/other", 1))
		},
		"an answer of another issuer": func(b *browser, callback string) seen { return b.get(with(t, callback, "iss", two.URL)) },
		"a login begun again": func(b *browser, callback string) seen {
			b.step(s.URL + "/auth/login?provider=sso")
			return b.get(callback)
		},
		"a forged cookie": func(b *browser, callback string) seen {
			for _, c := range b.cookies(s.URL) {
				c.Value = c.Value[:len(c.Value)-4] + "AAAA"
				b.put(s.URL, c)
			}
			return b.get(callback)
		},
	}
}

func TestCallbacksThatNobodyBegan(t *testing.T) {
	t.Parallel()
	one, two := newIssuer(t), newIssuer(t)
	other := provider(two)
	other.Name = "other"
	s := newSite(t, oidc.Config{}, provider(one), other)
	for name, attack := range forgeries(t, s, two) {
		b := newBrowser(t)
		refusedPage(t, name, attack(b, upToCallback(b, s)))
		if got := b.get(s.URL + "/x"); got.Found || got.ID != "" {
			t.Errorf("%s: %+v", name, got)
		}
		for _, c := range b.cookies(s.URL) {
			if !strings.Contains(name, "browser") && !strings.Contains(name, "no cookie") {
				t.Errorf("%s: the cookie %s is left", name, c.Name)
			}
		}
	}
	text := s.log.String()
	if strings.Contains(text, "secret text") || strings.Contains(text, secret) {
		t.Errorf("the log: %s", text)
	}
	for _, reason := range []string{ // each of its own: the provider would refuse some of them, too
		"hasn't begun", "the state isn't the one", "sends no code", "the provider says", "began with provider",
		"the provider that answers is another one", "isn't signed with a key", "refuses the code",
	} {
		if !strings.Contains(text, reason) {
			t.Errorf("%q isn't in the log: %s", reason, text)
		}
	}
	b := newBrowser(t)
	if got := b.get(upToCallback(b, s)); got.ID != "alice@example.com" {
		t.Errorf("without an attack: %+v", got)
	}
}

func TestAStateThatCameBackAlready(t *testing.T) {
	t.Parallel()
	s := newSite(t, oidc.Config{}, provider(newIssuer(t)))
	b := newBrowser(t)
	callback := upToCallback(b, s)
	kept := b.cookies(s.URL)
	if got := b.get(callback); got.ID == "" {
		t.Fatalf("%+v", got)
	}
	refusedPage(t, "without the cookie", b.get(callback))
	thief := newBrowser(t)
	thief.put(s.URL, kept...)
	refusedPage(t, "with the cookie", thief.get(callback))
	if !strings.Contains(s.log.String(), "the state has been used") {
		t.Errorf("the log: %s", s.log)
	}
}

func TestForgedIDTokens(t *testing.T) {
	t.Parallel()
	stranger := issuertest.NewKey(t, jose.ES256)
	for name, forge := range map[string]func(i *issuertest.Issuer, claims map[string]any) string{
		"another nonce":    func(_ *issuertest.Issuer, c map[string]any) string { c["nonce"] = "x"; return "" },
		"no nonce":         func(_ *issuertest.Issuer, c map[string]any) string { delete(c, "nonce"); return "" },
		"another audience": func(_ *issuertest.Issuer, c map[string]any) string { c["aud"] = "another"; return "" },
		"no audience":      func(_ *issuertest.Issuer, c map[string]any) string { delete(c, "aud"); return "" },
		"several audiences": func(_ *issuertest.Issuer, c map[string]any) string {
			c["aud"] = []string{clientID, "another"}
			return ""
		},
		"another azp": func(_ *issuertest.Issuer, c map[string]any) string {
			c["aud"], c["azp"] = []string{clientID, "another"}, "another"
			return ""
		},
		"another issuer": func(_ *issuertest.Issuer, c map[string]any) string { c["iss"] = "https://evil.example"; return "" },
		"expired":        func(_ *issuertest.Issuer, c map[string]any) string { c["exp"] = issuertest.Expired(); return "" },
		"never expires":  func(_ *issuertest.Issuer, c map[string]any) string { delete(c, "exp"); return "" },
		"nobody":         func(_ *issuertest.Issuer, c map[string]any) string { delete(c, "sub"); return "" },
		"another than userinfo": func(_ *issuertest.Issuer, c map[string]any) string {
			c["sub"] = "another"
			return ""
		},
		"a stranger's key": func(_ *issuertest.Issuer, c map[string]any) string { return stranger.Sign(t, c, nil) },
		"none": func(i *issuertest.Issuer, c map[string]any) string {
			return "eyJhbGciOiJub25lIn0." + strings.Split(i.Sign(t, c), ".")[1] + "."
		},
		"HS256 with the client's secret": func(i *issuertest.Issuer, c map[string]any) string {
			return hmacToken(t, i, c, []byte(strings.Repeat(secret, 3)))
		},
		"HS256 with the public key": func(i *issuertest.Issuer, c map[string]any) string {
			public := i.Key().Public()
			jwk, err := public.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			return hmacToken(t, i, c, jwk)
		},
		"no token": func(*issuertest.Issuer, map[string]any) string { return "x" },
	} {
		i := newIssuer(t)
		i.Login.Forge = func(claims map[string]any) string { return forge(i, claims) }
		p := provider(i)
		p.NoUserInfo = name != "another than userinfo"
		s := newSite(t, oidc.Config{}, p)
		b := newBrowser(t)
		refusedPage(t, name, b.get(s.URL+"/auth/login"))
		if got := b.get(s.URL); got.ID != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func hmacToken(t *testing.T, i *issuertest.Issuer, claims map[string]any, key []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", i.Key().ID))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAudiencesThatAreRight(t *testing.T) {
	t.Parallel()
	for _, claims := range []map[string]any{
		{"azp": clientID},
		{"aud": []string{clientID}},
		{"aud": []string{"another", clientID}, "azp": clientID},
	} {
		i := newIssuer(t)
		maps.Copy(i.Login.IDToken, claims)
		if got := newBrowser(t).get(newSite(t, oidc.Config{}, provider(i)).URL + "/auth/login"); got.ID == "" {
			t.Errorf("%v: %d %s", claims, got.status, got.body)
		}
	}
}

func TestTheIssuerInTheAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		promised bool
		iss      string // of the answer; SELF is right
		ok       bool
	}{
		{false, "", true},
		{false, "SELF", true},
		{false, "https://evil.example", false},
		{true, "", false},
		{true, "SELF", true},
		{true, "https://evil.example", false},
	} {
		i := newIssuer(t)
		i.Login.Discovery = map[string]any{"authorization_response_iss_parameter_supported": c.promised}
		i.Login.Answer = func(q url.Values) {
			if c.iss != "" {
				q.Set("iss", strings.Replace(c.iss, "SELF", i.URL, 1))
			}
		}
		if got := newBrowser(t).get(newSite(t, oidc.Config{}, provider(i)).URL + "/auth/login"); c.ok != (got.ID != "") {
			t.Errorf("%+v: %d %s", c, got.status, got.body)
		}
	}
}

func TestOpenRedirects(t *testing.T) {
	t.Parallel()
	s := newSite(t, oidc.Config{}, provider(newIssuer(t)))
	for to, want := range map[string]string{
		"/ui/repositories?q=a%20b#x": "/ui/repositories?q=a%20b#x",
		"/":                          "/",
		"/a//b":                      "/a//b",
		"/%e4%bd%a0":                 "/%e4%bd%a0",
		"/x?u=https://evil.example":  "/x?u=https://evil.example",

		"":                              "/",
		"//evil.example":                "/",
		"///evil.example":               "/",
		`/\evil.example`:                "/",
		`\\evil.example`:                "/",
		`/x\..\\evil.example`:           "/",
		"/\t/evil.example":              "/",
		"/\n/evil.example":              "/",
		"\t//evil.example":              "/",
		" //evil.example":               "/",
		"/a b":                          "/",
		"/\x00/evil.example":            "/",
		"/%2fevil.example":              "/",
		"/%2F%2Fevil.example":           "/",
		"/%5cevil.example":              "/",
		"%2f%2fevil.example":            "/",
		"https://evil.example":          "/",
		"https:evil.example":            "/",
		"https:/evil.example":           "/",
		"javascript:alert(1)":           "/",
		"evil.example":                  "/",
		"x/../..//evil.example":         "/",
		"?x":                            "/",
		"/a\r\nSet-Cookie: x=y":         "/",
		"/auth/login":                   "/",
		"/auth/logout":                  "/",
		"/auth/callback/sso?code=x":     "/",
		"/%zz":                          "/",
		"/" + strings.Repeat("x", 2000): "/",
	} {
		b := newBrowser(t)
		at, _ := b.step(s.URL + "/auth/login?return_to=" + url.QueryEscape(to))
		back, _ := b.step(at)
		if got, page := b.step(back); got != want || page.status != http.StatusSeeOther {
			t.Errorf("%q goes to %q (%d), want %q", to, got, page.status, want)
		}
	}
}

func TestAnAttemptThatTookTooLong(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		text := new(log)
		l := newLogin(t, oidc.Config{Logger: slog.New(slog.NewTextHandler(text, nil))}, provider(i))
		w := httptest.NewRecorder()
		l.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/auth/login", http.NoBody))
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		r := httptest.NewRequest(http.MethodGet, "/auth/callback/sso?code=x&state="+to.Query().Get("state"), http.NoBody)
		for _, c := range w.Result().Cookies() {
			r.AddCookie(c)
		}
		w = httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(text.String(), "took longer than 10m0s") {
			t.Errorf("%d, %s", w.Code, text)
		}
	})
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, oidc.Config{}, provider(newIssuer(t)))
	b := newBrowser(t)
	for path, want := range map[string]int{
		"/auth/":               http.StatusNotFound,
		"/auth/callback":       http.StatusNotFound,
		"/auth/callback/none":  http.StatusNotFound,
		"/auth/login/":         http.StatusNotFound,
		"/auth/logout":         http.StatusMethodNotAllowed,
		"/auth/callback/sso/x": http.StatusNotFound,
	} {
		if got := b.get(s.URL + path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	for _, path := range []string{"/auth/login", "/auth/callback/sso"} {
		if got := b.post(s.URL+path, nil); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET" {
			t.Errorf("POST of %s: %d", path, got.status)
		}
	}
}
