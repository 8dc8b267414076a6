package oidc

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// logout ends the session, here and, by way of the browser, at the provider. It
// answers with JSON if that's asked for, as scripts do, else with a redirect.
func (l *Login) logout(w http.ResponseWriter, r *http.Request) {
	if !l.sameOrigin(r) {
		l.page(w, http.StatusForbidden, page{Title: "This came from another site"})
		return
	}
	name := l.cookieName(r, purposeSession)
	to, err := l.end(r, name)
	if err != nil {
		l.config.Logger.ErrorContext(r.Context(), "session not ended", slog.Any("error", err))
		l.page(w, http.StatusServiceUnavailable, page{Title: "Signing out didn't work", Again: l.config.Prefix + "/login"})
		return
	}
	l.setCookie(w, r, name, "", 0)
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		answer := map[string]string{}
		if to != "" {
			answer["endSessionUrl"] = to
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // a client that's gone doesn't care
		return
	}
	redirect(w, or(to, l.config.Home))
}

// EndAll ends every session, of everybody: at this replica at once, at others within
// seconds. It is for when a key may have become known.
func (l *Login) EndAll(ctx context.Context) error { return l.config.Keys.Replace(ctx) }

// end ends the session that's in a cookie, if one is going on, and returns where the
// provider ends its own, or "".
func (l *Login) end(r *http.Request, name string) (string, error) {
	value, err := cookie(r, name)
	if err != nil || value == "" {
		return "", nil //nolint:nilerr // it's nobody's session
	}
	s, err := l.open(r.Context(), value)
	if err != nil {
		return "", nil //nolint:nilerr // nor is this one's
	}
	if err := l.ended.add(r.Context(), s); err != nil {
		return "", err
	}
	if l.config.OnLogout != nil {
		l.config.OnLogout(r, s.identity())
	}
	return l.endSessionURL(r, s), nil
}

// endSessionURL is where the provider ends its own session, or "".
func (l *Login) endSessionURL(r *http.Request, s session) string {
	p := l.provider(s.Provider)
	m, err := p.metadata(r.Context())
	if err != nil || m.EndSession == "" {
		return ""
	}
	u, err := url.Parse(m.EndSession)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.ClientID)
	q.Set("post_logout_redirect_uri", l.origin(r)+l.config.Home)
	u.RawQuery = q.Encode()
	return u.String()
}
