package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/authz/glob"
)

// Known says which groups there are beside those of a Config.
type Known struct {
	// Groups are the names of groups of identity sources that tell all of theirs.
	Groups []string

	// Open says that there's a source that doesn't, as LDAP, OIDC and whatever
	// stands before the registry. Default: false.
	Open bool

	// Providers are what Identity.Provider may be. Default: that isn't known.
	Providers []string
}

// Lint returns what's to be said about a Config: what New would refuse it for, or
// if that's nothing all warnings, in the order of the Config.
func Lint(c Config, known Known) []Finding {
	if findings := c.check(); len(findings) > 0 {
		return findings
	}
	l := newLinter(&c, known)
	l.lintRules()
	l.lintEntries()
	l.lintRest()
	return l.findings
}

// linter looks for what's odd about a Config that compiles.
type linter struct {
	findings

	config *Config
	known  Known
	policy *Policy
	globs  *glob.Set
	shared bool // a user's name that isn't one provider's was warned of
}

func newLinter(c *Config, known Known) *linter {
	return &linter{config: c, known: known, policy: c.compile(), globs: glob.NewSet(glob.Repositories, c.globs())}
}

func (l *linter) lintRules() {
	if len(l.policy.entries) == 0 && len(l.policy.admins.rules) == 0 {
		l.warn("policy", `write rules such as "allow pull ** to *"`, "it has no rules, so nobody may do anything")
	}
	for i, r := range l.config.Rules {
		l.lintRule(l.config.newRule(i), r.Allow, r.To)
	}
	for i, a := range l.config.Admins {
		r := l.config.newAdmin(i)
		l.lintRule(r, a.Allow, a.To)
		if a.IgnoreNoOverwrite && !r.actions[overwrite] {
			l.warn(r.at(), "let it allow overwrite, or leave that out", "it may ignore no_overwrite and doesn't allow to overwrite")
		}
	}
}

func (l *linter) lintRule(r *rule, allow []Action, to []string) {
	if a, again := repeated(allow); again {
		l.warn(r.at(), "take one out", "%s is there twice", a)
	}
	if t, again := repeated(to); again {
		l.warn(r.at(), "take one out", "%s is there twice", t)
	}
	for _, t := range to {
		isAll := t == toAll || t == toAuthenticated || t == toAnonymous
		if slices.Contains(to, toAll) && t != toAll || r.to.authenticated && !isAll {
			l.warn(r.at(), "take it out, or the rest", "%s is included in what else it names", t)
		}
	}
	for _, g := range r.to.groups {
		l.lintGroup(r, g)
	}
	for _, a := range r.to.accounts {
		l.lintProvider(r.at(), a)
	}
	l.lintShared(r)
}

// lintProvider warns of a provider that isn't there.
func (l *linter) lintProvider(at string, a account) {
	if len(l.known.Providers) > 0 && a.provider != "" && !slices.Contains(l.known.Providers, a.provider) {
		l.warn(at, "the providers are "+strings.Join(l.known.Providers, ", "), "there's no provider %q, so %s is nobody", a.provider, a)
	}
}

// lintShared warns, once, of a name that several providers can give to a user.
func (l *linter) lintShared(r *rule) {
	if len(l.known.Providers) < 2 || len(r.to.users) == 0 || l.shared {
		return
	}
	l.shared = true
	name := r.to.users[0]
	l.warn(r.at(), fmt.Sprintf("write %q if it's one of them, here and in other rules", account{l.known.Providers[0], name, false}),
		"%s is whoever is called that by any provider (%s)", name, strings.Join(l.known.Providers, ", "))
}

// lintGroup warns of a group that nobody can be in.
func (l *linter) lintGroup(r *rule, name string) {
	if _, local := l.config.Groups[name]; local || l.known.Open || slices.Contains(l.known.Groups, name) {
		return
	}
	all := append(slices.Sorted(maps.Keys(l.config.Groups)), l.known.Groups...)
	fix := "add it to the config's groups: group " + name + " MEMBERS…"
	if i := slices.IndexFunc(all, func(g string) bool { return strings.EqualFold(g, name) }); i >= 0 {
		fix = fmt.Sprintf("write %q: upper and lower case differ", groupPrefix+all[i])
	}
	l.warn(r.at(), fix, "there's no group %q, neither in the config nor in a source of identities", name)
}

func (l *linter) lintRest() {
	if p, again := repeated(l.config.ReadOnly); again {
		l.warn("read_only "+p, "take one out", "it's there twice")
	}
	for i, n := range l.config.NoOverwrite {
		if t, again := repeated(n.Tags); again {
			l.warn(fmt.Sprintf("no_overwrite %d", i+1), "take one out", "%s is there twice", t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.config.Groups)) {
		members := l.config.Groups[name]
		if len(members) == 0 && !l.known.Open && !slices.Contains(l.known.Groups, name) {
			l.warn("group "+name, "name its members, or take it out", "it has no members")
		}
		if u, again := repeated(members); again {
			l.warn("group "+name, "take one out", "%s is there twice", u)
		}
		for _, u := range members {
			if a, ok := parseAccount(u); ok {
				l.lintProvider("group "+name, a)
			}
		}
	}
}

func (f *findings) warn(where, fix, problem string, args ...any) {
	*f = append(*f, Finding{Where: where, Fix: fix, Problem: fmt.Sprintf(problem, args...)})
}

// repeated returns the first element that's in a list twice.
func repeated[T comparable](list []T) (again T, found bool) {
	for i, e := range list {
		if slices.Contains(list[:i], e) {
			return e, true
		}
	}
	return again, false
}
