// Package oidc signs people in with a browser: at an OpenID Connect issuer, or at
// GitHub. It is the handler of the pages for that and the method that knows their
// sessions.
//
// A session is a signed cookie and needs no memory here, so it survives a restart
// and is good at every replica that shares the Ring.
package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// What a cookie is for.
const (
	purposeSession = "session"
	purposeLogin   = "login"
)

// Config is what a Login needs.
type Config struct {
	// Registry is the name of the registry whose sessions these are: no other one
	// accepts them. Required.
	Registry string

	// Providers are where people can sign in. Required, at least one.
	Providers []Provider

	// Keys sign the cookies. Required.
	Keys Ring

	// Store is where sessions that were ended, and accounts that are followed, are
	// kept, as sessions/ended and accounts/<hash>. Default: nil, with which a session
	// that was stolen outlives a logout.
	Store keep.Store

	// Prefix is the path of the page that says who has signed in, and below it are the
	// others: /login, /callback/<provider> and /logout. Default: /auth.
	Prefix string

	// Home is the path of this site where people go who have come from nowhere.
	// Default: /.
	Home string

	// Origin returns by which scheme, and host with port, the browser sees the
	// registry. Default: as the request itself says, which a proxy may have changed.
	Origin func(*http.Request) (scheme, host string)

	// Lifetime is how long a session lasts, and IdleLifetime how long one does that
	// isn't used. Defaults: 12 hours, 2 hours.
	Lifetime, IdleLifetime time.Duration

	// KeepGroup reports whether a session has to know of a group: a cookie has room
	// for some 2,500 bytes of them. Default: all, and those that don't fit are dropped
	// with a line in the log.
	KeepGroup func(group string) bool

	// OnLogin is told who has signed in, or why somebody couldn't. Default: nobody is.
	OnLogin func(r *http.Request, who authz.Identity, err error)

	// OnLogout is told whose session was ended by them. Default: nobody is.
	OnLogout func(r *http.Request, who authz.Identity)

	// OnForget is called before an account is forgotten that was followed: what it has
	// got must end, for the name may become somebody else's. If it fails the account is
	// kept. Default: nothing is done.
	OnForget func(ctx context.Context, who authz.Identity) error

	// Logger default: none.
	Logger *slog.Logger
}

// Login signs people in. It is safe for concurrent use.
type Login struct {
	config    Config
	tag       string // of the registry, in the names of cookies
	providers []*provider
	ended     *ended
	accounts  *accounts
	used      *used
	csrf      *http.CrossOriginProtection
	routes    map[string]func(http.ResponseWriter, *http.Request)
}

// New returns a Login. No provider is asked before somebody signs in.
func New(c Config) (*Login, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	l := &Login{config: c, csrf: http.NewCrossOriginProtection()}
	l.tag = fmt.Sprintf("%x", sha256.Sum256([]byte(c.Registry)))[:8]
	for _, config := range c.Providers {
		p, err := newProvider(config, c)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", config.Name, err)
		}
		if l.provider(p.Name) != nil {
			return nil, fmt.Errorf("provider %q: there are two of that name", p.Name)
		}
		l.providers = append(l.providers, p)
	}
	var err error
	if l.used, err = newUsed(); err != nil {
		return nil, err
	}
	l.ended = newEnded(c.Store, c.Lifetime)
	if l.accounts, err = newAccounts(l); err != nil {
		return nil, err
	}
	l.routes = map[string]func(http.ResponseWriter, *http.Request){"": l.account, "/login": l.begin, "/logout": l.logout}
	for _, p := range l.providers {
		l.routes["/callback/"+p.Name] = func(w http.ResponseWriter, r *http.Request) { l.callback(w, r, p) }
	}
	return l, nil
}

func (c *Config) complete() error {
	switch {
	case c.Registry == "":
		return errors.New("sessions need the registry's name")
	case len(c.Providers) == 0:
		return errors.New("no provider to sign in at")
	case c.Keys == nil:
		return errors.New("no keys to sign sessions with")
	}
	c.Prefix = strings.TrimSuffix(c.Prefix, "/")
	if c.Prefix == "" {
		c.Prefix = "/auth"
	}
	if !strings.HasPrefix(c.Prefix, "/") {
		return fmt.Errorf("the path of the pages, %q, doesn't begin with /", c.Prefix)
	}
	if c.Home = or(c.Home, "/"); !isLocal(c.Home) {
		return fmt.Errorf("the path %q isn't one of this site", c.Home)
	}
	if c.Lifetime == 0 {
		c.Lifetime = 12 * time.Hour
	}
	if c.IdleLifetime == 0 {
		c.IdleLifetime = min(2*time.Hour, c.Lifetime)
	}
	if c.Lifetime < time.Minute || c.IdleLifetime < time.Minute {
		return errors.New("a session lasts a minute or longer")
	}
	if c.Origin == nil {
		c.Origin = requestOrigin
	}
	if c.OnForget == nil {
		c.OnForget = func(context.Context, authz.Identity) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func requestOrigin(r *http.Request) (scheme, host string) {
	if r.TLS != nil {
		return "https", r.Host
	}
	return "http", r.Host
}

// provider returns the one of a name, or nil.
func (l *Login) provider(name string) *provider {
	i := slices.IndexFunc(l.providers, func(p *provider) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return l.providers[i]
}

// origin is where the browser sees the registry, without a path.
func (l *Login) origin(r *http.Request) string {
	scheme, host := l.config.Origin(r)
	return scheme + "://" + host
}

// sameOrigin reports whether a request comes from a page of this site, or changes
// nothing. One that no browser sends says nothing of it and is believed.
func (l *Login) sameOrigin(r *http.Request) bool {
	if l.csrf.Check(r) == nil {
		return true
	}
	// Old browsers say where the page is, and a proxy may have changed where we are.
	return r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == l.origin(r)
}

// Serves reports whether a path is one of the pages.
func (l *Login) Serves(path string) bool {
	rest, ok := strings.CutPrefix(path, l.config.Prefix)
	return ok && l.routes[rest] != nil
}

// ServeHTTP serves the pages: GET <prefix> says who has signed in. GET <prefix>/login begins, at ?provider= if there are
// several, and goes back to ?return_to=, a path of this site. POST <prefix>/logout
// ends the session.
func (l *Login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // a callback's URL has the code in it
	rest, ok := strings.CutPrefix(r.URL.Path, l.config.Prefix)
	route := l.routes[rest]
	if !ok || route == nil {
		l.page(w, http.StatusNotFound, page{Title: "Not found"})
		return
	}
	method := http.MethodGet
	if rest == "/logout" {
		method = http.MethodPost
	}
	if r.Method != method {
		h.Set("Allow", method)
		l.page(w, http.StatusMethodNotAllowed, page{Title: "Method not allowed"})
		return
	}
	route(w, r)
}

var providerName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
