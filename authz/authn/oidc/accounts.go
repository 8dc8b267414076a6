package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

const (
	askTime   = 10 * time.Second // asking a provider takes so long at most
	recentAge = 5 * time.Second  // sessions and keys know what was so then
	maxRecent = 4096
)

// accounts follows people at their providers, by refresh tokens.
//
// Providers change a refresh token with each use and take an old one as stolen, so
// only one replica may use it at a time: the one that has written down that it does.
type accounts struct {
	login  *Login
	store  keep.Store
	recent *lru.Cache[string, recentAccount]
}

// recentAccount is what lookup has returned lately.
type recentAccount struct {
	who authz.Identity
	err error
	at  time.Time
}

// account is what the Store has of one. It's a secret.
type account struct {
	Provider string    `json:"provider"`
	User     string    `json:"user"`
	Subject  string    `json:"subject"`
	Groups   []string  `json:"groups,omitempty"`
	Token    string    `json:"token,omitempty"` // refreshes, or opens GitHub's API
	Refresh  bool      `json:"refresh"`         // whether it's a refresh token
	Checked  time.Time `json:"checked"`         // when the provider knew the account
	Asked    time.Time `json:"asked"`           // when somebody began to ask
	Gone     bool      `json:"gone,omitempty"`  // the provider didn't know it any more
}

func newAccounts(l *Login) (*accounts, error) {
	recent, err := lru.New[string, recentAccount](maxRecent)
	return &accounts{login: l, store: l.config.Store, recent: recent}, err
}

// Directory returns what knows the accounts of a provider that are followed: those
// that have signed in at least once. It returns nil if none are.
func (l *Login) Directory(provider string) authn.Directory {
	p := l.provider(provider)
	if p == nil || !p.follows() {
		return nil
	}
	return directory{l.accounts, p}
}

type directory struct {
	accounts *accounts
	provider *provider
}

// Lookup implements authn.Directory. What the provider said last is good for the
// provider's Follow, and for twice as long while it can't be asked. So an account
// that's disabled is refused after the one or the other, and five seconds: so long the
// Store isn't asked again.
func (d directory) Lookup(ctx context.Context, user string) (authz.Identity, error) {
	return d.accounts.latest(ctx, d.provider, user)
}

// accountKey is where the Store has an account.
func accountKey(p *provider, user string) string {
	return fmt.Sprintf("accounts/%x", sha256.Sum256([]byte(p.Name+"\x00"+user)))
}

// remember begins to follow an account that has signed in. One that has the name of
// another account is refused: it would have that one's API keys.
func (a *accounts) remember(ctx context.Context, p *provider, who *person, token *oauth2.Token) error {
	now := time.Now()
	made := account{
		Provider: p.Name, User: who.ID, Subject: who.subject, Groups: a.login.kept(who.Groups), Checked: now, Asked: now,
	}
	made.keepToken(p, token)
	if made.Token == "" {
		a.login.config.Logger.WarnContext(ctx, "the provider gives no refresh token, so the account can't be followed",
			slog.String("provider", p.Name), slog.String("user", who.ID))
	}
	for range 5 { // others may be faster, but not for ever
		known, version, err := a.load(ctx, p, who.ID)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case known.Subject != made.Subject:
			return fmt.Errorf("%w: the name %q is another account's, that of %s in the registry's state, which API keys may be of; it's forgotten 30 days after it has gone", errNotAllowed, who.ID, accountKey(p, who.ID))
		}
		_, err = a.save(ctx, p, made, version)
		if !errors.Is(err, keep.ErrChanged) {
			a.recent.Remove(accountKey(p, who.ID))
			return err
		}
	}
	return errors.New("the account changes all the time")
}

func (a *account) keepToken(p *provider, token *oauth2.Token) {
	switch {
	case token.RefreshToken != "":
		a.Token, a.Refresh = token.RefreshToken, true
	case p.Kind == GitHub && !a.Refresh: // it opens the API until somebody takes it back
		a.Token = token.AccessToken
	}
}

// latest is lookup for who asks all the time: sessions for each request, and API keys
// every second.
func (a *accounts) latest(ctx context.Context, p *provider, user string) (authz.Identity, error) {
	key := accountKey(p, user)
	if r, ok := a.recent.Get(key); ok && time.Since(r.at) < recentAge {
		return r.who, r.err
	}
	who, err := a.lookup(ctx, p, user)
	if ctx.Err() == nil {
		a.recent.Add(key, recentAccount{who, err, time.Now()})
	}
	return who, err
}

