package authz

import "github.com/caddy-oci/oci-registry/authz/glob"

// entry is all rules that have one glob; its glob is nil for those of admins.
type entry struct {
	glob   *glob.Glob
	number int     // in Policy.entries
	rules  []*rule // in the order in which they were written
	grants [numActions]grants
}

// grants are the rules of an entry that allow one action, by whom they name.
type grants struct {
	anonymous, authenticated []*rule
	users, groups            map[string][]*rule
	accounts                 map[account][]*rule // nil if there are none
	conditional              bool                // some of them have conditions
}

func (e *entry) add(r *rule, groups map[string][]string) {
	e.rules = append(e.rules, r)
	for action, allowed := range r.actions {
		if allowed {
			e.grants[action].add(r, groups)
		}
	}
}

func (g *grants) add(r *rule, groups map[string][]string) {
	if g.users == nil {
		g.users, g.groups = map[string][]*rule{}, map[string][]*rule{}
	}
	g.conditional = g.conditional || len(r.conditions) > 0
	if r.to.anonymous {
		g.anonymous = append(g.anonymous, r)
	}
	if r.to.authenticated {
		g.authenticated = append(g.authenticated, r)
	}
	for _, a := range r.to.accounts {
		g.addAccount(a, r)
	}
	for _, u := range r.to.users {
		g.users[u] = append(g.users[u], r)
	}
	for _, name := range r.to.groups {
		g.groups[name] = append(g.groups[name], r)
		for _, u := range groups[name] {
			if a, ok := parseAccount(u); ok {
				g.addAccount(a, r)
			} else {
				u = memberName(u)
				g.users[u] = append(g.users[u], r)
			}
		}
	}
}

func (g *grants) addAccount(a account, r *rule) {
	if g.accounts == nil {
		g.accounts = map[account][]*rule{}
	}
	g.accounts[a] = append(g.accounts[a], r)
}

// signingInHelps reports whether there's anybody but anonymous callers to whom some
// rule may grant the action.
func (g *grants) signingInHelps() bool {
	return len(g.authenticated) > 0 || len(g.users) > 0 || len(g.groups) > 0 || len(g.accounts) > 0
}

// namesGroup reports whether some rule is for a group of that name, of whatever provider.
func (g *grants) namesGroup(name string) bool {
	for a := range g.accounts {
		if a.group && a.name == name {
			return true
		}
	}
	return len(g.groups[name]) > 0
}

// each calls f with the rules that name who until it returns false. A rule that
// does so twice may come twice.
func (g *grants) each(who *Identity, f func(*rule) bool) {
	if who.IsAnonymous() {
		eachRule(g.anonymous, f)
		return
	}
	if !eachRule(g.authenticated, f) || !eachRule(g.users[who.ID], f) || len(g.accounts) > 0 && !g.eachOfAccount(who, f) || len(g.groups) == 0 {
		return
	}
	for _, name := range who.Groups {
		if !eachRule(g.groups[name], f) {
			return
		}
	}
}

// eachOfAccount is each for the rules that name users and groups of one provider.
func (g *grants) eachOfAccount(who *Identity, f func(*rule) bool) bool {
	if !eachRule(g.accounts[account{who.Provider, who.ID, false}], f) {
		return false
	}
	for _, name := range who.Groups {
		if !eachRule(g.accounts[account{who.Provider, name, true}], f) {
			return false
		}
	}
	return true
}

func eachRule(rules []*rule, f func(*rule) bool) bool {
	for _, r := range rules {
		if !f(r) {
			return false
		}
	}
	return true
}

// names reports whether any rule of e names who, for whatever action.
func (e *entry) names(who *Identity) bool {
	named := false
	for i := range e.grants {
		e.grants[i].each(who, func(*rule) bool {
			named = true
			return false
		})
		if named {
			return true
		}
	}
	return false
}
