package ociregistry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/internal/providers"
	"github.com/caddy-oci/oci-registry/oci"
)

// Auth says how callers sign in.
//
// A request without credentials is anonymous. One whose credentials no provider
// knows is refused with 401, whatever anonymous callers may do.
type Auth struct {
	// Providers know users: modules of the namespace http.authentication.providers,
	// Caddy's own and those of other plugins, too. They are asked in order, and the first
	// that knows the credentials counts. Default: none.
	ProvidersRaw []json.RawMessage `json:"providers,omitempty" caddy:"namespace=http.authentication.providers inline_key=provider"`

	// Upstream says who sent a request according to an earlier handler. It counts
	// before the providers do. Default: {http.auth.user.id} and {http.auth.user.groups}.
	Upstream *Upstream `json:"upstream,omitempty"`

	// Challenge is how clients are asked to sign in: basic, bearer or auto, which is
	// bearer if anonymous callers may do anything, else basic. Default: auto.
	Challenge Challenge `json:"challenge,omitempty"`

	// Realm is what a person is told who is asked for a password. Where clients are asked
	// for tokens, they are asked for it at /v2/token. Default: the provider's own.
	Realm string `json:"realm,omitempty"`

	// APIKeys lets users make keys for machines, at /v2/_apikeys. Default: they can't.
	APIKeys *APIKeys `json:"api_keys,omitempty"`

	// Tokens says how long tokens are good. Default: 5 minutes, and refresh tokens 30 days.
	Tokens *Tokens `json:"tokens,omitempty"`
	// Limits are how often credentials may be wrong. Default: as LoginLimits has it.
	Limits *LoginLimits `json:"limits,omitempty"`

	upstream Upstream
	open     []string       // issuers of whose tokens any is good
	keys     []authn.Method // of API keys; asked before the providers
	names    []string       // of the providers' modules
	sources  []string       // what an Identity's Provider may be by these
	signIn   signIn         // that of them which has pages, or nil
	pages    signInPages    // its pages, or nil
	chain    authn.Chain
	limited  authn.Method // the chain, within the limits of the registry's logins
}

// Provider is what a module of another plugin may be, to say of its users what the
// registry's own modules say.
type Provider = providers.Provider

// Challenge is how clients are asked to sign in.
type Challenge string

// The values of Challenge.
const (
	ChallengeAuto   Challenge = "auto"   // as bearer if anonymous callers may do anything, else basic
	ChallengeBasic  Challenge = "basic"  // for a name and a password, with each request
	ChallengeBearer Challenge = "bearer" // for a token, which they get at /v2/token
)

// provision loads the providers.
func (a *Auth) provision(ctx caddy.Context) error {
	switch a.Challenge {
	case "", ChallengeAuto, ChallengeBasic, ChallengeBearer:
	default:
		return fmt.Errorf("challenge %q: want auto, basic or bearer", a.Challenge)
	}
	a.upstream = defaultUpstream
	if a.Upstream != nil {
		if err := a.Upstream.check(); err != nil {
			return err
		}
		a.upstream = *a.Upstream
	}
	return a.loadProviders(ctx)
}

func (a *Auth) loadProviders(ctx caddy.Context) error {
	loaded, err := ctx.LoadModule(a, "ProvidersRaw")
	if err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	mods, _ := loaded.([]any)
	for _, mod := range mods {
		name, method, err := providers.MethodOf(mod)
		if err != nil {
			return err
		}
		if t, ok := mod.(providers.Trusting); ok {
			a.open = append(a.open, t.TrustsAll()...)
		}
		a.names, a.chain = append(a.names, name), append(a.chain, method)
		sources := []string{strings.TrimPrefix(name, "oci_")}
		fix := "keep one"
		if s, ok := mod.(signIn); ok {
			if a.signIn != nil {
				return fmt.Errorf("there are two providers %s: write all issuers into one", name)
			}
			a.signIn, sources, fix = s, s.issuers(), "give the issuer another name"
		}
		if i := slices.IndexFunc(sources, a.isTaken); i >= 0 {
			return fmt.Errorf("there are two providers %s, whose users couldn't be told apart: %s", sources[i], fix)
		}
		a.sources = append(a.sources, sources...)
	}
	return nil
}

// isTaken reports whether an Identity's Provider may be that by what has been loaded
// already, or if an earlier handler says who it is.
func (a *Auth) isTaken(source string) bool {
	return source == upstreamName || slices.Contains(a.sources, source)
}

// known says which groups users can be in, and who knows them. Of these providers none
// has groups.
func (a *Auth) known() authz.Known {
	without := []string{"http_basic", "oci_htpasswd"}
	upstream := len(a.chain) == 0 || a.Upstream != nil && a.Upstream.Groups != ""
	open := upstream || slices.ContainsFunc(a.names, func(n string) bool { return !slices.Contains(without, n) })
	return authz.Known{Open: open, Providers: a.providers()}
}

// providers are what an Identity's Provider may be.
func (a *Auth) providers() []string {
	all := slices.Clone(a.sources)
	if len(all) == 0 || a.Upstream != nil {
		all = append(all, upstreamName)
	}
	return all
}

var errWrongCredentials = oci.Errorf(oci.Unauthorized, "wrong credentials")

// refusedLogin is why credentials are refused, to the log. A client is told no more than
// that they're wrong.
type refusedLogin struct{ cause error }

// Error returns the cause's text.
func (r refusedLogin) Error() string { return r.cause.Error() }

// Unwrap returns what a client is told, and the cause.
func (r refusedLogin) Unwrap() []error { return []error{errWrongCredentials, r.cause} }

// setUser tells the access log, and handlers that come after this one, who sent r.
func setUser(r *http.Request, who authz.Identity) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok && !who.IsAnonymous() {
		repl.Set(userPlaceholder, who.ID)
	}
}

// challenge asks for what the providers want, and for a password if they want nothing, as
// certificates, and there are keys that are good as one.
func (a *Auth) challenge(r *http.Request) string {
	wanted := a.chain.Challenge(r)
	if wanted == "" && len(a.keys) > 0 || a.Realm != "" && strings.HasPrefix(wanted, "Basic ") {
		return authn.Basic{Realm: a.Realm}.Challenge(r)
	}
	return wanted
}

// asksInVain reports whether options say how to ask for what there isn't.
func (a *Auth) asksInVain() bool {
	return !a.asks() && (a.Realm != "" || a.Challenge == ChallengeBasic)
}

// asks reports whether there's something to sign in with that clients have to be asked for.
func (a *Auth) asks() bool {
	unasked := []string{"oci_mtls", "oci_oidc"}
	return a.APIKeys != nil || slices.ContainsFunc(a.names, func(n string) bool { return !slices.Contains(unasked, n) })
}
