package oidc_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

const follow = 5 * time.Minute

// followed is a provider's directory after alice has signed in.
func followed(t *testing.T, c oidc.Config, p oidc.Provider) (*site, authn.Directory) {
	t.Helper()
	p.Follow = follow
	s := newSite(t, c, p)
	if got := newBrowser(t).get(s.URL + "/auth/login"); got.ID == "" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	d := s.login.Directory(p.Name)
	if d == nil {
		t.Fatal("accounts aren't followed")
	}
	return s, d
}

func TestWhoIsNotFollowed(t *testing.T) {
	t.Parallel()
	l := newLogin(t, oidc.Config{Store: newStore()}, nowhere("sso"))
	for _, name := range []string{"sso", "other"} {
		if l.Directory(name) != nil {
			t.Errorf("%s is followed", name)
		}
	}
}

func TestAnAccountThatIsFollowed(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.Login.IDToken["groups"] = []string{"a", "b"}
	shared := newStore()
	_, d := followed(t, oidc.Config{Store: shared, KeepGroup: func(g string) bool { return g != "b" }}, provider(i))
	who, err := d.Lookup(t.Context(), "alice@example.com")
	if err != nil || who.ID != "alice@example.com" || who.Provider != "sso" || !slices.Equal(who.Groups, []string{"a"}) {
		t.Errorf("%+v, %v", who, err)
	}
	for _, user := range []string{"bob@example.com", "", "alice@example.com\x00"} {
		if who, err := d.Lookup(t.Context(), user); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%q: %+v, %v", user, who, err)
		}
	}
	shared.setDown(true)
	if _, err := d.Lookup(t.Context(), "carol@example.com"); err == nil || errors.Is(err, authn.ErrRefused) {
		t.Errorf("while the store is down: %v", err)
	}
}

// later signs alice in, with a session, at the bubble's time.
func later(t *testing.T, check func(t *testing.T, f *following)) {
	t.Helper()
	f := &following{issuer: newFake(), store: newStore()}
	f.url = f.issuer.start(t)
	synctest.Test(t, func(t *testing.T) {
		p := nowhere("sso")
		p.Issuer.URL, p.Follow, p.Secret = f.url, follow, func() (string, error) { return secret, nil }
		for range 2 {
			l := newLogin(t, oidc.Config{Store: f.store}, p)
			d := l.Directory("sso")
			if d == nil {
				t.Fatal("accounts aren't followed")
			}
			f.logins, f.directories = append(f.logins, l), append(f.directories, d)
		}
		f.cookie = f.signIn(t, f.logins[0])
		check(t, f)
	})
}

func (f *following) lookup(t *testing.T) error {
	t.Helper()
	who, err := f.directories[0].Lookup(t.Context(), "alice")
	if err == nil && who.ID != "alice" {
		t.Errorf("%+v", who)
	}
	return err
}

func TestADisabledAccount(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		f.issuer.set(func(i *fake) { i.disabled = true })
		time.Sleep(follow - 5*time.Second)
		if err := f.lookup(t); err != nil {
			t.Errorf("within the interval: %v", err)
		}
		time.Sleep(5 * time.Second)
		if err := f.lookup(t); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("after it: %v", err)
		}
		isRefused(t, "its session", f.logins[0], request(f.cookie))
		asked := f.issuer.asked()
		time.Sleep(time.Hour)
		if err := f.lookup(t); !errors.Is(err, authn.ErrRefused) || f.issuer.asked() != asked {
			t.Errorf("it stays gone: %v, asked %d times", err, f.issuer.asked()-asked)
		}
		// Back again, by signing in.
		f.issuer.set(func(i *fake) { i.disabled = false })
		c := f.signIn(t, f.logins[0])
		if err := f.lookup(t); err != nil {
			t.Errorf("back again: %v", err)
		}
		if who, _, err := f.logins[0].Identify(request(c)); err != nil || who.ID != "alice" {
			t.Errorf("its new session: %+v, %v", who, err)
		}
	})
}

func TestAnAccountOutlivesTheBrowser(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		for range 31 { // days, once each
			time.Sleep(24 * time.Hour)
			if err := f.lookup(t); err != nil {
				t.Fatal(err)
			}
		}
		f.issuer.set(func(i *fake) { i.groups = []string{"new"} })
		time.Sleep(follow)
		who, err := f.directories[1].Lookup(t.Context(), "alice")
		if err != nil || !slices.Equal(who.Groups, []string{"new"}) {
			t.Errorf("%+v, %v", who, err)
		}
		if strings.Contains(f.store.text(), secret) {
			t.Error("the store has the client's secret")
		}
	})
}

func TestASessionHasTheGroupsOfNow(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		isAlice(t, "before", f.logins[1], request(f.cookie))
		f.issuer.set(func(i *fake) { i.groups = []string{"new"} })
		time.Sleep(follow + 5*time.Second)
		if who, _, err := f.logins[1].Identify(request(f.cookie)); err != nil || !slices.Equal(who.Groups, []string{"new"}) {
			t.Errorf("%+v, %v", who, err)
		}
	})
}

