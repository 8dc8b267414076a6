package token

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// Challenge says how a client is asked for a token: the value of a header
// WWW-Authenticate (RFC 6750, section 3).
type Challenge struct {
	Realm   string // the token server's URL
	Service string
	Want    []authz.Access // what the token has to be good for; none: any
	Error   string         // "invalid_token", "insufficient_scope", or empty
}

// The errors of a Challenge.
const (
	InvalidToken      = "invalid_token"      // it isn't good (any more)
	InsufficientScope = "insufficient_scope" // it's good, and for something else
)

// String returns the header's value.
func (c Challenge) String() string {
	var b strings.Builder
	b.WriteString("Bearer realm=" + quote(c.Realm) + ",service=" + quote(c.Service))
	if scopes := scopesFor(c.Want); len(scopes) > 0 {
		texts := make([]string, len(scopes))
		for i, s := range scopes {
			texts[i] = s.String()
		}
		b.WriteString(",scope=" + quote(strings.Join(texts, " ")))
	}
	if c.Error != "" {
		b.WriteString(",error=" + quote(c.Error))
	}
	return b.String()
}

// scopesFor returns the scopes that what's wanted needs, one for each repository. Who
// pushes has to pull, too: clients look first what is there.
func scopesFor(want []authz.Access) []Scope {
	var all []Scope
	for _, w := range want {
		s := Scope{Type: "repository", Name: w.Repository.String()}
		switch {
		case w.Repository.IsZero() && w.Action == authz.List:
			s = Scope{Type: "registry", Name: "catalog", Actions: []string{"*"}}
		case w.Repository.IsZero():
			continue
		case w.Action == authz.Push, w.Action == authz.Overwrite:
			s.Actions = []string{"pull", "push"}
		case w.Action == authz.Delete:
			s.Actions = []string{"delete"}
		default:
			s.Actions = []string{"pull"}
		}
		all = addScope(all, s)
	}
	return all
}

func addScope(all []Scope, s Scope) []Scope {
	i := slices.IndexFunc(all, func(t Scope) bool { return t.Type == s.Type && t.Name == s.Name })
	if i < 0 {
		return append(all, s)
	}
	for _, a := range s.Actions {
		if !slices.Contains(all[i].Actions, a) {
			all[i].Actions = append(all[i].Actions, a)
		}
	}
	return all
}

// quote makes s a quoted-string (RFC 9110, section 5.6.4). What can't be in one is left out.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		if c < ' ' || c == 0x7f {
			continue
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	b.WriteByte('"')
	return b.String()
}

// Challenge returns what to ask the sender of r for, who wants all of want and got err:
// a token if there was none, another one if it wasn't good, more scopes if it wasn't
// good for that.
func (s *Service) Challenge(r *http.Request, want []authz.Access, err error) string {
	c := Challenge{Realm: s.opts.Realm(r), Service: s.opts.Service(r), Want: want}
	if _, sent := bearer(r); sent {
		c.Error = InvalidToken
		if _, found, ierr := s.Identify(r); found && ierr == nil && (errors.Is(err, oci.Denied) || errors.Is(err, oci.Unauthorized)) {
			c.Error = InsufficientScope
		}
	}
	return c.String()
}
