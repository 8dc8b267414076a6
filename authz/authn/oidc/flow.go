package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

const (
	loginTime = 10 * time.Minute // somebody has to sign in within it
	maxReturn = 1024             // bytes of a path to go back to
	maxUsed   = 10_000
)

// attempt is what a browser keeps while somebody is at the provider.
type attempt struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // of PKCE
	Return   string `json:"r"`
	Began    int64  `json:"b"`
}

// begin sends the browser to the provider.
func (l *Login) begin(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("provider")
	back := l.returnPath(r.URL.Query().Get("return_to"))
	if name == "" && len(l.providers) > 1 {
		l.choose(w, back)
		return
	}
	p := l.providers[0]
	if name != "" {
		p = l.provider(name)
	}
	if p == nil {
		l.page(w, http.StatusNotFound, page{Title: "There is no such provider", Again: l.config.Prefix + "/login"})
		return
	}
	a := attempt{p.Name, rand.Text(), rand.Text(), oauth2.GenerateVerifier(), back, time.Now().Unix()}
	to, err := l.authorizeURL(r, p, a)
	if err != nil {
		l.failed(w, r, p, err)
		return
	}
	value, err := l.seal(r.Context(), purposeLogin, a)
	if err != nil {
		l.failed(w, r, p, err)
		return
	}
	l.setCookie(w, r, l.cookieName(r, purposeLogin), value, loginTime)
	redirect(w, to)
}

func (l *Login) authorizeURL(r *http.Request, p *provider, a attempt) (string, error) {
	m, err := p.metadata(r.Context())
	if err != nil {
		return "", err
	}
	c, err := p.client(m, l.redirectURL(r, p))
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.Verifier)}
	if p.Kind != GitHub {
		options = append(options, oauth2.SetAuthURLParam("nonce", a.Nonce))
	}
	if p.follows() && p.Kind == Google {
		options = append(options, oauth2.AccessTypeOffline, oauth2.SetAuthURLParam("prompt", "consent"))
	}
	return c.AuthCodeURL(a.State, options...), nil
}

func (l *Login) redirectURL(r *http.Request, p *provider) string {
	return l.origin(r) + l.config.Prefix + "/callback/" + p.Name
}

// callback is where the provider sends the browser back to.
func (l *Login) callback(w http.ResponseWriter, r *http.Request, p *provider) {
	name := l.cookieName(r, purposeLogin)
	value, err := cookie(r, name)
	l.setCookie(w, r, name, "", 0)
	var a attempt
	var who *person
	if err == nil {
		a, who, err = l.comeBack(r, p, value)
	}
	if err == nil {
		err = l.welcome(w, r, who)
	}
	if err != nil {
		l.failed(w, r, p, err)
		return
	}
	l.told(r, who, nil)
	redirect(w, a.Return)
}

// comeBack returns what the browser began, and who it is. What's refused counts as
// credentials that are wrong, unless the browser hasn't begun anything: that costs nobody
// anything, and a page of any site can have a browser do it.
func (l *Login) comeBack(r *http.Request, p *provider, value string) (a attempt, who *person, err error) {
	if value == "" {
		return a, nil, errNotBegun
	}
	err = authn.LookUp(r.Context(), func() error {
		if a, err = l.attempt(r, p, value); err == nil {
			who, err = l.signIn(r, p, a)
		}
		return err
	})
	return a, who, err
}

// attempt returns what the browser began, and refuses what it didn't begin, or has
// come back from already.
func (l *Login) attempt(r *http.Request, p *provider, value string) (attempt, error) {
	var a attempt
	if err := l.unseal(r.Context(), purposeLogin, value, &a); err != nil {
		return a, err
	}
	q := r.URL.Query()
	switch {
	case time.Since(time.Unix(a.Began, 0)) >= loginTime:
		return a, refuse("signing in took longer than %s", loginTime)
	case a.Provider != p.Name:
		return a, refuse("the browser began with provider %q", a.Provider)
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.State)) != 1:
		return a, refuse("the state isn't the one that the browser began with")
	case !l.used.first(a.State):
		return a, refuse("the state has been used")
	case q.Has("error"):
		return a, refuse("the provider says %.40q", q.Get("error"))
	case q.Get("code") == "":
		return a, refuse("the provider sends no code")
	}
	return a, nil
}

var errNotBegun = refuse("the browser hasn't begun to sign in here")

