package token

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
)

// APIKey is the claim of an Identity that says by which API key it signed in.
const APIKey = "api_key"

// claims are what a token says. Names are short, since it's sent with each request.
type claims struct {
	Issuer     string         `json:"iss"`
	Audience   string         `json:"aud"`
	Subject    string         `json:"sub,omitempty"`
	Provider   string         `json:"p,omitempty"`
	Groups     []string       `json:"g,omitempty"`
	Limit      []string       `json:"l,omitempty"` // actions, a colon, repositories
	Claims     map[string]any `json:"c,omitempty"`
	Generation string         `json:"n,omitempty"` // of the password that it was got with
	Issued     int64          `json:"iat"`
	Expires    int64          `json:"exp"`
	ID         string         `json:"jti"`
}

// newClaims are those of who, with what every token has.
func newClaims(who authz.Identity, service string, now time.Time, life time.Duration) claims {
	return claims{
		Audience: service, Subject: who.ID, Provider: who.Provider,
		Issued: now.Unix(), Expires: now.Add(life).Unix(), ID: rand.Text()[:16],
	}
}

func (c *claims) over(now time.Time) bool { return !now.Before(time.Unix(c.Expires, 0)) }

// accessClaims are those of a token that lets who do what's granted.
func (s *Service) accessClaims(who authz.Identity, granted []authz.Scope, service string, now time.Time) claims {
	c := newClaims(who, service, now, s.opts.Life)
	c.Groups = s.groups(who)
	for _, scope := range granted {
		c.Limit = append(c.Limit, limitText(scope))
	}
	c.Claims = maps.Clone(who.Claims)
	maps.DeleteFunc(c.Claims, func(name string, _ any) bool {
		return name != APIKey && (s.opts.Claims == nil || !s.opts.Claims(name))
	})
	return c
}

// claimsSize is how long the Claims are, in bytes of JSON.
func (c *claims) claimsSize() int {
	data, _ := json.Marshal(c.Claims) // it was signed
	return len(data)
}

// maxGroups is how much of a token groups may be, in bytes of JSON. In the token that's
// a third more.
const maxGroups = 4 << 10

// groups are those of who that a token has.
func (s *Service) groups(who authz.Identity) []string {
	if s.opts.Groups == nil {
		return who.Groups
	}
	var fit []string
	size, left := 0, 0
	for _, g := range who.Groups {
		if !s.opts.Groups(g) {
			continue
		}
		text, _ := json.Marshal(g) // a string can be written
		if size+len(text)+1 > maxGroups {
			left++
			continue
		}
		size += len(text) + 1
		fit = append(fit, g)
	}
	if left > 0 {
		s.opts.Log.Warn("groups of a user don't fit into a token, and are left out of it",
			slog.String("user", who.ID), slog.String("provider", who.Provider), slog.Int("groups", left))
	}
	return fit
}

// identity is who has a token. Its Limit is never nil: a token without scopes allows nothing.
func (c *claims) identity() authz.Identity {
	who := authz.Identity{ID: c.Subject, Provider: c.Provider, Groups: c.Groups, Claims: c.Claims, Limit: []authz.Scope{}}
	for _, text := range c.Limit {
		who.Limit = append(who.Limit, parseLimit(text))
	}
	return who
}

// letters are how actions are written in a token.
var letters = map[authz.Action]string{
	authz.Pull: "r", authz.Push: "w", authz.Overwrite: "o", authz.Delete: "d", authz.List: "l",
}

func limitText(s authz.Scope) string {
	var b strings.Builder
	for _, a := range s.Actions {
		b.WriteString(letters[a])
	}
	return b.String() + ":" + s.Repositories
}

func parseLimit(text string) authz.Scope {
	actions, repositories, _ := strings.Cut(text, ":")
	s := authz.Scope{Repositories: repositories}
	for _, a := range slices.Sorted(maps.Keys(letters)) {
		if strings.Contains(actions, letters[a]) {
			s.Actions = append(s.Actions, a)
		}
	}
	return s
}
