package authn

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddy-oci/oci-registry/authz"
)

// Chain is a Method made of several, which are asked in order.
//
// The first that knows the credentials says who it is; the others aren't asked. A
// request without credentials is nobody's, so it is anonymous. One with credentials
// never is: if all that found some refuse them, so does the Chain, and if one couldn't
// find out, the Chain couldn't. Several headers Authorization are refused, and one that
// no method knows; and if one was refused, who it's from isn't said by what else the
// request has, such as a certificate. The first refusal, or failure, is the one returned, unless it's Final.
type Chain []Method

// Final is the error of a Method for credentials that can only be of its kind: a Chain
// returns it without asking the others, which needn't see them. It is what err is.
func Final(err error) error { return final{err} }

type final struct{ error }

func (f final) Unwrap() error { return f.error }

var (
	_ Method     = Chain(nil)
	_ Challenger = Chain(nil)
)

// Identify implements Method.
func (c Chain) Identify(r *http.Request) (authz.Identity, bool, error) {
	if len(r.Header["Authorization"]) > 1 {
		return authz.Identity{}, true, errSeveral
	}
	var refused, unsure error
	for _, m := range c {
		who, found, err := m.Identify(r)
		if _, ok := errors.AsType[final](err); ok {
			return authz.Identity{}, true, err
		}
		switch {
		case !found && err == nil:
		case err == nil && !who.IsAnonymous() && first(unsure, refused) != nil && hasAuthorization(r) && identifiesWithout(m, r):
			// A certificate or a session beside a password that's wrong.
		case err == nil && !who.IsAnonymous():
			return who, true, nil
		case err == nil:
			refused = first(refused, errNameless)
		case errors.Is(err, ErrRefused):
			refused = first(refused, err)
		default:
			unsure = first(unsure, err)
		}
	}
	if err := first(unsure, refused); err != nil {
		return authz.Identity{}, true, err
	}
	if hasAuthorization(r) {
		return authz.Identity{}, true, errUnknownKind
	}
	return authz.Identity{}, false, nil
}

// identifiesWithout reports whether m knows who sent r if it has no Authorization.
func identifiesWithout(m Method, r *http.Request) bool {
	bare := r.Clone(r.Context())
	bare.Header.Del("Authorization")
	_, found, err := m.Identify(bare)
	return found && err == nil
}

// Challenge implements Challenger: it is that of the first method that has one, or empty.
func (c Chain) Challenge(r *http.Request) string {
	for _, m := range c {
		if s := challenge(m, r); s != "" {
			return s
		}
	}
	return ""
}

var (
	errSeveral     = fmt.Errorf("%w: more than one header Authorization", ErrRefused)
	errNameless    = fmt.Errorf("%w: they are a user's without a name", ErrRefused)
	errUnknownKind = fmt.Errorf("%w: a header Authorization of a kind that isn't known here", ErrRefused)
)

// challenge is m's, or empty.
func challenge(m Method, r *http.Request) string {
	if c, ok := m.(Challenger); ok {
		return c.Challenge(r)
	}
	return ""
}

// first returns the first error that is one.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// hasAuthorization reports whether there's a header Authorization that says something.
func hasAuthorization(r *http.Request) bool {
	value := r.Header.Get("Authorization")
	if _, isBasic := cutBasic(value); !isBasic {
		return value != ""
	}
	_, _, found, err := Password(r)
	return found || err != nil
}
