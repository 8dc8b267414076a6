package oidc_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

// nowhere is a provider whose issuer is never asked.
func nowhere(name string) oidc.Provider {
	return oidc.Provider{Name: name, ClientID: clientID, Issuer: issuer.Options{URL: "https://127.0.0.1:1"}}
}

func request(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://registry.example.com/v2/", http.NoBody)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

var alice = authz.Identity{ID: "alice", Groups: []string{"dev", "ops"}, Provider: "sso"}

// grant returns the cookie of a session.
func grant(t *testing.T, l *oidc.Login, who authz.Identity) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if err := l.Grant(w, request(), who); err != nil {
		t.Fatal(err)
	}
	return given(t, w)
}

// given returns the only cookie of an answer, or nil.
func given(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	all := w.Header()["Set-Cookie"]
	if len(all) == 0 {
		return nil
	}
	c, err := http.ParseSetCookie(all[0])
	if err != nil || len(all) > 1 {
		t.Fatalf("%q, %v", all, err)
	}
	return c
}

// isRefused fails unless the credentials are found, and wrong.
func isRefused(t *testing.T, what string, l *oidc.Login, r *http.Request) {
	t.Helper()
	who, found, err := l.Identify(r)
	if !found || !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
		t.Errorf("%s: %+v, %t, %v", what, who, found, err)
	}
}

func isAlice(t *testing.T, what string, l *oidc.Login, r *http.Request) {
	t.Helper()
	who, found, err := l.Identify(r)
	if !found || err != nil || who.ID != "alice" || who.Provider != "sso" || !slices.Equal(who.Groups, alice.Groups) {
		t.Errorf("%s: %+v, %t, %v", what, who, found, err)
	}
}

func TestASession(t *testing.T) {
	t.Parallel()
	l := newLogin(t, oidc.Config{}, nowhere("sso"))
	c := grant(t, l, alice)
	isAlice(t, "a session", l, request(c))
	isAlice(t, "after a restart", newLogin(t, oidc.Config{}, nowhere("sso")), request(c))
	if who, found, err := l.Identify(request()); found || err != nil || !who.IsAnonymous() {
		t.Errorf("without: %+v, %t, %v", who, found, err)
	}
	if who, found, err := l.Identify(request(&http.Cookie{Name: "other", Value: c.Value})); found || err != nil {
		t.Errorf("another cookie: %+v, %t, %v", who, found, err)
	}
}

func TestCookieTheft(t *testing.T) {
	t.Parallel()
	l := newLogin(t, oidc.Config{}, nowhere("sso"))
	c := grant(t, l, alice)
	stolen := func(from *oidc.Login) *http.Cookie {
		return &http.Cookie{Name: c.Name, Value: grant(t, from, alice).Value}
	}
	isRefused(t, "of another registry with the same keys", l, request(stolen(newLogin(t, oidc.Config{Registry: "other"}, nowhere("sso")))))
	isRefused(t, "of a registry with other keys", l, request(stolen(newLogin(t, oidc.Config{Keys: ring("x")}, nowhere("sso")))))
	isRefused(t, "of a provider that's gone", newLogin(t, oidc.Config{}, nowhere("other")), request(c))
	if other := newLogin(t, oidc.Config{Registry: "other"}, nowhere("sso")); other.SessionCookie(request()) == c.Name {
		t.Error("two registries have cookies of one name")
	}
	value, err := l.SealLogin(request(), "test", "sso", "alice")
	if err != nil {
		t.Fatal(err)
	}
	isRefused(t, "of an attempt to sign in", l, request(&http.Cookie{Name: c.Name, Value: value}))
}

// TestASessionOfOtherTerms: who began under another issuer of that name, or before more
// was required, signs in again.
func TestASessionOfOtherTerms(t *testing.T) {
	t.Parallel()
	base := nowhere("sso")
	base.RequireGroups, base.RequireDomains = []string{"dev", "ops"}, []string{"example.com"}
	c := grant(t, newLogin(t, oidc.Config{}, base), alice)
	for name, change := range map[string]func(*oidc.Provider){
		"another issuer":       func(p *oidc.Provider) { p.Issuer.URL = "https://127.0.0.1:2" },
		"another client":       func(p *oidc.Provider) { p.ClientID = "other" },
		"another group":        func(p *oidc.Provider) { p.RequireGroups = []string{"dev"} },
		"a group as a domain":  func(p *oidc.Provider) { p.RequireGroups, p.RequireDomains = p.RequireDomains, p.RequireGroups },
		"no domain":            func(p *oidc.Provider) { p.RequireDomains = nil },
		"only what's verified": func(p *oidc.Provider) { p.UnverifiedEmail = true },
		"another claim's name": func(p *oidc.Provider) { p.User = []string{"sub"} },
	} {
		p := base
		change(&p)
		isRefused(t, name, newLogin(t, oidc.Config{}, p), request(c))
	}
	same := base
	same.RequireGroups, same.Title, same.Scopes = []string{"ops", "dev"}, "Another title", []string{"openid", "x"}
	isAlice(t, "the same terms", newLogin(t, oidc.Config{}, same), request(c))
}

