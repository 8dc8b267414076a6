package ociregistry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/oci"
)

// tokenPath is where clients get tokens.
const tokenPath = "/v2/token"

// givesTokens reports whether the registry asks for tokens. They are what lets
// anonymous pulls and pushes by users work side by side: a client that's asked for a
// password sends nothing without one, and one that isn't asked never does.
func (r *Registry) givesTokens() bool {
	switch r.auth.Challenge {
	case ChallengeBearer:
		return true
	case ChallengeBasic:
		return false
	case ChallengeAuto, "":
	}
	return r.auth.asks() && r.anonymousMay()
}

// provisionTokens makes the token server. It asks nobody.
func (r *Registry) provisionTokens() (err error) {
	if err := r.auth.Tokens.check(); err != nil {
		return err
	}
	if !r.givesTokens() {
		if r.auth.Tokens != nil {
			return errNoTokens
		}
		return nil
	}
	opts := token.Options{
		State:       r.state,
		Credentials: callers{r},
		Authorizer:  r.authorizer,
		Realm: func(req *http.Request) string {
			scheme, host := r.origin(req)
			return scheme + "://" + host + tokenPath
		},
		Service: func(req *http.Request) string {
			_, host := r.origin(req)
			return strings.ToLower(host)
		},
		Prompt:    r.auth.Realm,
		Admit:     func(req *http.Request) error { return r.rates.address(req) },
		AdmitUser: func(who authz.Identity) error { return r.rates.user(who) },
		Client:    clientaddr.Of,
		Directory: r.auth.directory,
		Groups:    r.groupsInTokens(),
		Claims:    r.claimsInTokens(),
		Observe:   r.observeToken,
		Log:       r.log,
	}
	r.auth.Tokens.setLives(&opts)
	if r.keys != nil {
		opts.Standing = r.keys.Standing
	}
	r.tokens, err = token.New(opts)
	return err
}

// getsToken is what requests for tokens are called in logs and metrics.
const getsToken = "get-token"

type tokenEventKey struct{}

// serveToken gives a token.
func (h *Handler) serveToken(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if !h.registry.lease.Enter() {
		h.refuse(w, r, errReplaced)
		return
	}
	defer h.exit()
	e, p := &handler.Event{Operation: getsToken}, &paged{ResponseWriter: w}
	told := r.WithContext(context.WithValue(r.Context(), tokenEventKey{}, e))
	h.registry.tokens.ServeHTTP(p, h.registry.withRequest(told))
	e.Status, e.Duration = p.status, time.Since(began)
	h.registry.meters.observe(r, e)
	logEvent(r, e)
}

// observeToken is told what came of each request for a token, before it's answered.
func (r *Registry) observeToken(req *http.Request, t token.Event) {
	e, _ := req.Context().Value(tokenEventKey{}).(*handler.Event) // of serveToken
	e.Who, e.Err, e.Code = t.Who, t.Err, codeOf(t.Err)
	r.audit.observeToken(req, e)
}

// codeOf is what a client is told of an error, in a word. Of our own troubles it's nothing.
func codeOf(err error) oci.Code {
	if errors.Is(err, authn.ErrRefused) {
		return oci.Unauthorized
	}
	if e, ok := errors.AsType[*oci.Error](err); ok && e.HTTPStatus() < http.StatusInternalServerError {
		return e.Code
	}
	return ""
}

// groupsInTokens says which groups count. It's nil, for all, if a condition may look at
// them, since it may be one that isn't met by who is in a group.
func (r *Registry) groupsInTokens() func(string) bool {
	switch {
	case r.policy == nil:
		return func(string) bool { return false }
	case r.conditionsMention("groups"):
		return nil
	}
	return r.policy.NamesGroup
}

// claimsInTokens says which claims count: all if a condition may look at them, since it
// may be one that's met by who is without a claim.
func (r *Registry) claimsInTokens() func(string) bool {
	all := r.policy != nil && r.conditionsMention("claims")
	return func(string) bool { return all }
}

// callers is who sent a request, by anything but a token.
type callers struct{ registry *Registry }

// Identify implements authn.Method.
func (c callers) Identify(r *http.Request) (who authz.Identity, found bool, err error) {
	auth := c.registry.auth
	if who = auth.upstream.identity(r); !who.IsAnonymous() {
		return who, true, nil
	}
	return auth.limited.Identify(r)
}

// directory returns the accounts of a provider, or nil.
func (a *Auth) directory(provider string) authn.Directory {
	if a.pages != nil {
		if d := a.pages.Directory(provider); d != nil {
			return d
		}
	}
	for i, name := range a.names {
		if strings.TrimPrefix(name, "oci_") == provider {
			d, _ := a.chain[i].(authn.Directory)
			return d
		}
	}
	return nil
}

// identify is a handler's Identity: an earlier handler says who sent req, or a token of
// ours, or other credentials. Its errors tell the client no more than that they're
// wrong; why is for the log.
func (r *Registry) identify(req *http.Request) (authz.Identity, error) {
	if err := r.rates.address(req); err != nil {
		return authz.Identity{}, err
	}
	who, err := r.caller(req)
	if err == nil {
		err = r.rates.user(who)
	}
	switch {
	case errors.Is(err, authn.ErrRefused):
		return authz.Identity{}, refusedLogin{err}
	case err != nil:
		return authz.Identity{}, err
	}
	setUser(req, who)
	return who, nil
}

// caller is who sent req. Without an option auth the registry looks at no credentials: what
// is in front of it may have, and passes them on. With one, those that nobody knows are
// wrong, even where it's only for what an earlier handler says.
func (r *Registry) caller(req *http.Request) (authz.Identity, error) {
	who := r.auth.upstream.identity(req)
	if !who.IsAnonymous() || r.Auth == nil {
		return who, nil
	}
	found := false
	var err error
	if r.tokens != nil && len(req.Header["Authorization"]) == 1 {
		who, found, err = r.tokens.Identify(req) // maybe it's nobody's: there are tokens for that
	}
	if !found {
		who, _, err = r.auth.limited.Identify(req)
	}
	return who, err
}

// challenge is a handler's Challenge. Who is known, and wants more than the scopes of what
// was shown, gets no further by signing in, unless that was a token: then it takes another
// one.
func (r *Registry) challenge(req *http.Request, q authz.Question) string {
	if !q.Who.IsAnonymous() && !r.byToken(req) {
		return ""
	}
	if r.tokens != nil {
		if strings.TrimSuffix(req.URL.Path, "/") == "/v2" {
			q.Want = nil // a token for nothing is enough to sign in
		}
		return r.tokens.Challenge(req, q.Want, oci.Unauthorized)
	}
	return r.auth.challenge(req)
}

// byToken reports whether a token of the registry says who sent req.
func (r *Registry) byToken(req *http.Request) bool {
	if r.tokens == nil {
		return false
	}
	_, ours, _ := r.tokens.Identify(req)
	return ours
}
