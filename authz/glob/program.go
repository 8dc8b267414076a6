package glob

import (
	"slices"
	"strings"
)

// A program is a glob as a nondeterministic automaton, for questions about globs:
// whether two can match one name, whether one can match any. It reads words that
// begin with a slash, as a grammar's do. A state is the index of a token.
type program struct {
	tokens []token
	starts []int   // one for each alternative
	reach  [][]int // the states that each state is at once, itself included
}

type token struct {
	kind tokenKind
	set  byteSet // of a character
}

type tokenKind uint8

// The kinds of token.
const (
	slash     tokenKind = iota
	character           // one byte of a set
	star                // any bytes but "/"
	deep                // any components: it's left for what follows inDeep, or entered by "/"
	inDeep              // the inside of one of them
	accept              // the end of an alternative
)

// byteSet is a set of ASCII characters.
type byteSet [2]uint64

func (s *byteSet) add(c byte)     { s[c/64] |= 1 << (c % 64) }
func (s byteSet) has(c byte) bool { return s[c/64]&(1<<(c%64)) != 0 }

func (g *Glob) program() *program {
	p := &program{}
	for _, a := range g.alternatives {
		p.add(a)
	}
	p.reach = make([][]int, len(p.tokens))
	for at := range p.tokens {
		p.reach[at] = p.visit(nil, at)
	}
	return p
}

// add adds an alternative.
func (p *program) add(alternative string) {
	p.starts = append(p.starts, len(p.tokens))
	for c := range strings.SplitSeq(alternative, "/") {
		if c == "**" {
			p.tokens = append(p.tokens, token{kind: deep}, token{kind: inDeep})
			continue
		}
		p.tokens = append(p.tokens, token{kind: slash})
		for c != "" {
			if c[0] == '*' {
				p.tokens, c = append(p.tokens, token{kind: star}), c[1:]
				continue
			}
			t := token{kind: character}
			n := 0
			for b := range byte(0x80) {
				var ok bool
				if n, ok = matchByte(c, b); ok && b != '/' {
					t.set.add(b)
				}
			}
			p.tokens, c = append(p.tokens, t), c[n:]
		}
	}
	p.tokens = append(p.tokens, token{kind: accept})
}

// visit adds to seen what at is at once.
func (p *program) visit(seen []int, at int) []int {
	if slices.Contains(seen, at) {
		return seen
	}
	seen = append(seen, at)
	switch p.tokens[at].kind {
	case star:
		return p.visit(seen, at+1)
	case deep:
		return p.visit(seen, at+2)
	case inDeep:
		return p.visit(seen, at-1)
	case slash, character, accept:
	}
	return seen
}

// step adds to next where c leads from at.
func (p *program) step(next []int, at int, c byte) []int {
	for _, s := range p.reach[at] {
		t := &p.tokens[s]
		switch {
		case t.kind == slash && c == '/', t.kind == character && t.set.has(c), t.kind == deep && c == '/':
			next = append(next, s+1)
		case (t.kind == star || t.kind == inDeep) && c != '/':
			next = append(next, s)
		}
	}
	return next
}

// accepts reports whether a word may end at a state.
func (p *program) accepts(at int) bool {
	for _, s := range p.reach[at] {
		if p.tokens[s].kind == accept {
			return true
		}
	}
	return false
}
