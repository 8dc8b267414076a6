package token_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/token"
)

// login gets a refresh token for alice, as docker does.
func (w *world) login() string {
	w.Helper()
	a := w.send(w.s, w.request("GET", "/v2/token?account=alice&client_id=docker&offline_token=true&service="+host, "", "basic", "alice:secret"))
	if a.status != 200 || a.Refresh == "" || a.Token == "" {
		w.Fatalf("log in: %d %s", a.status, a.body)
	}
	return a.Refresh
}

func (w *world) refresh(s *token.Service, raw string) answer {
	w.Helper()
	return w.post(s, "grant_type", "refresh_token", "refresh_token", raw, "service", host, "client_id", "docker", "scope", "repository:alice:pull,push")
}

func (w *world) refreshed(s *token.Service, raw string) authz.Identity {
	w.Helper()
	a := w.refresh(s, raw)
	if a.status != 200 || a.Refresh != raw || a.Scope != "repository:alice:pull,push" {
		w.Fatalf("refresh: %d %s", a.status, a.body)
	}
	return w.accepted(s, a.Access)
}

func (w *world) notRefreshed(s *token.Service, raw string) {
	w.Helper()
	if a := w.refresh(s, raw); a.status != 401 || a.Access != "" {
		w.Fatalf("refresh: %d %s; want 401", a.status, a.body)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{RotateEvery: 24 * time.Hour})
		raw := w.login()
		form := w.post(w.s, "grant_type", "password", "username", "alice", "password", "secret", "access_type", "offline")
		if form.Refresh == "" || form.Refresh == raw {
			t.Errorf("by a form: %s", form.body)
		}
		w.refused(w.s, raw) // it's for the token server alone
		if a := w.send(w.s, w.request("GET", "/v2/token", "", "basic", "alice:"+raw)); a.status != 401 {
			t.Errorf("as a password: %d", a.status)
		}
		for range 29 {
			time.Sleep(24 * time.Hour)
			if who := w.refreshed(w.replica(), raw); who.ID != "alice" || who.Provider != "file" {
				t.Fatalf("it's %+v", who)
			}
		}
		w.people.set(func(p *people) { p.groups["alice"] = []string{"ops"} })
		if who := w.refreshed(w.s, raw); !slices.Equal(who.Groups, []string{"ops"}) {
			t.Errorf("the groups are %v", who.Groups)
		}
		time.Sleep(24 * time.Hour)
		w.notRefreshed(w.s, raw)
		if n := len(w.forger().Keys); n < 30 || n > 33 { // all that such tokens need
			t.Errorf("%d keys", n)
		}
	})
}

func TestWhoGetsNoRefreshToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.people.set(func(p *people) {
		p.limits["bob"] = []authz.Scope{{Repositories: "**", Actions: []authz.Action{authz.Pull}}}
		p.claims["root"] = map[string]any{"api_key": "k"}
	})
	w.opts.RefreshLife = -1
	never := w.replica()
	w.opts.RefreshLife, w.opts.Directory = 0, func(string) authn.Directory { return nil }
	nowhere := w.replica()
	w.opts.Directory = func(string) authn.Directory { return struct{ authn.Directory }{w.people} }
	session := w.replica()
	for name, c := range map[string]struct {
		s     *token.Service
		basic string
	}{
		"nobody":                   {w.s, ":"},
		"a limited credential":     {w.s, "bob:hunter2"},
		"an API key":               {w.s, "root:toor"},
		"where there are none":     {never, "alice:secret"},
		"without an account to be": {nowhere, "alice:secret"},
		"without a password to be": {session, "alice:secret"},
	} {
		a := w.send(c.s, w.request("GET", "/v2/token?offline_token=true", "", "basic", c.basic))
		if a.status != 200 || a.Token == "" || a.Refresh != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := w.get(w.s, "alice:secret"); a.Refresh != "" {
		t.Errorf("who didn't ask: %s", a.body)
	}
	w.people.set(func(p *people) { p.generation["alice"] = "" })
	raw := w.login()
	w.notRefreshed(never, raw)
	w.notRefreshed(nowhere, raw)
	w.notRefreshed(session, raw)
}

