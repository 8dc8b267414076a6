package glob

import (
	"encoding/binary"
	"slices"
)

// A search looks for the shortest word of a grammar that all of match match and
// none of avoid does.
type search struct {
	grammar *Grammar
	match   []*program // one or two
	avoid   []*program

	// budget is how much work it may do, in states of programs looked at. What
	// avoid is left out of takes at most the product of the sizes of match and
	// grammar; avoid can take exponentially more. 0 is no limit.
	budget int

	nodes []node
	seen  map[place]bool
}

// place is where a search is: in the grammar, in each of match, and everywhere in
// avoid where it can be.
type place struct {
	grammar int
	match   [2]int
	avoid   string
}

// node is a place, and how it was reached.
type node struct {
	place

	from int
	by   byte
}

// run returns the word. It's empty if there's none, or if the budget doesn't last
// to find one, which is false.
func (s *search) run() (word string, sure bool) {
	s.seen = map[place]bool{}
	spent := 0
	s.begin()
	for i := 0; i < len(s.nodes); i++ {
		if s.found(s.nodes[i].place) {
			return s.word(i), true
		}
		spent += 1 + len(s.nodes[i].avoid)/avoidSize
		if s.budget > 0 && spent > s.budget {
			return "", false
		}
		s.expand(i)
	}
	return "", true
}

func (s *search) begin() {
	var avoid []int
	for i, p := range s.avoid {
		for _, at := range p.starts {
			avoid = append(avoid, s.offset(i)+at)
		}
	}
	first := place{grammar: s.grammar.start, avoid: packed(avoid)}
	s.each(first, func(i int) []int { return s.match[i].starts }, func(p place) { s.add(p, -1, 0) })
}

// each calls f with p at each combination of what positions says of each of match.
func (s *search) each(p place, positions func(i int) []int, f func(place)) {
	for _, a := range positions(0) {
		p.match[0] = a
		if len(s.match) == 1 {
			f(p)
			continue
		}
		for _, b := range positions(1) {
			p.match[1] = b
			f(p)
		}
	}
}

func (s *search) add(p place, from int, by byte) {
	if !s.seen[p] {
		s.seen[p] = true
		s.nodes = append(s.nodes, node{p, from, by})
	}
}

func (s *search) expand(i int) {
	from := s.nodes[i].place
	avoid := unpacked(from.avoid)
	for _, c := range []byte(s.grammar.alphabet) {
		next := s.grammar.next(from.grammar, c)
		if next < 0 {
			continue
		}
		var to [2][]int
		for m, p := range s.match {
			to[m] = p.step(nil, from.match[m], c)
		}
		if len(to[0]) == 0 {
			continue
		}
		p := place{grammar: next, avoid: packed(s.stepAvoid(avoid, c))}
		s.each(p, func(m int) []int { return to[m] }, func(p place) { s.add(p, i, c) })
	}
}

// offset is what the states of the ith of avoid are counted from.
func (s *search) offset(i int) int {
	n := 0
	for _, p := range s.avoid[:i] {
		n += len(p.tokens)
	}
	return n
}

// eachAvoided calls f with the states of avoid, each as that of one program.
func (s *search) eachAvoided(states []int, f func(p *program, at, offset int)) {
	i, offset := 0, 0
	for _, at := range states {
		for at >= offset+len(s.avoid[i].tokens) {
			offset += len(s.avoid[i].tokens)
			i++
		}
		f(s.avoid[i], at-offset, offset)
	}
}

func (s *search) stepAvoid(states []int, c byte) []int {
	var next, of []int
	s.eachAvoided(states, func(p *program, at, offset int) {
		of = p.step(of[:0], at, c)
		for _, n := range of {
			next = append(next, offset+n)
		}
	})
	slices.Sort(next)
	return slices.Compact(next)
}

func (s *search) found(p place) bool {
	if !s.grammar.ends(p.grammar) {
		return false
	}
	for i, m := range s.match {
		if !m.accepts(p.match[i]) {
			return false
		}
	}
	avoided := true
	s.eachAvoided(unpacked(p.avoid), func(a *program, at, _ int) { avoided = avoided && !a.accepts(at) })
	return avoided
}

// word returns how the ith node was reached, without the first slash.
func (s *search) word(i int) string {
	var w []byte
	for ; s.nodes[i].from >= 0; i = s.nodes[i].from {
		w = append(w, s.nodes[i].by)
	}
	slices.Reverse(w)
	return string(w[1:])
}

// avoidSize is how many bytes of a place one state of avoid takes.
const avoidSize = 4

func packed(states []int) string {
	b := make([]byte, 0, avoidSize*len(states))
	for _, s := range states {
		b = binary.BigEndian.AppendUint32(b, uint32(s)) //nolint:gosec // a policy of 4 GiB isn't loaded
	}
	return string(b)
}

func unpacked(s string) []int {
	states := make([]int, 0, len(s)/avoidSize)
	for b := []byte(s); len(b) > 0; b = b[avoidSize:] {
		states = append(states, int(binary.BigEndian.Uint32(b)))
	}
	return states
}
