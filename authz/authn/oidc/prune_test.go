package oidc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

const month = 30 * 24 * time.Hour

// pruning is a Login of f's store that forgets accounts.
type pruning struct {
	login    *oidc.Login
	forgets  []authz.Identity
	fails    error
	accounts func() int
}

func (f *following) pruning(t *testing.T, follow time.Duration) *pruning {
	t.Helper()
	p := nowhere("sso")
	p.Issuer.URL, p.Follow, p.Secret = f.url, follow, func() (string, error) { return secret, nil }
	made := new(pruning)
	made.login = newLogin(t, oidc.Config{Store: f.store, OnForget: func(_ context.Context, who authz.Identity) error {
		made.forgets = append(made.forgets, who)
		return made.fails
	}}, p)
	made.accounts = func() int { return strings.Count(f.store.text(), `"subject"`) }
	return made
}

func (p *pruning) want(t *testing.T, what string, accounts, forgets int) {
	t.Helper()
	if err := p.login.Prune(t.Context()); !errors.Is(err, p.fails) {
		t.Errorf("%s: %v", what, err)
	}
	if n := p.accounts(); n != accounts || len(p.forgets) != forgets {
		t.Errorf("%s: there are %d accounts, want %d; forgotten were %v", what, n, accounts, p.forgets)
	}
}

func TestAnAccountThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		p := f.pruning(t, follow)
		time.Sleep(month)
		p.want(t, "nobody has asked for it", 1, 0)
		if err := f.lookup(t); err != nil {
			t.Error(err)
		}
		f.issuer.set(func(i *fake) { i.disabled = true })
		time.Sleep(follow)
		_ = f.lookup(t)
		time.Sleep(month - follow - time.Second)
		p.want(t, "gone since a while", 1, 0)
		time.Sleep(time.Second)
		p.fails = errors.New("keys can't be revoked now")
		p.want(t, "what it has got couldn't be ended", 1, 1)
		p.fails = nil
		p.want(t, "gone for long", 0, 2)
		if got := p.forgets[0]; got.ID != "alice" || got.Provider != "sso" {
			t.Errorf("forgotten was %+v", got)
		}
		f.issuer.set(func(i *fake) { i.disabled, i.subject = false, "2" })
		f.signIn(t, f.logins[0]) // the name is free again
		p.want(t, "somebody else", 1, 2)
	})
}

func TestAnAccountThatIsNotFollowedAnyMoreIsForgotten(t *testing.T) {
	t.Parallel()
	later(t, func(t *testing.T, f *following) {
		p := f.pruning(t, 0)
		time.Sleep(month - time.Second)
		p.want(t, "for a while", 1, 0)
		time.Sleep(time.Second)
		p.want(t, "for long", 0, 1)
	})
	if err := newLogin(t, oidc.Config{}, nowhere("sso")).Prune(t.Context()); err != nil {
		t.Errorf("without a store: %v", err)
	}
}
