package providers

import (
	"fmt"
	"net/http"
	"runtime"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// foreign is the Method of a provider that knows only Caddy's interface. An error of
// such a provider mostly is about the credentials, so it's a refusal.
type foreign struct {
	name  string
	auth  caddyauth.Authenticator
	slots chan struct{} // each that verifies a password has one; nil: as many as come
}

// hashing are the slots of a provider whose work is to hash.
var hashing = make(chan struct{}, runtime.GOMAXPROCS(0))

var _ authn.Challenger = foreign{}

// Identify implements authn.Method. A password counts for the limits of logins.
func (f foreign) Identify(r *http.Request) (who authz.Identity, found bool, err error) {
	user, ok := passwordOf(r)
	if !ok {
		return f.ask(r)
	}
	err = authn.Guess(r.Context(), user, func() error {
		if f.slots != nil {
			select {
			case f.slots <- struct{}{}:
			case <-r.Context().Done():
				return r.Context().Err()
			}
			defer func() { <-f.slots }()
		}
		who, found, err = f.ask(r)
		return err
	})
	return who, found || err != nil, err
}

// passwordOf returns whose password r has, if it has one. A provider may take what isn't
// as RFC 7617 has it.
func passwordOf(r *http.Request) (user string, ok bool) {
	user, password, found, err := authn.Password(r)
	if err != nil {
		user, password, found = r.BasicAuth()
	}
	return user, found && user+password != ""
}

// ask asks the provider.
func (f foreign) ask(r *http.Request) (authz.Identity, bool, error) {
	user, ok, err := f.auth.Authenticate(make(unsent), r)
	switch {
	case err != nil:
		return authz.Identity{}, true, fmt.Errorf("%w: provider %s has failed with them", authn.ErrRefused, f.name) // its error may have them in it
	case ok:
		return identityOf(user, f.name), true, nil
	case hasAuthorization(r):
		return authz.Identity{}, true, fmt.Errorf("%w: provider %s doesn't know them", authn.ErrRefused, f.name)
	}
	return authz.Identity{}, false, nil
}

// hasAuthorization reports whether r says who sends it. An empty name with an empty
// password doesn't, which some clients send for lack of better.
func hasAuthorization(r *http.Request) bool {
	const empty = "Basic Og=="
	value := r.Header.Get("Authorization")
	return value != "" && value != empty
}

// Challenge implements authn.Challenger: it's what the provider answers to a request
// that has no credentials.
func (f foreign) Challenge(r *http.Request) string {
	bare := r.Clone(r.Context())
	bare.Header.Del("Authorization")
	w := make(unsent)
	if _, ok, err := f.auth.Authenticate(w, bare); ok || err != nil {
		return ""
	}
	return w.Header().Get("Www-Authenticate")
}

// unsent is the http.ResponseWriter of an answer of which nothing counts but its header.
type unsent http.Header

func (u unsent) Header() http.Header         { return http.Header(u) }
func (u unsent) WriteHeader(int)             {}
func (u unsent) Write(p []byte) (int, error) { return len(p), nil }
