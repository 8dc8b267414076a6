// Package authn finds out who sent a request.
//
// Credentials come in kinds: a password in the header Authorization, a token in
// it, a session's cookie, a client certificate. A Method knows one kind; a Chain
// asks several. What a password is worth is for a Source to say, which knows
// nothing of HTTP. Below this package there's one package for each source.
package authn

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddy-oci/oci-registry/authz"
)

// ErrRefused is what a Source and a Method return for credentials that are wrong:
// an unknown user, a wrong password, a token that's expired. Errors that aren't
// ErrRefused mean that it couldn't be found out, which is nobody's fault who asked.
var ErrRefused = errors.New("wrong credentials")

// A Source knows users by their names and passwords. It is safe for concurrent use.
type Source interface {
	// Authenticate returns who has the name and the password, or an error that is
	// ErrRefused. It takes as long for a user that doesn't exist as for a wrong
	// password. An empty password is always refused.
	Authenticate(ctx context.Context, user, password string) (authz.Identity, error)
}

// A Directory is a Source that knows of accounts without their passwords, too. API
// keys and refresh tokens ask it whether who they belong to is still there.
type Directory interface {
	// Lookup returns the user as of now, with the groups of now, or an error that is
	// ErrRefused if there's none (any more).
	Lookup(ctx context.Context, user string) (authz.Identity, error)
}

// A Method finds out who sent a request by one kind of credentials. It is safe for
// concurrent use.
type Method interface {
	// Identify returns who sent r, and true. It returns false if r has no
	// credentials of this kind, whatever else it has. With credentials that are
	// wrong it returns true and an error that is ErrRefused: maybe another method
	// knows them.
	Identify(r *http.Request) (who authz.Identity, found bool, err error)
}

// A Challenger is a Method that says how it would like to be asked: the value of a
// WWW-Authenticate header, like "Basic realm=...".
type Challenger interface {
	Challenge(r *http.Request) string
}
