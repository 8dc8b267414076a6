// Package providers has the modules of http.authentication.providers that know users: those
// of the registry, which any site of Caddy can use, and how it asks those of others.
package providers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// Provider is a module of the namespace http.authentication.providers that says more
// than Caddy asks: whether a request has credentials at all, which groups a user is
// in, and that it can't find out. Any Caddy site can use it, and a registry gets more
// out of it.
type Provider interface {
	caddyauth.Authenticator

	// Method is what identifies callers. It's called once the module is provisioned.
	// If it's an authn.Challenger, it can say how it wants to be asked; if it's an
	// authn.Directory, whether an account is still there.
	Method() authn.Method
}

// Trusting is a provider that may accept tokens without a look at what they say.
type Trusting interface {
	// TrustsAll returns the issuers of whose tokens any is good that is for this registry.
	TrustsAll() []string
}

// MethodOf returns what a provider is called and how it's asked.
func MethodOf(mod any) (string, authn.Method, error) {
	name := "a provider"
	if m, ok := mod.(caddy.Module); ok {
		name = m.CaddyModule().ID.Name()
	}
	switch p := mod.(type) {
	case Provider:
		return name, p.Method(), nil
	case caddyauth.Authenticator:
		f := foreign{name: name, auth: p}
		if _, ok := p.(*caddyauth.HTTPBasicAuth); ok {
			f.slots = hashing
		}
		return name, f, nil
	}
	return name, nil, fmt.Errorf("provider %s: module %T can't authenticate", name, mod)
}

// Authenticate is the Authenticate of a Provider: it asks m on a site that is no
// registry.
func Authenticate(m authn.Method, w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	who, found, err := m.Identify(r)
	if found && err == nil && !who.IsAnonymous() {
		return userOf(who), true, nil
	}
	if c, ok := m.(authn.Challenger); ok {
		if challenge := c.Challenge(r); challenge != "" {
			w.Header().Set("Www-Authenticate", challenge)
		}
	}
	if errors.Is(err, authn.ErrRefused) {
		err = nil // to Caddy an error is that nobody knows
	}
	return caddyauth.User{}, false, err
}

// ParseGroups reads a list of groups: a JSON array of strings, or names with commas
// between them.
func ParseGroups(s string) []string {
	var groups []string
	if s == "" {
		return nil
	}
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &groups) == nil {
		return groups
	}
	groups = nil // what was read before it failed
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name != "" {
			groups = append(groups, name)
		}
	}
	return groups
}

// identityOf is who a user of Caddy's is to the registry.
func identityOf(u caddyauth.User, provider string) authz.Identity {
	who := authz.Identity{ID: u.ID, Provider: provider}
	roles := u.Metadata["roles"] // caddy-security's, with spaces between them
	if !strings.HasPrefix(roles, "[") {
		roles = strings.Join(strings.Fields(roles), ",")
	}
	who.Groups = append(ParseGroups(u.Metadata["groups"]), ParseGroups(roles)...)
	if len(u.Metadata) > 0 {
		who.Claims = make(map[string]any, len(u.Metadata))
		for k, v := range u.Metadata {
			who.Claims[k] = v
		}
	}
	return who
}

// userOf is who someone the registry knows is to Caddy.
func userOf(who authz.Identity) caddyauth.User {
	u := caddyauth.User{ID: who.ID, Metadata: map[string]string{"provider": who.Provider}}
	if len(who.Groups) > 0 {
		groups, _ := json.Marshal(who.Groups) // strings can't fail
		u.Metadata["groups"] = string(groups)
	}
	return u
}