func TestForgedCookies(t *testing.T) {
	t.Parallel()
	l := newLogin(t, oidc.Config{}, nowhere("sso"))
	c := grant(t, l, alice)
	part := strings.Split(c.Value, ".")
	if len(part) != 3 {
		t.Fatal(c.Value)
	}
	payload, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	admin := encode(bytes.Replace(payload, []byte("alice"), []byte("admin"), 1))
	for name, value := range map[string]string{
		"another user":     part[0] + "." + admin + "." + part[2],
		"no signature":     part[0] + "." + part[1] + ".",
		"half a signature": part[0] + "." + part[1] + "." + part[2][:20],
		"another key":      "x." + part[1] + "." + part[2],
		"no key":           "." + part[1] + "." + part[2],
		"two parts":        part[1] + "." + part[2],
		"more behind":      c.Value + ".x",
		"padding":          c.Value + "=",
		"not base64":       part[0] + ".!." + part[2],
		"words":            "alice",
		"too large":        part[0] + "." + part[1] + "." + part[2] + strings.Repeat("A", 4096),
	} {
		isRefused(t, name, l, request(&http.Cookie{Name: c.Name, Value: value}))
	}
	isRefused(t, "two cookies", l, request(c, &http.Cookie{Name: c.Name, Value: "x"}))
}

func TestRequestsOfOtherSites(t *testing.T) {
	t.Parallel()
	l := newLogin(t, oidc.Config{}, nowhere("sso"))
	c := grant(t, l, alice)
	for _, test := range []struct {
		method string
		header map[string]string
		ok     bool
	}{
		{http.MethodGet, map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		{http.MethodPut, nil, true},
		{http.MethodPut, map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		{http.MethodPut, map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{http.MethodDelete, map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		{http.MethodPost, map[string]string{"Origin": "https://registry.example.com"}, true},
		{http.MethodPost, map[string]string{"Origin": "https://evil.example"}, false},
		{http.MethodPost, map[string]string{"Origin": "null"}, false},
		{http.MethodPost, map[string]string{"Origin": "https://registry.example.com", "Sec-Fetch-Site": "cross-site"}, false},
	} {
		r := request(c)
		r.Method = test.method
		for k, v := range test.header {
			r.Header.Set(k, v)
		}
		what := fmt.Sprint(test.method, test.header)
		if test.ok {
			isAlice(t, what, l, r)
		} else {
			isRefused(t, what, l, r)
		}
	}
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t, oidc.Config{Lifetime: time.Hour, IdleLifetime: 10 * time.Minute}, nowhere("sso"))
		idle := grant(t, l, alice)
		inUse := idle
		renewed := 0
		for range 59 {
			time.Sleep(time.Minute)
			isAlice(t, "in use", l, request(inUse))
			w := httptest.NewRecorder()
			l.Renew(w, request(inUse))
			if c := given(t, w); c != nil {
				inUse, renewed = c, renewed+1
				if c.MaxAge > 600 || c.MaxAge <= 0 {
					t.Errorf("a cookie's age is %d s", c.MaxAge)
				}
			}
		}
		if renewed != 59 {
			t.Errorf("renewed %d times", renewed)
		}
		isRefused(t, "idle", l, request(idle))
		time.Sleep(time.Minute)
		isRefused(t, "after its lifetime", l, request(inUse))
		w := httptest.NewRecorder()
		l.Renew(w, request(inUse))
		l.Renew(w, request())
		l.Renew(w, request(&http.Cookie{Name: idle.Name, Value: "x"}))
		if len(w.Header()) > 0 {
			t.Errorf("what isn't a session was renewed: %v", w.Header())
		}
	})
}

func TestDefaultLifetimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t, oidc.Config{}, nowhere("sso"))
		c := grant(t, l, alice)
		if c.MaxAge != 2*60*60 {
			t.Errorf("%d s", c.MaxAge)
		}
		time.Sleep(2*time.Hour - time.Second)
		isAlice(t, "before two hours", l, request(c))
		time.Sleep(time.Second)
		isRefused(t, "after two hours", l, request(c))
	})
}

