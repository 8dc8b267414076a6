package authz

import (
	"cmp"
	"slices"
	"strings"
)

// index finds entries by the components without a wildcard that their globs begin
// with, or if there's none by those that they end with. A name is looked up in the
// nodes along its components, so it meets only globs that begin or end as it does.
type index struct{ front, back tree }

// tree holds entries by components.
type tree struct {
	children map[string]*tree
	entries  []*entry // whose glob goes on with a wildcard or ends here; longest first
}

func (x *index) add(e *entry) {
	for _, a := range e.glob.alternatives {
		components := strings.Split(a, "/")
		if !isLiteral(components[0]) {
			slices.Reverse(components)
			x.back.add(e, components)
			continue
		}
		x.front.add(e, components)
	}
}

func isLiteral(component string) bool { return !strings.ContainsAny(component, special) }

func (t *tree) add(e *entry, components []string) {
	for _, c := range components {
		if !isLiteral(c) {
			break
		}
		t = t.child(c)
	}
	if !slices.Contains(t.entries, e) { // two alternatives may end here
		t.entries = append(t.entries, e)
	}
}

func (t *tree) child(c string) *tree {
	if t.children[c] == nil {
		if t.children == nil {
			t.children = map[string]*tree{}
		}
		t.children[c] = &tree{}
	}
	return t.children[c]
}

func (x *index) sort() {
	x.front.sort()
	x.back.sort()
}

func (t *tree) sort() {
	slices.SortStableFunc(t.entries, compareEntries)
	for _, c := range t.children {
		c.sort()
	}
}

// compareEntries orders entries by the length of their globs, the longest first.
// Those of one length never match one name, see ties; they're ordered for Explain.
func compareEntries(a, b *entry) int {
	return cmp.Or(len(b.glob.pattern)-len(a.glob.pattern), strings.Compare(a.glob.pattern, b.glob.pattern))
}

// longest returns the entry with the longest glob that matches a name, or nil.
func (x *index) longest(name string) *entry {
	var best *entry
	for t, rest, more := &x.front, name, true; t != nil; {
		best = t.better(best, name)
		if !more {
			break
		}
		var c string
		c, rest, more = strings.Cut(rest, "/")
		t = t.children[c]
	}
	for t, end := &x.back, len(name); t != nil; {
		best = t.better(best, name)
		if end < 0 {
			break
		}
		slash := strings.LastIndexByte(name[:end], '/')
		t, end = t.children[name[slash+1:end]], slash
	}
	return best
}

// better returns the entry of t that matches and is longer than best, or else best.
func (t *tree) better(best *entry, name string) *entry {
	for _, e := range t.entries {
		if best != nil && len(e.glob.pattern) <= len(best.glob.pattern) {
			break
		}
		if e.glob.match(name) {
			return e
		}
	}
	return best
}