// TestRefreshEnds: with the account, with the password, and when it's revoked.
func TestRefreshEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		replica := w.replica()
		one, other := w.login(), w.login()
		w.refreshed(replica, one)
		w.people.set(func(p *people) { p.generation["alice"] = "2" })
		w.notRefreshed(replica, one)
		w.people.set(func(p *people) { p.generation["alice"] = "1" })
		w.people.set(func(p *people) { delete(p.passwords, "alice") })
		w.notRefreshed(replica, one)
		w.people.set(func(p *people) { p.passwords["alice"] = "secret" })
		w.people.set(func(p *people) { p.down = true })
		if a := w.refresh(replica, one); a.status != 503 {
			t.Errorf("nobody knows: %d %s", a.status, a.body)
		}
		w.people.set(func(p *people) { p.down = false })

		w.refreshed(replica, one)
		w.refreshed(replica, other)
		if err := w.s.RevokeRefresh(t.Context(), "file", "alice"); err != nil {
			t.Fatal(err)
		}
		w.notRefreshed(w.s, other)
		time.Sleep(2 * time.Second)
		w.notRefreshed(replica, other)
		time.Sleep(time.Minute)
		w.refreshed(replica, w.login())
	})
}

// TestRefreshUnchecked: where nobody can say whether the password is still the same, a
// day is the longest, however often it's refreshed.
func TestRefreshUnchecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		w.people.set(func(p *people) { p.generation["alice"] = "" })
		raw := w.login()
		time.Sleep(24*time.Hour - time.Second)
		if w.refreshed(w.s, raw); w.refresh(w.s, raw).Refresh != raw {
			t.Error("there's another one")
		}
		time.Sleep(time.Second)
		w.notRefreshed(w.s, raw)

		raw = w.login()
		w.people.set(func(p *people) { p.generation["alice"] = "1" }) // the first that's known of
		w.notRefreshed(w.s, raw)

		w.opts.UncheckedRefreshLife = time.Hour
		w.s = w.replica()
		w.people.set(func(p *people) { p.generation["alice"] = "" })
		raw = w.login()
		time.Sleep(time.Hour)
		w.notRefreshed(w.s, raw)

		w.opts.RefreshLife, w.opts.UncheckedRefreshLife = time.Minute, 0
		w.s = w.replica()
		raw = w.login()
		time.Sleep(time.Minute)
		w.notRefreshed(w.s, raw)
	})
}

// TestRevokeByAnotherClock: a token ends that a replica gave whose clock is ahead.
func TestRevokeByAnotherClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		w.login() // there's a key
		time.Sleep(time.Hour)
		f, now := w.forger(), time.Now()
		raw := sign(f.key(), strings.Replace(f.head(), "at+jwt", "refresh+jwt", 1), f.claims(map[string]any{
			"n": "1", "iat": now.Add(59 * time.Second).Unix(), "exp": now.Add(time.Hour).Unix(),
		}))
		w.refreshed(w.s, raw)
		if err := w.s.RevokeRefresh(t.Context(), "file", "alice"); err != nil {
			t.Fatal(err)
		}
		w.notRefreshed(w.s, raw)
	})
}

// TestPrune: what was revoked is forgotten when it would be over anyway.
func TestPrune(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		count := func() int {
			t.Helper()
			if err := w.s.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := 0
			for key, err := range w.opts.State.List(t.Context(), "token/revoked") {
				if err != nil {
					t.Fatal(key, err)
				}
				n++
			}
			return n
		}
		if err := w.s.RevokeRefresh(t.Context(), "file", "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := w.s.RevokeRefresh(t.Context(), "file", "bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(token.MaxRefreshLife - time.Hour - time.Minute) // they may have been good for that long
		if n := count(); n != 2 {
			t.Errorf("%d are kept, want 2", n)
		}
		time.Sleep(5 * time.Minute)
		if n := count(); n != 1 {
			t.Errorf("%d are kept, want bob's", n)
		}
		time.Sleep(time.Hour)
		if n := count(); n != 0 {
			t.Errorf("%d are kept, want none", n)
		}
	})
}

// TestRefreshElsewhere: it's for one registry.
func TestRefreshElsewhere(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t, token.Options{}), newWorld(t, token.Options{})
	elsewhere.notRefreshed(elsewhere.s, w.login())
	r := w.request("POST", "/v2/token", "grant_type=refresh_token&refresh_token="+w.login())
	r.Host = "other.example"
	if a := w.send(w.s, r); a.status != 401 {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.notRefreshed(w.s, w.token("alice:secret"))
}

// TestShorterRefreshLife: it holds for those that were given before, too.
func TestShorterRefreshLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		raw := w.login()
		w.opts.RefreshLife = 24 * time.Hour
		shorter := w.replica()
		time.Sleep(24*time.Hour - time.Minute)
		w.refreshed(shorter, raw)
		time.Sleep(time.Minute)
		w.notRefreshed(shorter, raw)
		w.refreshed(w.s, raw)
	})
}