func TestGroupsThatDoNotFit(t *testing.T) {
	t.Parallel()
	text := new(log)
	config := oidc.Config{Logger: slog.New(slog.NewTextHandler(text, nil))}
	many := alice
	many.Groups = nil
	for i := range 1000 {
		many.Groups = append(many.Groups, fmt.Sprintf("group-%04d <&> with a name", i))
	}
	l := newLogin(t, config, nowhere("sso"))
	c := grant(t, l, many)
	if n := len(c.Name) + len(c.Value); n > 4093 {
		t.Errorf("the cookie has %d bytes", n)
	}
	who, _, err := l.Identify(request(c))
	if err != nil || len(who.Groups) < 30 || len(who.Groups) > 200 || !slices.Equal(who.Groups, many.Groups[:len(who.Groups)]) {
		t.Errorf("%d groups, %v", len(who.Groups), err)
	}
	if !strings.Contains(text.String(), "groups don't fit") || !strings.Contains(text.String(), fmt.Sprintf("kept=%d", len(who.Groups))) {
		t.Errorf("the log: %s", text)
	}
	config.KeepGroup = func(g string) bool { return strings.HasPrefix(g, "group-0999") }
	l = newLogin(t, config, nowhere("sso"))
	if who, _, err = l.Identify(request(grant(t, l, many))); err != nil || len(who.Groups) != 1 {
		t.Errorf("%v, %v", who.Groups, err)
	}
	long := authz.Identity{ID: strings.Repeat("<", 256), Provider: "sso"}
	if c := grant(t, l, long); len(c.Name)+len(c.Value) > 4093 {
		t.Errorf("the longest name makes a cookie of %d bytes", len(c.Value))
	}
}

// signedIn is a browser after a login, and its cookies.
func signedIn(t *testing.T, s *site) (*browser, []*http.Cookie) {
	t.Helper()
	b := newBrowser(t)
	if got := b.get(s.URL + "/auth/login"); got.ID == "" {
		t.Fatalf("%+v", got)
	}
	return b, b.cookies(s.URL)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	s := newSite(t, oidc.Config{Store: newStore()}, provider(i))
	logout := s.URL + "/auth/logout"
	end := i.URL + "/logout?client_id=" + clientID + "&post_logout_redirect_uri=" + strings.NewReplacer(":", "%3A", "/", "%2F").Replace(s.URL+"/")

	b, _ := signedIn(t, s)
	for _, header := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
	} {
		if got := b.post(logout, header); got.status != http.StatusForbidden || len(got.header["Set-Cookie"]) > 0 {
			t.Errorf("%v: %d", header, got.status)
		}
	}
	if got := b.get(logout); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got.status)
	}
	if got := b.get(s.URL); got.ID == "" {
		t.Errorf("another site has ended the session")
	}
	got := b.post(logout, map[string]string{"Sec-Fetch-Site": "same-origin"})
	if got.status != http.StatusSeeOther || got.header.Get("Location") != end {
		t.Errorf("%d, to %s", got.status, got.header.Get("Location"))
	}
	if got := b.get(s.URL); got.Found {
		t.Errorf("after the logout: %+v", got)
	}
}

// TestLogoutEverywhere: a session that was ended is nobody's, at any replica; and what
// couldn't be ended isn't said to be.
func TestLogoutEverywhere(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	shared := newStore()
	s := newSite(t, oidc.Config{Store: shared}, provider(i))
	replica := newSite(t, oidc.Config{Store: shared}, provider(i))
	logout := s.URL + "/auth/logout"
	b, stolen := signedIn(t, s)
	if got := b.post(logout, map[string]string{"Accept": "application/json"}); got.status != http.StatusOK || !strings.Contains(got.body, `{"endSessionUrl":"`+i.URL+`/logout?client_id=`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, at := range []*site{s, replica} {
		thief := newBrowser(t)
		thief.put(at.URL, stolen...)
		if got := thief.get(at.URL); !got.Found || got.Refused == nil || !*got.Refused {
			t.Errorf("a stolen cookie after the logout: %+v", got)
		}
	}

	if got := newBrowser(t).post(logout, nil); got.status != http.StatusSeeOther || got.header.Get("Location") != "/" {
		t.Errorf("without a session: %d %s", got.status, got.header.Get("Location"))
	}
	b, _ = signedIn(t, s)
	shared.setDown(true)
	if got := b.post(logout, nil); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, errDown.Error()) {
		t.Errorf("while the store is down: %d %s", got.status, got.body)
	}
	shared.setDown(false)
	if got := b.get(s.URL); got.ID == "" {
		t.Errorf("what couldn't end goes on: %+v", got)
	}
}

