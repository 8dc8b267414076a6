package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/caddy-oci/oci-registry/authz/glob"
)

// check returns what makes a Config one that can't be compiled.
func (c *Config) check() []Finding {
	var f findings
	for i, r := range c.Rules {
		at := c.newRule(i).at()
		f.checkActions(at, r.Allow)
		f.checkSubjects(at, r.To)
		f.checkPattern(at, r.Repositories, glob.Repositories)
	}
	for i, a := range c.Admins {
		at := c.newAdmin(i).at()
		f.checkActions(at, a.Allow)
		f.checkSubjects(at, a.To)
		for _, to := range a.To {
			if to == toAnonymous || to == toAll {
				f.refuse(at, `name users or groups, or "authenticated"`, "anonymous callers can't be admins")
			}
		}
	}
	f.checkRest(c)
	if len(f) == 0 { // else there are globs that can't be compared
		f.checkTies(c)
	}
	return f
}

func (f *findings) checkRest(c *Config) {
	for i, n := range c.NoOverwrite {
		at := fmt.Sprintf("no_overwrite %d (%s of %s)", i+1, strings.Join(n.Tags, " "), n.pattern())
		if len(n.Tags) == 0 {
			f.refuse(at, `write "*" for all tags`, "it protects no tag")
		}
		for _, t := range n.Tags {
			f.checkPattern(at, t, glob.Tags)
		}
		f.checkPattern(at, n.pattern(), glob.Repositories)
	}
	for _, p := range c.ReadOnly {
		f.checkPattern("read_only "+p, p, glob.Repositories)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		at := "group " + name
		if !isPlain(name) {
			f.refuse(at, "give it a name, without spaces or commas around it", "it has no proper name")
		}
		for _, member := range c.Groups[name] {
			f.checkMember(at, member)
		}
	}
}

// checkPattern refuses a glob that's malformed, or that matches nothing there can be.
func (f *findings) checkPattern(at, pattern string, names *glob.Grammar) {
	if problem, fix := names.Check(pattern); problem != "" {
		f.refuse(at, fix, "%s", problem)
	}
}

func (f *findings) checkMember(at, member string) {
	a, isAccount := parseAccount(member)
	switch {
	case !isPlain(member):
		f.refuse(at, "take it out", "%q is no name of a user", member)
	case isAccount && !isPlain(a.name):
		f.refuse(at, "name the user", "%q is no name of a user", member)
	case member == toAll || member == toAnonymous || member == toAuthenticated || strings.HasPrefix(member, groupPrefix) || a.group:
		f.refuse(at, "name the users, and let the rules name the rest beside the group",
			"%q is no user, and members of a group are users", member)
	}
}

// isPlain reports whether s can be a name that somebody has: it isn't empty, has no
// control characters, and no white space or commas but between others, as names of
// groups have in a directory. Those around it are mistakes: lists have none.
func isPlain(s string) bool {
	around := func(r rune) bool { return r == ',' || unicode.IsSpace(r) }
	return s != "" && strings.TrimFunc(s, around) == s && !strings.ContainsFunc(s, unicode.IsControl)
}

// actionHints are what others call the actions, and what they're called here.
var actionHints = map[Action]string{
	"read": "pull", "get": "pull", "create": "push", "write": "push", "update": "overwrite", "remove": "delete",
	"catalog": "list", "*": "pull push overwrite delete", "all": "pull push overwrite delete", "admin": "pull push overwrite delete",
}

func (f *findings) checkActions(at string, actions []Action) {
	const all = "pull, push, overwrite, delete and list"
	if len(actions) == 0 {
		f.refuse(at, "name some of "+all, "it allows no action")
	}
	for _, a := range actions {
		if a.number() >= 0 {
			continue
		}
		fix := "the actions are " + all
		if hint, ok := actionHints[Action(strings.ToLower(string(a)))]; ok {
			fix = fmt.Sprintf("write %q", hint)
		} else if lower := Action(strings.ToLower(string(a))); lower.number() >= 0 {
			fix = fmt.Sprintf("write %q", lower)
		}
		f.refuse(at, fix, "there's no action %q", a)
	}
}

func (f *findings) checkSubjects(at string, to []string) {
	if len(to) == 0 {
		f.refuse(at, `name users, groups as "group:NAME", "anonymous", "authenticated", or "*" for everybody`, "it names nobody")
	}
	for _, t := range to {
		name := strings.TrimPrefix(strings.TrimPrefix(t, groupPrefix), userPrefix)
		if a, ok := parseAccount(t); ok {
			name = a.name
		}
		switch {
		case !isPlain(name):
			f.refuse(at, `write the name of a user, or "group:NAME", without spaces or commas around it`, "%q names nobody", t)
		case t == "**":
			f.refuse(at, `write "*" for everybody`, "%q names nobody", t)
		}
	}
}
