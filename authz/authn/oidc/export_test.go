package oidc

import (
	"net/http"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
)

// Grant gives the browser a session of somebody, as if they had signed in.
func (l *Login) Grant(w http.ResponseWriter, r *http.Request, who authz.Identity) error {
	return l.welcome(w, r, &person{Identity: who})
}

// SealLogin returns the value of a cookie that isn't a session's.
func (l *Login) SealLogin(r *http.Request, registry, provider, user string) (string, error) {
	now := time.Now().Unix()
	return l.seal(r.Context(), purposeLogin, session{
		ID: "x", Registry: registry, Provider: provider, User: user, Began: now, Seen: now,
	})
}

// SessionCookie and LoginCookie are the names of cookies.
func (l *Login) SessionCookie(r *http.Request) string { return l.cookieName(r, purposeSession) }

// LoginCookie is the name of the cookie of an attempt.
func (l *Login) LoginCookie(r *http.Request) string { return l.cookieName(r, purposeLogin) }

// MaxEnded is how many entries there are of sessions that ended, and MaxOwn how many of
// one user are no single one.
const (
	MaxEnded = maxEnded
	MaxOwn   = maxOwn
)
