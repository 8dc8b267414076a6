package authz

import (
	"slices"
	"strings"
)

// account is a user or a group as one provider knows it. One that's named without a
// provider is of any.
type account struct {
	provider, name string
	group          bool
}

const (
	userAt  = "user@"
	groupAt = "group@"

	// noProvider is what's written for an Identity without a Provider.
	noProvider = "upstream"
)

// parseAccount parses user@PROVIDER:NAME and group@PROVIDER:NAME. Whatever isn't of that
// form, such as an address of mail, is a name by itself.
func parseAccount(s string) (a account, ok bool) {
	rest, isUser := strings.CutPrefix(s, userAt)
	if !isUser {
		rest, a.group = strings.CutPrefix(s, groupAt)
	}
	if !isUser && !a.group {
		return account{}, false
	}
	a.provider, a.name, ok = strings.Cut(rest, ":")
	odd := func(c rune) bool { return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }
	if !ok || a.provider == "" || strings.ContainsFunc(a.provider, odd) {
		return account{}, false
	}
	if a.provider == noProvider {
		a.provider = ""
	}
	return a, true
}

// memberName is the user whom a group names that's no account: user:NAME or any other name.
func memberName(member string) string { return strings.TrimPrefix(member, userPrefix) }

// ParseUser returns whom WHO names in a rule, if it's a user: user@PROVIDER:NAME has a
// Provider, user:NAME and any other name have none.
func ParseUser(who string) Identity {
	if a, ok := parseAccount(who); ok && !a.group {
		return Identity{ID: a.name, Provider: a.provider}
	}
	return Identity{ID: memberName(who)}
}

// String returns a as it's written.
func (a account) String() string {
	at, provider := userAt, a.provider
	if a.group {
		at = groupAt
	}
	if provider == "" {
		provider = noProvider
	}
	return at + provider + ":" + a.name
}

// includes reports whether who is a, or in it by what its provider says.
func (a account) includes(who *Identity) bool {
	if a.provider != who.Provider || who.IsAnonymous() {
		return false
	}
	return !a.group && a.name == who.ID || a.group && slices.Contains(who.Groups, a.name)
}