// TestTheStoreIsNotAskedEachTime: who is at work with an API key is looked up each second.
func TestTheStoreIsNotAskedEachTime(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		before := f.store.loaded()
		for range 60 {
			if err := f.lookup(t); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := f.store.loaded() - before; n != 12 {
			t.Errorf("%d times in a minute", n)
		}
		f.issuer.set(func(i *fake) { i.groups = []string{"new"} })
		f.signIn(t, f.logins[0])
		if who, err := f.directories[0].Lookup(t.Context(), "alice"); err != nil || !slices.Equal(who.Groups, []string{"new"}) {
			t.Errorf("signed in anew: %+v, %v", who, err)
		}
	})
}

func TestWhileTheProviderIsDown(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		f.issuer.set(func(i *fake) { i.down = true })
		for at := time.Duration(0); at < 2*follow; at += 10 * time.Second {
			if err := f.lookup(t); err != nil {
				t.Fatalf("after %s: %v", at, err)
			}
			time.Sleep(10 * time.Second)
		}
		asked := f.issuer.asked()
		for range 10 {
			if err := f.lookup(t); err == nil || errors.Is(err, authn.ErrRefused) {
				t.Fatalf("after twice the interval: %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := f.issuer.asked() - asked; n != 1 {
			t.Errorf("asked %d times in ten seconds", n)
		}
		f.issuer.set(func(i *fake) { i.down = false })
		if err := f.lookup(t); err != nil {
			t.Errorf("back again: %v", err)
		}
	})
}

// TestARefreshTokenIsUsedOnce has two replicas and many requests at the moment when the
// account has to be checked. The issuer takes a refresh token once.
func TestARefreshTokenIsUsedOnce(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		for range 20 {
			time.Sleep(follow)
			asked := f.issuer.asked()
			var wg sync.WaitGroup
			for n := range 16 {
				wg.Go(func() {
					if _, err := f.directories[n%2].Lookup(t.Context(), "alice"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := f.issuer.asked() - asked; n != 1 {
				t.Errorf("asked %d times", n)
			}
		}
	})
}

func TestAnAccountWithAnotherName(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fake){
		"another name":    func(i *fake) { i.user = "bob" },
		"another account": func(i *fake) { i.subject = "2" },
	} {
		later(t, func(t *testing.T, f *following) {
			f.issuer.set(change)
			time.Sleep(follow)
			if err := f.lookup(t); !errors.Is(err, authn.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestANameOfAnotherAccount: somebody who gets the name of another one doesn't get their
// keys, not even once that one is gone.
func TestANameOfAnotherAccount(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		for range 2 {
			f.issuer.set(func(i *fake) { i.subject = "2" })
			if w := comeBack(t, f.logins[0], "/auth/callback/sso?code=c", f.nonce); w.Code != http.StatusForbidden {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			time.Sleep(follow + 5*time.Second)
			if err := f.lookup(t); !errors.Is(err, authn.ErrRefused) {
				t.Errorf("the keys are good: %v", err)
			}
		}
		f.issuer.set(func(i *fake) { i.subject = "1" })
		f.signIn(t, f.logins[0])
		if err := f.lookup(t); err != nil {
			t.Errorf("the first account is back: %v", err)
		}
	})
}

func TestAProviderWithoutRefreshTokens(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		f.issuer.set(func(i *fake) { i.noRefresh = true })
		f.signIn(t, f.logins[0])
		if err := f.lookup(t); err != nil {
			t.Errorf("after signing in: %v", err)
		}
		time.Sleep(follow)
		if err := f.lookup(t); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("later: %v", err)
		}
	})
}

func TestGitHubAccountsAreFollowed(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	synctest.Test(t, func(t *testing.T) {
		p := h.provider()
		p.Follow = follow
		l := newLogin(t, oidc.Config{Store: newStore()}, p)
		signIn(t, l, "/auth/callback/github?code=c")
		d := l.Directory("github")
		time.Sleep(follow)
		calls := h.calls.Load()
		if who, err := d.Lookup(t.Context(), "octo@example.com"); err != nil || !slices.Contains(who.Groups, "octo-org/core") || h.calls.Load() == calls {
			t.Errorf("%+v, %v", who, err)
		}
		h.down.Store(true)
		time.Sleep(follow)
		if _, err := d.Lookup(t.Context(), "octo@example.com"); err != nil {
			t.Errorf("while the API is down: %v", err)
		}
		h.down.Store(false)
		h.revoked.Store(true)
		time.Sleep(follow)
		if _, err := d.Lookup(t.Context(), "octo@example.com"); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("after the token was taken back: %v", err)
		}
	})
}

func TestAnAccountThatCannotBeRemembered(t *testing.T) {
	t.Parallel()
	shared := newStore()
	p := provider(newIssuer(t))
	p.Follow = follow
	s := newSite(t, oidc.Config{Store: shared}, p)
	shared.setDown(true)
	if got := newBrowser(t).get(s.URL + "/auth/login"); got.status != http.StatusBadGateway || strings.Contains(got.body, errDown.Error()) {
		t.Errorf("%d %s", got.status, got.body)
	}
}
