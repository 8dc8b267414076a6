package authz

import (
	"cmp"
	"slices"
	"strings"
)

// globSet are globs that are compared with each other.
type globSet struct {
	all      []*glob // the longest first
	programs map[*glob]*program
	parts    map[*glob][][]string // the components of the alternatives
}

func newGlobSet(globs []*glob) *globSet {
	s := &globSet{all: slices.Clone(globs), programs: map[*glob]*program{}, parts: map[*glob][][]string{}}
	slices.SortFunc(s.all, func(a, b *glob) int {
		return cmp.Or(len(b.pattern)-len(a.pattern), strings.Compare(a.pattern, b.pattern))
	})
	return s
}

func (s *globSet) program(g *glob) *program {
	if s.programs[g] == nil {
		s.programs[g] = g.program()
	}
	return s.programs[g]
}

// longer returns the globs longer than g that may match some name that it does.
func (s *globSet) longer(g *glob) []*glob {
	var longer []*glob
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

// tie returns a name for which both a and b would count, or none.
func (s *globSet) tie(a, b *glob) string {
	if s.apart(a, b) {
		return ""
	}
	both := []*program{s.program(a), s.program(b)}
	name, _ := (&search{grammar: repositoryNames, match: both}).run()
	if name == "" || len(name) > longestName {
		return ""
	}
	longer := s.programsOf(s.longer(a))
	if len(longer) == 0 {
		return name
	}
	better, sure := (&search{grammar: repositoryNames, match: both, avoid: longer, budget: searchBudget}).run()
	if sure {
		return better
	}
	return name
}

func (s *globSet) programsOf(globs []*glob) []*program {
	all := make([]*program, len(globs))
	for i, g := range globs {
		all[i] = s.program(g)
	}
	return all
}

// searchBudget bounds what one search does that may take exponentially long.
const searchBudget = 200_000

// covers reports whether by, all together, match all names that g does. If that
// takes too long to find out it's false.
func (s *globSet) covers(by []*glob, g *glob) bool {
	if len(by) == 0 {
		return false
	}
	name, sure := (&search{
		grammar: repositoryNames, match: []*program{s.program(g)}, avoid: s.programsOf(by), budget: searchBudget,
	}).run()
	return sure && name == ""
}

// apart reports whether no name can match both, as far as a glance tells: most
// globs begin or end differently.
func (s *globSet) apart(a, b *glob) bool {
	for _, p := range s.split(a) {
		for _, q := range s.split(b) {
			if !pathsApart(p, q) {
				return false
			}
		}
	}
	return true
}

func (s *globSet) split(g *glob) [][]string {
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
