package authz

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// The actions as they're counted in a Policy.
const (
	pull = iota
	push
	overwrite
	del
	list
	numActions
)

// actionNames are all actions, in the order in which they're counted.
var actionNames = [numActions]Action{pull: Pull, push: Push, overwrite: Overwrite, del: Delete, list: List}

// number returns how a is counted, or -1 if there's no such action.
func (a Action) number() int {
	switch a {
	case Pull:
		return pull
	case Push:
		return push
	case Overwrite:
		return overwrite
	case Delete:
		return del
	case List:
		return list
	}
	return -1
}

// changes reports whether a changes what a repository holds.
func (a Action) changes() bool { return a == Push || a == Overwrite || a == Delete }

// rule is a Rule or an Admin.
type rule struct {
	where string // how to find it, such as "rule 3"
	file  string // and line where it was written; empty if nobody knows
	text  string // as it would stand in a Caddyfile
	order int    // in which it was written, among rules or among admin rules

	actions    [numActions]bool // list included if pull is
	to         subjects
	conditions []Condition

	ignoreNoOverwrite bool
}

// subjects is whom a rule is for.
type subjects struct {
	users, groups            []string  // of any provider
	accounts                 []account // of one
	anonymous, authenticated bool
}

// The subjects that are neither users nor groups.
const (
	toAnonymous     = "anonymous"
	toAuthenticated = "authenticated"
	toAll           = "*"
	groupPrefix     = "group:"
	userPrefix      = "user:"
)

func (s *subjects) add(to string) {
	group, isGroup := strings.CutPrefix(to, groupPrefix)
	one, isAccount := parseAccount(to)
	switch {
	case isAccount:
		s.accounts = append(s.accounts, one)
	case isGroup:
		s.groups = append(s.groups, group)
	case to == toAnonymous:
		s.anonymous = true
	case to == toAuthenticated:
		s.authenticated = true
	case to == toAll:
		s.anonymous, s.authenticated = true, true
	default:
		s.users = append(s.users, strings.TrimPrefix(to, userPrefix))
	}
}

func newRule(allow []Action, to []string, conditions []Condition) *rule {
	r := &rule{conditions: conditions}
	for _, a := range allow {
		if n := a.number(); n >= 0 {
			r.actions[n] = true
		}
	}
	r.actions[list] = r.actions[list] || r.actions[pull]
	for _, t := range to {
		r.to.add(t)
	}
	return r
}

func (c *Config) newRule(i int) *rule {
	from := &c.Rules[i]
	r := newRule(from.Allow, from.To, from.Conditions)
	r.order, r.file = i, from.Written
	r.where = fmt.Sprintf("rule %d", i+1)
	r.text = fmt.Sprintf("allow %s %s to %s", joinActions(from.Allow), from.Repositories, joinNames(from.To))
	return r
}

func (c *Config) newAdmin(i int) *rule {
	from := &c.Admins[i]
	r := newRule(from.Allow, from.To, from.Conditions)
	r.order, r.file, r.ignoreNoOverwrite = i, from.Written, from.IgnoreNoOverwrite
	r.where = fmt.Sprintf("admin rule %d", i+1)
	r.text = fmt.Sprintf("admin %s to %s", joinActions(from.Allow), joinNames(from.To))
	return r
}

// joinNames returns names as they're written, those with spaces in quotes.
func joinNames(names []string) string {
	written := make([]string, len(names))
	for i, n := range names {
		if written[i] = n; strings.ContainsFunc(n, unicode.IsSpace) {
			written[i] = strconv.Quote(n)
		}
	}
	return strings.Join(written, " ")
}

func joinActions(actions []Action) string {
	var b strings.Builder
	for i, a := range actions {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(a))
	}
	return b.String()
}
