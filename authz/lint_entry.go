package authz

import (
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/authz/glob"
)

func (l *linter) lintEntries() {
	protecting := l.protectsAll()
	for _, e := range l.policy.entries {
		l.lintShadowed(e)
		l.lintAnonymous(e)
		frozen := l.globs.Covers(l.policy.readOnly, e.glob)
		stuck := l.globs.Covers(protecting, e.glob)
		for i, r := range e.rules {
			l.lintCovered(e, i)
			l.lintPairs(e, r)
			switch {
			case frozen && (r.actions[push] || r.actions[overwrite] || r.actions[del]):
				l.warn(r.at(), "let it allow pull alone, or change read_only",
					"it allows changes, and read_only forbids them in all of its repositories")
			case stuck && r.actions[overwrite]:
				l.warn(r.at(), "take overwrite out, or protect fewer tags",
					"it allows overwrite, and no_overwrite forbids that for every tag of its repositories")
			}
		}
	}
}

// protectsAll returns the globs of repositories no tag of which can move.
func (l *linter) protectsAll() []*glob.Glob {
	var globs []*glob.Glob
	anyTag := parseGlobs("*")[0]
	for _, n := range l.policy.noOverwrite {
		if glob.NewSet(glob.Tags, n.tags).Covers(n.tags, anyTag) {
			globs = append(globs, n.repositories)
		}
	}
	return globs
}

// lintShadowed warns of an entry that never counts: "team" has no chance beside
// "team/**", which matches it as well and is longer.
func (l *linter) lintShadowed(e *entry) {
	longer := l.globs.Longer(e.glob)
	if !l.globs.Covers(longer, e.glob) {
		return
	}
	for _, g := range longer { // one may be enough, which is easier to understand
		if l.globs.Covers([]*glob.Glob{g}, e.glob) {
			longer = []*glob.Glob{g}
			break
		}
	}
	names := make([]string, len(longer))
	for i, g := range longer {
		names[i] = g.String()
	}
	for _, r := range e.rules {
		l.warn(r.at(), "write the rule for the longer pattern, or take it out",
			"it never counts: whatever %s matches is matched by %s, which is longer", e.glob, strings.Join(names, ", "))
	}
}

// lintAnonymous warns of actions that one loses by signing in.
func (l *linter) lintAnonymous(e *entry) {
	for action := range e.grants {
		if g := &e.grants[action]; len(g.anonymous) > 0 && len(g.authenticated) == 0 {
			l.warn(g.anonymous[0].at(), `write "*" instead of "anonymous", which means those alone who haven't signed in`,
				"it lets anonymous callers %s, and not everybody who has signed in", actionNames[action])
			return
		}
	}
}

// lintCovered warns of the ith rule of e if another one allows all that it does.
func (l *linter) lintCovered(e *entry, i int) {
	r := e.rules[i]
	for j, o := range e.rules {
		if i == j || !o.covers(r) || j > i && r.covers(o) { // of two alike the first may stay
			continue
		}
		l.warn(r.at(), "take it out", "it allows nothing that %s doesn't", o.at())
		return
	}
}

// covers reports whether r allows, to all whom o names, all that o does.
func (r *rule) covers(o *rule) bool {
	if len(r.conditions) > 0 {
		return false
	}
	for a := range o.actions {
		if o.actions[a] && !r.actions[a] {
			return false
		}
	}
	if o.to.anonymous && !r.to.anonymous || o.to.authenticated && !r.to.authenticated {
		return false
	}
	return r.to.authenticated || isSubset(o.to.users, r.to.users) && isSubset(o.to.groups, r.to.groups) && isSubset(o.to.accounts, r.to.accounts)
}

func isSubset[T comparable](part, all []T) bool {
	return !slices.ContainsFunc(part, func(s T) bool { return !slices.Contains(all, s) })
}

// lintPairs warns of actions that are of little use without another.
func (l *linter) lintPairs(e *entry, r *rule) {
	if r.actions[push] && !e.grants[pull].reaches(&r.to, l.config.Groups) {
		l.warn(r.at(), "let it allow pull, too",
			"it allows push without pull, and most clients look for a blob before they push it; rules for shorter patterns don't count")
	}
	if r.actions[overwrite] && !e.grants[push].reaches(&r.to, l.config.Groups) {
		l.warn(r.at(), "let it allow push, too", "it allows overwrite without push, which moves no tag")
	}
}

// reaches reports whether g has rules for all of s. A local group may be reached by
// its members.
func (g *grants) reaches(s *subjects, groups map[string][]string) bool {
	if s.anonymous && g.anonymous == nil || s.authenticated && g.authenticated == nil {
		return false
	}
	if g.authenticated != nil {
		return true
	}
	isNew := func(u string) bool {
		a, ok := parseAccount(u)
		return g.users[memberName(u)] == nil && (!ok || g.accounts[a] == nil)
	}
	isNewAt := func(a account) bool {
		return g.accounts[a] == nil && (a.group && g.groups[a.name] == nil || !a.group && g.users[a.name] == nil)
	}
	return !slices.ContainsFunc(s.users, isNew) && !slices.ContainsFunc(s.accounts, isNewAt) && !slices.ContainsFunc(s.groups, func(name string) bool {
		members := groups[name]
		return g.groups[name] == nil && (len(members) == 0 || slices.ContainsFunc(members, isNew))
	})
}
