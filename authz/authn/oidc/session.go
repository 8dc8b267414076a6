package oidc

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

var _ authn.Method = (*Login)(nil)

// session is what the browser keeps. Nothing of it is kept here but that it ended.
type session struct {
	ID       string   `json:"n"`
	Registry string   `json:"a"`
	Provider string   `json:"p"`
	Terms    string   `json:"t"` // the provider's when it began
	User     string   `json:"u"`
	Groups   []string `json:"g,omitempty"`
	Began    int64    `json:"b"` // Unix seconds, as all times here
	Seen     int64    `json:"s"`
}

// Identify implements authn.Method. The kind of credentials is the session's cookie;
// one that has ended, or that isn't of this registry, is refused, and so is a request
// that changes something and comes from another site.
func (l *Login) Identify(r *http.Request) (authz.Identity, bool, error) {
	value, err := cookie(r, l.cookieName(r, purposeSession))
	if err != nil || value == "" {
		return authz.Identity{}, err != nil, err
	}
	who, err := l.identify(r, value)
	return who, true, err
}

func (l *Login) identify(r *http.Request, value string) (authz.Identity, error) {
	if !l.sameOrigin(r) {
		return authz.Identity{}, refuse("a session's cookie in a request of another site")
	}
	s, err := l.open(r.Context(), value)
	if err != nil {
		return authz.Identity{}, err
	}
	if p := l.provider(s.Provider); p.follows() {
		return l.accounts.latest(r.Context(), p, s.User)
	}
	return s.identity(), nil
}

func (s session) identity() authz.Identity {
	return authz.Identity{ID: s.User, Groups: s.Groups, Provider: s.Provider}
}

// open returns a session that's going on.
func (l *Login) open(ctx context.Context, value string) (session, error) {
	var s session
	if err := l.unseal(ctx, purposeSession, value, &s); err != nil {
		return s, err
	}
	now := time.Now()
	switch {
	case s.Registry != l.config.Registry:
		return s, refuse("the session is one of another registry")
	case l.provider(s.Provider) == nil:
		return s, refuse("the session is of provider %q, which is gone", s.Provider)
	case s.Terms != l.provider(s.Provider).terms:
		return s, refuse("the session began when provider %q was another one, or wanted less", s.Provider)
	case !now.Before(s.ends(l.config.Lifetime)):
		return s, refuse("the session has expired")
	case !now.Before(time.Unix(s.Seen, 0).Add(l.config.IdleLifetime)):
		return s, refuse("the session has been idle for too long")
	}
	ended, err := l.ended.has(ctx, s)
	if err != nil {
		return s, err
	}
	if ended {
		return s, refuse("the session has ended")
	}
	return s, nil
}

func (s session) ends(lifetime time.Duration) time.Time {
	return time.Unix(s.Began, 0).Add(lifetime)
}

// Renew gives the browser its session's cookie again when a tenth of the idle
// lifetime has passed, so that one in use isn't idle. It is for requests that a
// browser makes, before the answer's header is written, and does nothing to others.
func (l *Login) Renew(w http.ResponseWriter, r *http.Request) {
	value, err := cookie(r, l.cookieName(r, purposeSession))
	if err != nil || value == "" {
		return
	}
	s, err := l.open(r.Context(), value)
	if err != nil || time.Since(time.Unix(s.Seen, 0)) < l.config.IdleLifetime/10 {
		return
	}
	if err := l.grant(w, r, s); err != nil {
		l.config.Logger.WarnContext(r.Context(), "session not renewed", slog.Any("error", err))
	}
}

// grant gives the browser a session as of now.
func (l *Login) grant(w http.ResponseWriter, r *http.Request, s session) error {
	now := time.Now()
	s.Seen = now.Unix()
	l.fit(r.Context(), &s)
	value, err := l.seal(r.Context(), purposeSession, s)
	if err != nil {
		return err
	}
	age := min(l.config.IdleLifetime, s.ends(l.config.Lifetime).Sub(now))
	l.setCookie(w, r, l.cookieName(r, purposeSession), value, age)
	return nil
}

// fit drops groups that a cookie has no room for. Rules allow and don't forbid, so
// somebody may do less then; KeepGroup is there to keep the ones that matter.
func (l *Login) fit(ctx context.Context, s *session) {
	room := maxCookie*3/4 - 400 - len(s.User) - len(s.Registry) - len(s.Provider) // 400: names, times, signature
	s.Groups = slices.Sorted(slices.Values(s.Groups))
	for i, g := range s.Groups {
		text, _ := json.Marshal(g) // a string is never refused
		if room -= len(text) + len(","); room < 0 {
			l.config.Logger.WarnContext(ctx, "groups don't fit into a session",
				slog.String("provider", s.Provider), slog.String("user", s.User),
				slog.Int("groups", len(s.Groups)), slog.Int("kept", i))
			s.Groups = s.Groups[:i]
			return
		}
	}
}
