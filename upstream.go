package ociregistry

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/providers"
)

// Upstream believes what an earlier handler has found out about who sent a request,
// and left in placeholders. A placeholder of a header, like
// {http.request.header.Remote-User}, is whatever the client sends unless a handler
// before has removed or set it, as forward_auth does with what it copies.
type Upstream struct {
	// User has the user's name. Empty means that nobody signed in. Required.
	User string `json:"user,omitempty"`

	// Groups has the user's groups: a JSON array of strings, or names with
	// commas between them. Default: none.
	Groups string `json:"groups,omitempty"`
}

// userPlaceholder is where Caddy's authentication handlers leave the user, and where
// its access log looks.
const userPlaceholder = "http.auth.user.id"

// upstreamName is what rules call the provider of whom an earlier handler names, who has
// none.
const upstreamName = "upstream"

// defaultUpstream believes what Caddy's authentication handlers say.
var defaultUpstream = Upstream{User: "{" + userPlaceholder + "}", Groups: "{http.auth.user.groups}"}

func (u *Upstream) check() error {
	switch {
	case u.User == "":
		return errors.New("upstream: who is the user? Write 'user PLACEHOLDER' in its block, such as 'user {http.auth.user.id}'")
	case isShorthand(u.User) || isShorthand(u.Groups):
		return fmt.Errorf("upstream: user %q, groups %q: what stands outside of a site knows no short names of placeholders, and they would be empty: write {http.request.header.NAME} for {header.NAME}", u.User, u.Groups)
	case !onePlaceholder(u.User):
		return fmt.Errorf("upstream: user %q isn't one placeholder alone, so it would never be empty and nobody anonymous: want one like {http.auth.user.id}", u.User)
	}
	return nil
}

// isShorthand reports whether s has a placeholder that Caddy spells out, in a site of a
// Caddyfile and nowhere else.
func isShorthand(s string) bool {
	return slices.ContainsFunc([]string{"{header.", "{query.", "{cookie.", "{vars.", "{tls_client_"}, func(short string) bool {
		return strings.Contains(s, short)
	})
}

// onePlaceholder reports whether s is a placeholder and nothing else.
func onePlaceholder(s string) bool {
	return strings.HasPrefix(s, "{") && strings.IndexByte(s, '}') == len(s)-1 && strings.Count(s, "{") == 1
}

// identity is who sent r as far as the placeholders say.
func (u Upstream) identity(r *http.Request) authz.Identity {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return authz.Identity{}
	}
	if u == defaultUpstream { // nothing to parse, for each request
		id, _ := repl.GetString(userPlaceholder)
		if id == "" {
			return authz.Identity{}
		}
	}
	id := repl.ReplaceAll(u.User, "")
	if id == "" {
		return authz.Identity{}
	}
	return authz.Identity{ID: id, Groups: providers.ParseGroups(repl.ReplaceAll(u.Groups, ""))}
}