func TestLogoutWhereTheProviderHasNone(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.Login.Discovery = map[string]any{"end_session_endpoint": nil}
	s := newSite(t, oidc.Config{}, provider(i))
	b := newBrowser(t)
	b.get(s.URL + "/auth/login")
	if got := b.post(s.URL+"/auth/logout", map[string]string{"Accept": "application/json"}); got.status != http.StatusOK || strings.TrimSpace(got.body) != "{}" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// end signs somebody out, and returns the cookie of the session that was.
func end(t *testing.T, l *oidc.Login, c *http.Cookie) *http.Cookie {
	t.Helper()
	r := request(c)
	r.Method, r.URL.Path = http.MethodPost, "/auth/logout"
	r.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	isRefused(t, "ended", l, request(c))
	return c
}

func TestSessionsThatEndedAreForgottenInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		login := func() *oidc.Login {
			return newLogin(t, oidc.Config{Store: shared, Lifetime: time.Hour}, nowhere("sso"))
		}
		l := login()
		signOut := func(user string) *http.Cookie {
			return end(t, l, grant(t, l, authz.Identity{ID: user, Provider: "sso"}))
		}
		signOut("alice")
		before := len(shared.text())
		time.Sleep(time.Hour)
		signOut("alice")
		if got := len(shared.text()); got != before {
			t.Errorf("%d bytes, want %d", got, before)
		}
		many := map[string]int64{}
		for i := range oidc.MaxEnded {
			many[fmt.Sprintf("%032d", i)] = time.Now().Add(-time.Duration(i) * time.Second).Unix()
		}
		shared.fill(t, "sessions/ended", map[string]any{"sessions": many, "users": map[string]int64{}})
		var last *http.Cookie
		for i := range 10 {
			time.Sleep(time.Second)
			last = signOut(fmt.Sprint("user", i))
		}
		isRefused(t, "the last", login(), request(last))
		if got := len(shared.text()); got > 64<<10 || got < oidc.MaxEnded*45 {
			t.Errorf("%d bytes", got)
		}
		if text := shared.text(); !strings.Contains(text, fmt.Sprintf("%032d", 0)) || strings.Contains(text, fmt.Sprintf("%032d", oidc.MaxEnded-1)) {
			t.Error("others than the oldest were dropped")
		}
	})
}

// TestALogoutCanNotBeUndone: whoever has an account and a stolen cookie signs in and out
// until the list is full.
func TestALogoutCanNotBeUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		login := func() *oidc.Login {
			return newLogin(t, oidc.Config{Store: shared}, nowhere("sso"), nowhere("other"))
		}
		l := login()
		stolen := end(t, l, grant(t, l, alice))
		mallory := authz.Identity{ID: "mallory", Provider: "sso"}
		earlier := grant(t, l, mallory)
		time.Sleep(time.Second)
		namesake := grant(t, l, authz.Identity{ID: "mallory", Provider: "other"})
		var first, last *http.Cookie
		for range oidc.MaxEnded + 10 {
			time.Sleep(time.Second)
			last = end(t, l, grant(t, l, mallory))
			if first == nil {
				first = last
			}
		}
		time.Sleep(time.Second)
		later := grant(t, l, mallory)
		replica := login()
		isRefused(t, "what was stolen", replica, request(stolen))
		isRefused(t, "the first", replica, request(first))
		isRefused(t, "the last", replica, request(last))
		isRefused(t, "one that began before", replica, request(earlier))
		for what, c := range map[string]*http.Cookie{"one that began later": later, "a namesake's": namesake} {
			if who, _, err := replica.Identify(request(c)); err != nil || who.ID != "mallory" {
				t.Errorf("%s: %v, %v", what, who, err)
			}
		}
		if n := len(shared.text()); n > 500 {
			t.Errorf("%d bytes for two users", n)
		}
	})
}

// TestAFewLogouts end those sessions alone.
func TestAFewLogouts(t *testing.T) {
	t.Parallel()
	shared := newStore()
	l := newLogin(t, oidc.Config{Store: shared}, nowhere("sso"))
	other := grant(t, l, alice)
	for range oidc.MaxOwn {
		end(t, l, grant(t, l, alice))
	}
	isAlice(t, "another browser", l, request(other))
}

func TestAStoreThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		l := newLogin(t, oidc.Config{Store: shared}, nowhere("sso"))
		c := grant(t, l, alice)
		shared.setDown(true)
		if _, found, err := l.Identify(request(c)); !found || err == nil || errors.Is(err, authn.ErrRefused) {
			t.Errorf("nobody knows whether it has ended: %t, %v", found, err)
		}
		shared.setDown(false)
		time.Sleep(time.Minute)
		isAlice(t, "the store is back", l, request(c))
		shared.setDown(true)
		time.Sleep(time.Minute)
		isAlice(t, "what it said last", l, request(c))
	})
}
