package ociregistry

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/internal/providers"
	"github.com/caddy-oci/oci-registry/oci"
)

// signInPath is the path of the pages where people sign in, unless it's another one. No
// repository is called that.
const signInPath = "/v2/_auth"

// signIn is a Provider that signs people in with pages of the site.
type signIn interface {
	providers.Provider

	// issuers are what an Identity's Provider may be. It's called once the module is
	// provisioned.
	issuers() []string

	// settle makes it that of a registry, and returns the pages. It's called once,
	// before any request, and asks nobody.
	settle(signInSite) (signInPages, error)
}

// signInSite is a registry, as far as signing in is concerned.
type signInSite struct {
	name      string
	path      string // of the pages, unless the provider has another
	state     keep.Store
	hasPolicy bool
	toWhoever bool // the policy allows something to whoever has signed in
	origin    func(*http.Request) (scheme, host string)
	keepGroup func(string) bool // nil for all
	onLogin   func(*http.Request, authz.Identity, error)
	onLogout  func(*http.Request, authz.Identity)
	onForget  func(context.Context, authz.Identity) error
}

// signInPages are what people see who sign in.
type signInPages interface {
	http.Handler

	// Serves reports whether a path is that of a page.
	Serves(path string) bool

	// Renew prolongs the session of who sends a request.
	Renew(w http.ResponseWriter, r *http.Request)

	signedIn
}

// signedIn is what's known of people who have signed in.
type signedIn interface {
	// Directory returns the accounts of a provider, or nil.
	Directory(provider string) authn.Directory

	// EndAll ends everybody's session.
	EndAll(ctx context.Context) error

	// Prune forgets accounts that are gone.
	Prune(ctx context.Context) error
}

// provisionSignIn makes the pages, if there are any.
func (r *Registry) provisionSignIn() (err error) {
	if r.auth.signIn == nil {
		return nil
	}
	r.auth.pages, err = r.auth.signIn.settle(signInSite{
		name: r.name, path: signInPath, state: r.state, hasPolicy: r.policy != nil, toWhoever: r.policy != nil && r.namesAuthenticated(),
		origin: r.origin, keepGroup: r.groupsInTokens(), onLogin: r.observeSignIn, onLogout: r.audit.observeSignOut, onForget: r.revokeKeysOf,
	})
	return err
}

// revokeKeysOf ends the keys of an account that's forgotten: the name may become somebody
// else's.
func (r *Registry) revokeKeysOf(ctx context.Context, who authz.Identity) error {
	if r.keys == nil {
		return nil
	}
	_, err := r.keys.RevokeAll(ctx, authz.Identity{}, who.Provider, who.ID)
	return err
}

// isSignIn reports whether a path is that of a page for signing in.
func (r *Registry) isSignIn(path string) bool {
	return r.auth != nil && r.auth.pages != nil && r.auth.pages.Serves(path)
}

// renew prolongs a browser's session.
func (r *Registry) renew(w http.ResponseWriter, req *http.Request) {
	if r.auth.pages != nil && req.Header["Cookie"] != nil {
		r.auth.pages.Renew(w, req)
	}
}

// What requests for pages are called in logs and metrics.
const (
	signsIn  = "sign-in" // each but the next
	signsOut = "sign-out"
)

// serveSignIn answers people who sign in or out.
func (h *Handler) serveSignIn(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if !h.registry.lease.Enter() {
		h.refuse(w, r, errReplaced)
		return
	}
	defer h.exit()
	e := &handler.Event{Operation: signsIn}
	if r.Method == http.MethodPost {
		e.Operation = signsOut
	}
	p := &paged{ResponseWriter: w}
	if e.Err = h.registry.rates.address(r); e.Err != nil {
		e.Status, e.Code = http.StatusTooManyRequests, oci.TooManyRequests
		sendTooMany(p, e.Err)
		h.registry.audit.observe(r, e)
	} else {
		e.Who, e.Err = h.registry.servePage(p, r)
	}
	e.Status, e.Duration = p.status, time.Since(began)
	if e.Status >= http.StatusInternalServerError && e.Err == nil {
		e.Err = errNoPage
	}
	h.registry.meters.observe(r, e)
	logEvent(r, e)
}

var errNoPage = errors.New("a page for signing in or out couldn't be served")

// paged is an answer of which the status is kept.
type paged struct {
	http.ResponseWriter

	status int // 0 if there's no answer
}

// WriteHeader implements http.ResponseWriter.
func (p *paged) WriteHeader(status int) {
	p.status = status
	p.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (p *paged) Write(b []byte) (int, error) {
	p.status = cmp.Or(p.status, http.StatusOK)
	return p.ResponseWriter.Write(b)
}

// sendTooMany answers a browser that comes too often.
func sendTooMany(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*oci.Error](err); ok && e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "Too many requests", http.StatusTooManyRequests)
}

// signInOutcome is who has signed in by a request, or why nobody could.
type signInOutcome struct {
	who authz.Identity
	err error
}

type signInOutcomeKey struct{}

// servePage serves a page within the limits of logins. Nobody and nil is what comes of one
// by which nobody could have signed in.
func (r *Registry) servePage(w http.ResponseWriter, req *http.Request) (authz.Identity, error) {
	var o signInOutcome
	err := r.audit.logins.Try(req.Context(), clientaddr.Of(req), func(ctx context.Context) error {
		r.auth.pages.ServeHTTP(w, req.WithContext(context.WithValue(ctx, signInOutcomeKey{}, &o)))
		return o.err
	})
	return o.who, err
}

// observeSignIn is told who has signed in with a browser, or why they couldn't.
func (r *Registry) observeSignIn(req *http.Request, who authz.Identity, err error) {
	if o, ok := req.Context().Value(signInOutcomeKey{}).(*signInOutcome); ok {
		*o = signInOutcome{who, err}
	}
	r.audit.observeSignIn(req, who, err)
}

// observeSignIn is told who has signed in with a browser, or why they couldn't.
func (a *audit) observeSignIn(r *http.Request, who authz.Identity, err error) {
	if a.log == nil {
		return
	}
	e := &handler.Event{Operation: signsIn, Who: who, Err: err, Status: http.StatusSeeOther}
	switch {
	case err == nil:
		a.logins.isFirst(r, who) // its first request is no login of its own
		a.write(r, "login", e)
	case errors.Is(err, authn.ErrRefused):
		e.Status, e.Code = http.StatusUnauthorized, oci.Unauthorized
		a.write(r, "login refused", e)
	case errors.Is(err, oci.TooManyRequests):
		e.Status, e.Code = http.StatusTooManyRequests, oci.TooManyRequests
		a.write(r, "denied", e)
	}
}

// observeSignOut is told whose session was ended by them.
func (a *audit) observeSignOut(r *http.Request, who authz.Identity) {
	if a.log != nil {
		a.write(r, "logout", &handler.Event{Operation: signsOut, Who: who, Status: http.StatusSeeOther})
	}
}
