package authz

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-oci/oci-registry/authz/glob"
	"github.com/caddy-oci/oci-registry/oci"
)

// Policy is a compiled Config. It never changes, and is safe for concurrent use.
//
// Without a repository, as about the catalog as such, it lets who has signed in
// list whatever the rules say, and who hasn't if some rule lets anonymous callers
// list something; what they see there is for Filter to say. All other actions on
// the registry as such are for admins.
type Policy struct {
	index   glob.Index // of the globs of entries, in the same order
	entries []*entry   // in the order in which their globs were first written
	admins  entry

	noOverwrite []noOverwrite
	readOnly    []*glob.Glob

	groups   map[string][]string  // that a user is in by the Config, sorted
	groupsAt map[account][]string // that a user of one provider is in, likewise

	anonymousLists bool // some rule lets anonymous callers list something
	somebodyLists  bool // some rule lets others do so
}

var _ Authorizer = (*Policy)(nil)

// noOverwrite is a NoOverwrite.
type noOverwrite struct {
	repositories *glob.Glob
	tags         []*glob.Glob
}

// New compiles a policy. Its error joins the findings of Lint that are errors.
func New(c Config) (*Policy, error) {
	findings := c.check()
	errs := make([]error, len(findings))
	for i, f := range findings {
		errs[i] = f
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c.compile(), nil
}

// compile makes the policy of a Config that check has nothing against.
func (c *Config) compile() *Policy {
	p := &Policy{groups: map[string][]string{}, groupsAt: map[account][]string{}}
	byPattern := map[string]*entry{}
	for i := range c.Rules {
		pattern := c.Rules[i].Repositories
		e := byPattern[pattern]
		if e == nil {
			e = &entry{glob: parseGlobs(pattern)[0], number: len(p.entries)}
			byPattern[pattern] = e
			p.entries = append(p.entries, e)
		}
		e.add(c.newRule(i), c.Groups)
	}
	p.index = glob.NewIndex(globsOf(p.entries))
	for i := range c.Admins {
		p.admins.add(c.newAdmin(i), c.Groups)
	}
	for _, e := range append(p.entries, &p.admins) {
		p.anonymousLists = p.anonymousLists || len(e.grants[list].anonymous) > 0
		p.somebodyLists = p.somebodyLists || e.grants[list].signingInHelps()
	}
	c.compileRest(p)
	return p
}

// parseGlobs parses globs that have been checked.
func parseGlobs(patterns ...string) []*glob.Glob {
	globs := make([]*glob.Glob, len(patterns))
	for i, p := range patterns {
		globs[i], _ = glob.Parse(p)
	}
	return globs
}

func globsOf(entries []*entry) []*glob.Glob {
	globs := make([]*glob.Glob, len(entries))
	for i, e := range entries {
		globs[i] = e.glob
	}
	return globs
}

func (c *Config) compileRest(p *Policy) {
	for _, n := range c.NoOverwrite {
		p.noOverwrite = append(p.noOverwrite, noOverwrite{parseGlobs(n.pattern())[0], parseGlobs(n.Tags...)})
	}
	p.readOnly = parseGlobs(c.ReadOnly...)
	for name, members := range c.Groups {
		for _, u := range members {
			if a, ok := parseAccount(u); ok {
				p.groupsAt[a] = append(p.groupsAt[a], name)
			} else {
				u = memberName(u)
				p.groups[u] = append(p.groups[u], name)
			}
		}
	}
	sortEach(p.groups)
	sortEach(p.groupsAt)
}

func sortEach[K comparable](of map[K][]string) {
	for k, names := range of {
		slices.Sort(names)
		of[k] = slices.Compact(names)
	}
}

// pattern is Repositories with its default.
func (n NoOverwrite) pattern() string {
	if n.Repositories == "" {
		return "**"
	}
	return n.Repositories
}

// NamesGroup reports whether some rule is for a group of that name. That somebody is in
// any other counts for nothing, but for what conditions make of it.
func (p *Policy) NamesGroup(name string) bool {
	for _, e := range append(slices.Clip(p.entries), &p.admins) {
		for i := range e.grants {
			if e.grants[i].namesGroup(name) {
				return true
			}
		}
	}
	return false
}

// Authorize implements Authorizer. The cause of a refusal is a *Refusal.
func (p *Policy) Authorize(ctx context.Context, q Question) (Answer, error) {
	a := asking{policy: p, question: &q}
	for _, w := range q.Want {
		if r := a.settle(ctx, w); r.outcome != granted {
			return Answer{}, a.refuse(ctx, w, r)
		}
	}
	return Answer{Overwrite: a.mayOverwrite(ctx)}, nil
}

// entryFor returns the entry with the longest glob that matches n, or nil.
func (p *Policy) entryFor(n oci.Name) *entry {
	if i := p.index.Longest(n.String()); i >= 0 {
		return p.entries[i]
	}
	return nil
}
