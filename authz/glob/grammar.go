package glob

import "strings"

// A Grammar knows which names there can be: it is Repositories or Tags. It's a
// deterministic automaton whose words begin with a slash, so that each component does.
type Grammar struct {
	what     string // what its words are
	alphabet string
	start    int

	// next is the state after one byte more, or -1 if no word goes on like that.
	next func(state int, c byte) int

	// ends says that a word may end in a state.
	ends func(state int) bool
}

// The longest words of the grammars, which don't know it themselves.
const (
	longestName = 255
	longestTag  = 128
)

func (g *Grammar) longest() int {
	if g == Tags {
		return longestTag
	}
	return longestName
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyz0123456789"

// Repositories are the names that oci.ParseName accepts, and those that are too
// long.
var Repositories = &Grammar{
	what:     "repository",
	alphabet: alphanumeric + "._-/",
	start:    nameState{at: beforeName}.number(),
	next: func(state int, c byte) int {
		if s, ok := nameStateOf(state).next(c); ok {
			return s.number()
		}
		return -1
	},
	ends: func(state int) bool { return nameStateOf(state).ends() },
}

// Tags are the tags that oci.ParseTag accepts, and those that are too long.
var Tags = &Grammar{
	what:     "tag",
	alphabet: alphanumeric + "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-/",
	next: func(state int, c byte) int {
		switch {
		case state == 0 && c == '/':
			return 1
		case state == 0 || c == '/' || state == 1 && (c == '.' || c == '-'):
			return -1
		}
		return 2
	},
	ends: func(state int) bool { return state == 2 },
}

// nameState is how far a name has been read.
type nameState struct {
	at    int  // one of the below
	below bool // in a component that isn't the first

	// word is which of reserved the component is so far, and read how much of it;
	// none if read is 0.
	word, read int
}

// Where in a component a nameState is.
const (
	beforeName = iota
	atStart
	inRun // of letters and digits
	afterDot
	afterUnderscore
	afterTwoUnderscores
	afterDashes
	numPlaces
)

// reserved are the components that a name can't have below another.
var reserved = [...]string{"blobs", "index.json", "oci-layout"}

func (s nameState) number() int {
	n := (s.read*len(reserved)+s.word)*numPlaces + s.at
	if s.below {
		return 2*n + 1
	}
	return 2 * n
}

func nameStateOf(n int) nameState {
	s := nameState{below: n%2 == 1}
	n /= 2
	s.at, n = n%numPlaces, n/numPlaces
	s.word, s.read = n%len(reserved), n/len(reserved)
	return s
}

// ends reports whether a name may end here, or go on with a slash.
func (s nameState) ends() bool {
	return s.at == inRun && s.read != len(reserved[s.word])
}

func (s nameState) next(c byte) (nameState, bool) {
	if c == '/' {
		return nameState{at: atStart, below: s.at != beforeName}, s.at == beforeName || s.ends()
	}
	n := nameState{at: s.place(c), below: s.below}
	if s.below {
		n.word, n.read = s.spell(c)
	}
	return n, n.at != beforeName
}

// place returns where c leads within a component, or beforeName if it can't be there.
func (s nameState) place(c byte) int {
	switch {
	case s.at == beforeName:
		return beforeName
	case strings.IndexByte(alphanumeric, c) >= 0:
		return inRun
	case c == '.' && s.at == inRun:
		return afterDot
	case c == '_' && s.at == inRun:
		return afterUnderscore
	case c == '_' && s.at == afterUnderscore:
		return afterTwoUnderscores
	case c == '-' && (s.at == inRun || s.at == afterDashes):
		return afterDashes
	}
	return beforeName
}

// spell returns which reserved word the component still can be after c. No two of
// them begin with the same letter.
func (s nameState) spell(c byte) (word, read int) {
	if s.at == atStart {
		for i, w := range reserved {
			if w[0] == c {
				return i, 1
			}
		}
		return 0, 0
	}
	if w := reserved[s.word]; s.read > 0 && s.read < len(w) && w[s.read] == c {
		return s.word, s.read + 1
	}
	return 0, 0
}
