//go:build !nooidc

package ociregistry

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// Each test here is one attack on who has signed in with a browser. Those on the login
// itself are in authz/authn/oidc.

// A link to the registry leads somewhere else, after signing in or out.
func TestOpenRedirect(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(at(newIssuer(t))))
	for _, to := range []string{
		"https://evil.example/", "//evil.example/", `/\evil.example/`, "/\t/evil.example", "javascript:alert(1)", "https:evil.example", "%2f%2fevil.example",
		"http://" + w.addr + "@evil.example/", "/%2f/evil.example",
	} {
		b := w.browser(t)
		a := b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login?return_to="+url.QueryEscape(to), "")
		if a.Request.URL.Host != w.addr || a.Request.URL.Path != signInPath {
			t.Errorf("%q leads to %s", to, a.Request.URL)
		}
	}
	w.want(t, http.StatusNotFound, http.MethodGet, signInPath+"/login?provider=https://evil.example", "")
	a := w.browser(t).still().want(t, http.StatusSeeOther, http.MethodPost, signInPath+"/logout?return_to=https://evil.example", "")
	if got := a.Header.Get("Location"); got != signInPath {
		t.Errorf("signing out leads to %s", got)
	}
}

// What an issuer would send back is made up, each time after a beginning of one's own, so
// that the issuer is asked; and a page of another site has somebody's browser do it.
func TestMadeUpCallbacks(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "log")
	w.run(t, "log {\noutput file "+file+"\nformat json\n}", withAuth(at(newIssuer(t))+"\nlimits {\nper_address 2 1h\ndelay 1ms\n}"))
	b := w.browser(t).still()
	for i, status := range []int{http.StatusBadRequest, http.StatusBadRequest, http.StatusTooManyRequests} {
		begun := b.want(t, http.StatusSeeOther, http.MethodGet, signInPath+"/login", "")
		to, err := url.Parse(begun.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		a := b.want(t, status, http.MethodGet, signInPath+"/callback/oidc?code=made-up&state="+to.Query().Get("state"), "")
		if wait := a.Header.Get("Retry-After"); (wait != "") != (status == http.StatusTooManyRequests) {
			t.Errorf("number %d: come back after %q", i, wait)
		}
		w.want(t, http.StatusBadRequest, http.MethodGet, signInPath+"/callback/oidc?code=made-up&state=x", "") // by another site's page
	}
	b.want(t, http.StatusOK, http.MethodGet, signInPath, "")
	wantMeasured(t, map[string]float64{
		"requests_total sign-in inline 2xx": 1, "requests_total sign-in inline 3xx": 3, "requests_total sign-in inline 4xx": 6,
	}, "requests_total sign-")
	stop(t)
	only(t, readLog(t, file), `"denied"`)
}

// The pages are asked for more often than anything may be.
func TestPagesAreLimited(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(at(newIssuer(t)), "rate_limit {\nper_address 3 1h\n}"))
	b := w.browser(t)
	for _, path := range []string{"", "/login", "/callback/oidc"} {
		if a, err := b.still().send(t.Context(), http.MethodGet, signInPath+path, ""); err != nil || a.StatusCode == http.StatusTooManyRequests {
			t.Errorf("%s is too many: %v", path, err)
		}
	}
	for _, path := range []string{"", "/login", "/callback/oidc"} {
		if a := b.want(t, http.StatusTooManyRequests, http.MethodGet, signInPath+path, ""); a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: nobody says when to come back", path)
		}
	}
	b.want(t, http.StatusTooManyRequests, http.MethodPost, signInPath+"/logout", "")
	wantMeasured(t, map[string]float64{
		"requests_total sign-in inline 2xx": 1, "requests_total sign-in inline 3xx": 1, "requests_total sign-in inline 4xx": 4,
		"requests_total sign-out inline 4xx": 1,
	}, "requests_total sign-")
}

// A page of another site has the browser end the session, make keys and change content.
func TestForgeryAgainstASession(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(at(newIssuer(t))+"\napi_keys"))
	b := w.browser(t)
	b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	id, _ := b.apiKey(t, `{}`)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Origin", "http://" + w.addr + ".evil.example"},
	} {
		header = append(header, "Content-Type", "application/json")
		b.still().want(t, http.StatusForbidden, http.MethodPost, signInPath+"/logout", "", header...)
		b.want(t, http.StatusForbidden, http.MethodPost, apiKeysPath, `{}`, header...)
		b.want(t, http.StatusForbidden, http.MethodDelete, apiKeysPath+"/"+id, "", header...)
		b.want(t, http.StatusForbidden, http.MethodPost, "/v2/a/blobs/uploads/", "", header...)
		b.want(t, http.StatusForbidden, http.MethodDelete, "/v2/a/manifests/v1", "", header...)
	}
	b.still().want(t, http.StatusMethodNotAllowed, http.MethodGet, signInPath+"/logout", "") // as an image's address
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded"} {       // as forms have them
		b.want(t, http.StatusUnsupportedMediaType, http.MethodPost, apiKeysPath, `{}`, "Content-Type", kind)
	}
	a := b.want(t, http.StatusOK, http.MethodGet, apiKeysPath, "", "Sec-Fetch-Site", "same-origin") // nothing of it has ended the session
	if strings.Count(a.body, `"id"`) != 1 || !strings.Contains(a.body, id) {
		t.Errorf("the keys are %s", a.body)
	}
	if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("pages of %s may read it", got)
	}
}

// A session of one registry, or of a site, opens another one, by whatever name the cookie
// has: all are in one Caddy, at one issuer.
func TestCookieTheftAcrossRegistries(t *testing.T) {
	w := newWeb(t)
	auth := "anonymous none\nauth {\n" + at(newIssuer(t)) + "\napi_keys\n}\n"
	w.run(t, "oci_registry {\nregistry one {\nstorage memory one\n"+auth+"\n}\nregistry two {\nstorage memory two\n"+auth+"\n}\n}",
		"@two header X-Two yes\noci_registry @two two\noci_registry one\n")
	session := func(header ...string) *http.Cookie {
		t.Helper()
		b := w.browser(t)
		b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "", header...)
		b.want(t, http.StatusOK, http.MethodGet, "/v2/", "", header...)
		if len(b.cookies()) != 1 {
			t.Fatalf("cookies: %v", b.cookies())
		}
		return b.cookies()[0]
	}
	one, two := session(), session("X-Two", "yes")
	if one.Name == two.Name {
		t.Errorf("both have the cookie %s, so that a browser can't have both", one.Name)
	}
	for _, stolen := range []string{one.Name + "=" + one.Value, two.Name + "=" + one.Value} {
		w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "X-Two", "yes", "Cookie", stolen)
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Cookie", one.Name+"="+two.Value)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Cookie", one.Name+"="+one.Value)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "X-Two", "yes", "Cookie", two.Name+"="+two.Value)
}

// Somebody who has a session for a moment gets something for it that outlives signing out.
func TestRefreshTokenForASession(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", withAuth(at(newIssuer(t), "follow 5m")+"\nchallenge bearer"))
	b := w.browser(t)
	b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	a := b.want(t, http.StatusOK, http.MethodGet, "/v2/token?offline_token=true&service="+w.addr, "")
	if !strings.Contains(a.body, `"token"`) || strings.Contains(a.body, "refresh_token") {
		t.Errorf("it's %s", a.body)
	}
	if _, err := admin.command(t, "tokens", "revoke", "alice@example.com"); err == nil || !strings.Contains(err.Error(), "no provider of that name") {
		t.Errorf("there's something to revoke: %v", err)
	}
}