// signIn changes the code for who it is.
func (l *Login) signIn(r *http.Request, p *provider, a attempt) (*person, error) {
	ctx, q := r.Context(), r.URL.Query()
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	// With several providers one of them could pass on a code of another: RFC 9207.
	if iss := q.Get("iss"); (q.Has("iss") || m.SaysIssuer) && p.Kind != GitHub && iss != p.Issuer.URL {
		return nil, refuse("the provider that answers is another one")
	}
	c, err := p.client(m, l.redirectURL(r, p))
	if err != nil {
		return nil, err
	}
	token, err := c.Exchange(p.with(ctx), q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, tokenError(err)
	}
	who, err := l.person(ctx, p, token, &a.Nonce)
	if err != nil {
		return nil, err
	}
	if p.follows() {
		if err := l.accounts.remember(ctx, p, who, token); err != nil {
			return nil, err
		}
	}
	return who, nil
}

// welcome begins a session.
func (l *Login) welcome(w http.ResponseWriter, r *http.Request, who *person) error {
	return l.grant(w, r, session{
		ID: rand.Text()[:16], Registry: l.config.Registry, Provider: who.Provider, Terms: l.provider(who.Provider).terms,
		User: who.ID, Groups: l.kept(who.Groups), Began: time.Now().Unix(),
	})
}

// kept are the groups that a session has to know of.
func (l *Login) kept(groups []string) []string {
	if l.config.KeepGroup == nil {
		return groups
	}
	var kept []string
	for _, g := range groups {
		if l.config.KeepGroup(g) {
			kept = append(kept, g)
		}
	}
	return kept
}

// failed answers that somebody couldn't sign in. Why is for the log.
func (l *Login) failed(w http.ResponseWriter, r *http.Request, p *provider, err error) {
	l.told(r, &person{Identity: authz.Identity{Provider: p.Name}}, err)
	again := l.config.Prefix + "/login?provider=" + url.QueryEscape(p.Name)
	tooMany, _ := errors.AsType[*oci.Error](err)
	switch {
	case tooMany != nil && tooMany.RetryAfter > 0:
		w.Header().Set("Retry-After", strconv.Itoa(tooMany.RetryAfter))
		l.page(w, http.StatusTooManyRequests, page{Title: "Signing in didn't work too often: wait a while", Again: again})
	case errors.Is(err, errNotAllowed):
		l.page(w, http.StatusForbidden, page{Title: "Your account may not sign in here", Again: again})
	case errors.Is(err, authn.ErrRefused):
		l.page(w, http.StatusBadRequest, page{Title: "Signing in didn't work", Again: again})
	default:
		l.page(w, http.StatusBadGateway, page{Title: "The provider can't be asked now", Again: again})
	}
}

// told tells the log, and whom the configuration says.
func (l *Login) told(r *http.Request, who *person, err error) {
	log := l.config.Logger.With(slog.String("provider", who.Provider))
	switch {
	case err == nil:
		log.InfoContext(r.Context(), "signed in", slog.String("user", who.ID))
	case errors.Is(err, context.Canceled): // the browser is gone
	default:
		log.WarnContext(r.Context(), "sign-in failed", slog.Any("error", err))
	}
	if l.config.OnLogin != nil {
		l.config.OnLogin(r, who.Identity, err)
	}
}

// redirect is http.Redirect without its changes to the path.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// returnPath returns s if it's a path of this site, whatever a browser makes of it,
// and the home if not.
func (l *Login) returnPath(s string) string {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxReturn || !isLocal(s) || u.Scheme != "" || u.Host != "" || u.Opaque != "" || u.User != nil {
		return l.config.Home
	}
	if strings.HasPrefix(u.Path, "//") || strings.HasPrefix(u.Path, "/\\") || l.Serves(u.Path) {
		return l.config.Home
	}
	return s
}

// isLocal reports whether a path begins with one slash. Browsers read "\" as "/", and
// leave out tabs and line breaks.
func isLocal(s string) bool {
	odd := func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.ContainsFunc(s, odd)
}

// used remembers states that have come back, so that each does once: at this
// replica, and beside the provider, which takes a code once.
type used struct {
	states *lru.Cache[string, struct{}]
}

func newUsed() (*used, error) {
	states, err := lru.New[string, struct{}](maxUsed)
	return &used{states}, err
}

// first reports whether a state comes back for the first time.
func (u *used) first(state string) bool {
	seen, _ := u.states.ContainsOrAdd(state, struct{}{})
	return !seen
}
