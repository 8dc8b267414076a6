package providers

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
)

// userPool has the sources of users that a configuration has, by what they are. What
// they know, and what was verified of their users' passwords, outlives configurations.
var userPool = caddy.NewUsagePool()

// users are a source that providers of several configurations share.
type users struct {
	key      string
	verified *authn.Verified
	limits   *authn.Limits // for sites that aren't registries, which have their own
	log      latestLog
	close    func() error
}

// userSource is what knows users.
type userSource interface {
	authn.Source
	authn.Directory
	Close() error
}

// acquireUsers takes a share in the source that key says all of, opening it if nobody
// has it. The caller releases it.
func acquireUsers(key string, log *slog.Logger, opts authn.VerifiedOptions, open func(*slog.Logger) (userSource, error)) (*users, error) {
	shared, known, err := userPool.LoadOrNew(key, func() (caddy.Destructor, error) {
		u := &users{key: key, log: newLatestLog(log), limits: authn.NewLimits(authn.LimitOptions{Client: clientaddr.Of})}
		source, err := open(slog.New(u.log))
		if err != nil {
			return nil, err
		}
		u.verified, u.close = authn.NewVerified(source, opts), source.Close
		return u, nil
	})
	if err != nil {
		return nil, err
	}
	u, ok := shared.(*users)
	if !ok {
		return nil, fmt.Errorf("%s is a %T", key, shared)
	}
	if known {
		u.log.to.Store(log)
	}
	return u, nil
}

// release gives back a share. It may be called without one.
func (u *users) release() error {
	if u == nil {
		return nil
	}
	_, err := userPool.Delete(u.key)
	return err
}

// Destruct implements caddy.Destructor.
func (u *users) Destruct() error { return u.close() }

func (u *users) method() authn.Method { return passwords(u.verified) }

// authenticate is the Authenticate of a provider, for a site that is no registry.
func (u *users) authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return Authenticate(u.limits.Around(u.method()), w, r)
}

// passwords is the Method of who knows names and passwords, and of accounts. Tokens that
// were got with a password end when it's changed.
func passwords(known *authn.Verified) authn.Method {
	return struct {
		authn.Basic
		authn.Directory
		token.Generational
	}{authn.Basic{Source: known}, known, known}
}
