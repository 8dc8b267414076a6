package glob

import (
	"iter"
	"slices"
	"strings"
)

// Set are globs for one grammar that are compared with each other. It keeps what it
// has made of each for the next comparison, so it isn't safe for concurrent use.
type Set struct {
	names    *Grammar
	all      []*Glob // the longest first
	programs map[*Glob]*program
	parts    map[*Glob][][]string // the components of the alternatives
}

// NewSet returns the set of globs for the names of a grammar.
func NewSet(names *Grammar, globs []*Glob) *Set {
	s := &Set{names: names, all: slices.Clone(globs), programs: map[*Glob]*program{}, parts: map[*Glob][][]string{}}
	slices.SortFunc(s.all, Compare)
	return s
}

func (s *Set) program(g *Glob) *program {
	if s.programs[g] == nil {
		s.programs[g] = g.program()
	}
	return s.programs[g]
}

// Longer returns the globs of s longer than g that may match some name that it does,
// the longest first.
func (s *Set) Longer(g *Glob) []*Glob {
	var longer []*Glob
	for _, o := range s.all {
		if len(o.pattern) <= len(g.pattern) {
			break
		}
		if !s.apart(o, g) {
			longer = append(longer, o)
		}
	}
	return longer
}

// Tie is two globs of one length that match one name, so that neither is the longest
// for it.
type Tie struct {
	A, B *Glob
	Name string // the shortest that both match and no longer glob does, if that's found
}

// Ties yields the ties between globs of s, but for those of which longer ones of s
// match all names. If that takes too long to find out, it's a tie.
func (s *Set) Ties() iter.Seq[Tie] {
	return func(yield func(Tie) bool) {
		for i, a := range s.all {
			for _, b := range s.all[i+1:] {
				if len(b.pattern) != len(a.pattern) {
					break
				}
				if name := s.tie(a, b); name != "" && !yield(Tie{a, b, name}) {
					return
				}
			}
		}
	}
}

// tie returns a name for which both a and b would count, or none.
func (s *Set) tie(a, b *Glob) string {
	if s.apart(a, b) {
		return ""
	}
	both := []*program{s.program(a), s.program(b)}
	name, _ := (&search{grammar: s.names, match: both}).run()
	if name == "" || len(name) > s.names.longest() {
		return ""
	}
	longer := s.programsOf(s.Longer(a))
	if len(longer) == 0 {
		return name
	}
	better, sure := (&search{grammar: s.names, match: both, avoid: longer, budget: searchBudget}).run()
	if sure {
		return better
	}
	return name
}

func (s *Set) programsOf(globs []*Glob) []*program {
	all := make([]*program, len(globs))
	for i, g := range globs {
		all[i] = s.program(g)
	}
	return all
}

// searchBudget bounds what one search does that may take exponentially long.
const searchBudget = 200_000

// Covers reports whether by, all together, match all names that g does; they need not
// be of s. If that takes too long to find out it's false.
func (s *Set) Covers(by []*Glob, g *Glob) bool {
	if len(by) == 0 {
		return false
	}
	name, sure := (&search{
		grammar: s.names, match: []*program{s.program(g)}, avoid: s.programsOf(by), budget: searchBudget,
	}).run()
	return sure && name == ""
}

// apart reports whether no name can match both, as far as a glance tells: most
// globs begin or end differently.
func (s *Set) apart(a, b *Glob) bool {
	for _, p := range s.split(a) {
		for _, q := range s.split(b) {
			if !pathsApart(p, q) {
				return false
			}
		}
	}
	return true
}

func (s *Set) split(g *Glob) [][]string {
	if s.parts[g] == nil {
		for _, a := range g.alternatives {
			s.parts[g] = append(s.parts[g], strings.Split(a, "/"))
		}
	}
	return s.parts[g]
}

func pathsApart(p, q []string) bool {
	deep := false
	for i := range min(len(p), len(q)) {
		if deep = deep || p[i] == "**" || q[i] == "**"; deep {
			break
		}
		if componentsApart(p[i], q[i]) {
			return true
		}
	}
	for i := range min(len(p), len(q)) {
		x, y := p[len(p)-1-i], q[len(q)-1-i]
		if x == "**" || y == "**" {
			return false
		}
		if componentsApart(x, y) {
			return true
		}
	}
	return !slices.Contains(p, "**") && !slices.Contains(q, "**") && len(p) != len(q)
}

// componentsApart reports whether two globs within a component begin or end with
// different letters.
func componentsApart(p, q string) bool {
	if !strings.ContainsAny(p, special) && !strings.ContainsAny(q, special) {
		return p != q
	}
	pPrefix, pSuffix := edges(p)
	qPrefix, qSuffix := edges(q)
	return !strings.HasPrefix(pPrefix, qPrefix) && !strings.HasPrefix(qPrefix, pPrefix) ||
		!strings.HasSuffix(pSuffix, qSuffix) && !strings.HasSuffix(qSuffix, pSuffix)
}