func (a *accounts) lookup(ctx context.Context, p *provider, user string) (authz.Identity, error) {
	for range 5 {
		known, version, err := a.load(ctx, p, user)
		if errors.Is(err, fs.ErrNotExist) {
			return authz.Identity{}, refuse("nobody of that name has signed in at %s", p.Name)
		}
		if err != nil {
			return authz.Identity{}, err
		}
		age := time.Since(known.Checked)
		switch {
		case known.Gone:
			return authz.Identity{}, refuse("the account is gone from %s", p.Name)
		case age < p.Follow:
			return known.identity(), nil
		case known.Token == "":
			return authz.Identity{}, refuse("%s was asked for the last time %s ago: sign in again", p.Name, age.Round(time.Second))
		case time.Since(known.Asked) < askTime && age < 2*p.Follow:
			return known.identity(), nil
		case time.Since(known.Asked) < askTime:
			return authz.Identity{}, fmt.Errorf("%s couldn't be asked for the account a moment ago", p.Name)
		}
		known.Asked = time.Now()
		version, err = a.save(ctx, p, known, version)
		if errors.Is(err, keep.ErrChanged) {
			continue // somebody else asks
		}
		if err != nil {
			return authz.Identity{}, err
		}
		return a.ask(ctx, p, known, version)
	}
	return authz.Identity{}, errors.New("the account changes all the time")
}

func (a *account) identity() authz.Identity {
	return authz.Identity{ID: a.User, Groups: a.Groups, Provider: a.Provider}
}

// ask asks the provider, and saves what it says. Whoever waits for it may go away: the
// refresh token has been used then, and the new one must not be lost.
func (a *accounts) ask(ctx context.Context, p *provider, known account, version string) (authz.Identity, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	who, token, err := a.refresh(ctx, p, known)
	if token != nil {
		known.keepToken(p, token)
	}
	switch {
	case err == nil && who != nil:
		known.Groups = a.login.kept(who.Groups)
		known.Checked = time.Now()
	case err == nil: // it is there, and nothing is said of it
		known.Checked = time.Now()
	case errors.Is(err, authn.ErrRefused):
		known.Gone, known.Token = true, ""
		a.login.config.Logger.WarnContext(ctx, "account gone",
			slog.String("provider", p.Name), slog.String("user", known.User), slog.Any("error", err))
	}
	if _, saveErr := a.save(ctx, p, known, version); saveErr != nil && !errors.Is(saveErr, keep.ErrChanged) {
		return authz.Identity{}, saveErr // ErrChanged: signed in again meanwhile
	}
	if err != nil && !errors.Is(err, authn.ErrRefused) && time.Since(known.Checked) < 2*p.Follow {
		err = nil
	}
	if err != nil {
		return authz.Identity{}, err
	}
	return known.identity(), nil
}

// refresh returns who an account is as of now, or nil if the provider knows it and
// says no more, and the tokens that follow from it.
func (a *accounts) refresh(ctx context.Context, p *provider, known account) (*person, *oauth2.Token, error) {
	token := &oauth2.Token{AccessToken: known.Token}
	if known.Refresh {
		m, err := p.metadata(ctx)
		if err != nil {
			return nil, nil, err
		}
		c, err := p.client(m, "")
		if err != nil {
			return nil, nil, err
		}
		token, err = c.TokenSource(p.with(ctx), &oauth2.Token{RefreshToken: known.Token}).Token()
		if err != nil {
			return nil, nil, tokenError(err)
		}
	}
	who, err := a.login.person(ctx, p, token, nil)
	switch {
	case errors.Is(err, errNothingSaid):
		return nil, token, nil
	case err != nil:
		return nil, token, err
	case who.subject != known.Subject || who.ID != known.User:
		return nil, token, refuse("the account has another name now")
	}
	return who, token, nil
}

func (a *accounts) load(ctx context.Context, p *provider, user string) (account, string, error) {
	var known account
	value, version, err := a.store.Load(ctx, accountKey(p, user))
	if err != nil {
		return known, "", fmt.Errorf("load an account of %s: %w", p.Name, err)
	}
	if err := json.Unmarshal(value, &known); err != nil || known.Provider != p.Name || known.User != user {
		return known, "", fmt.Errorf("an account of %s isn't what was saved", p.Name)
	}
	return known, version, nil
}

func (a *accounts) save(ctx context.Context, p *provider, k account, version string) (string, error) {
	value, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	version, err = a.store.Save(ctx, accountKey(p, k.User), value, version)
	if err != nil {
		return "", fmt.Errorf("save an account of %s: %w", p.Name, err)
	}
	return version, nil
}
