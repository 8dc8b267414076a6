package glob

import (
	"slices"
	"strings"
)

// Index finds the longest of many globs that matches a name. It never changes, and is
// safe for concurrent use. The zero Index has no globs.
//
// Globs are found by the components without a wildcard that they begin with, or if
// there's none by those that they end with. A name is looked up in the nodes along its
// components, so it meets only globs that begin or end as it does.
type Index struct {
	globs       []*Glob
	front, back tree
}

// tree holds globs by components.
type tree struct {
	children map[string]*tree
	globs    []int // those of the Index that go on with a wildcard or end here; longest first
}

// NewIndex returns the index of globs, no two of which are alike.
func NewIndex(globs []*Glob) Index {
	x := Index{globs: slices.Clone(globs)}
	for i := range x.globs {
		x.add(i)
	}
	x.sort(&x.front)
	x.sort(&x.back)
	return x
}

func (x *Index) add(i int) {
	for _, a := range x.globs[i].alternatives {
		components := strings.Split(a, "/")
		if !isLiteral(components[0]) {
			slices.Reverse(components)
			x.back.add(i, components)
			continue
		}
		x.front.add(i, components)
	}
}

func isLiteral(component string) bool { return !strings.ContainsAny(component, special) }

func (t *tree) add(i int, components []string) {
	for _, c := range components {
		if !isLiteral(c) {
			break
		}
		t = t.child(c)
	}
	if !slices.Contains(t.globs, i) { // two alternatives may end here
		t.globs = append(t.globs, i)
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

func (x *Index) sort(t *tree) {
	slices.SortStableFunc(t.globs, func(i, j int) int { return Compare(x.globs[i], x.globs[j]) })
	for _, c := range t.children {
		x.sort(c)
	}
}

// Longest returns which of the globs is the longest that matches a name, counted from
// 0 as NewIndex was given them, or -1 if none does. Of two of one length it's either,
// see Set.Ties. It allocates nothing.
func (x *Index) Longest(name string) int {
	best := -1
	for t, rest, more := &x.front, name, true; t != nil; {
		best = x.better(t, best, name)
		if !more {
			break
		}
		var c string
		c, rest, more = strings.Cut(rest, "/")
		t = t.children[c]
	}
	for t, end := &x.back, len(name); t != nil; {
		best = x.better(t, best, name)
		if end < 0 {
			break
		}
		slash := strings.LastIndexByte(name[:end], '/')
		t, end = t.children[name[slash+1:end]], slash
	}
	return best
}

// better returns the glob of t that matches and is longer than best, or else best.
func (x *Index) better(t *tree, best int, name string) int {
	for _, i := range t.globs {
		if best >= 0 && len(x.globs[i].pattern) <= len(x.globs[best].pattern) {
			break
		}
		if x.globs[i].Match(name) {
			return i
		}
	}
	return best
}
