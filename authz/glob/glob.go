// Package glob matches names of repositories, and tags, and compares globs: whether
// two match one name, whether some match all that another does, and whether there's
// any name that one matches.
package glob

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// maxAlternatives is how many globs one glob with braces may stand for.
const maxAlternatives = 100

// Glob is a pattern that has been parsed. It never changes, and is safe for
// concurrent use.
//
// It's made of components with "/" between them, as a name is. "*" matches any part
// of a component, "?" one character, "[a-z]" one of a class, "[^a-z]" one that isn't,
// "{a,b}" either of two globs, and a component "**" any number of components, none
// included: "team/**" matches "team", too.
//
// That's what bmatcuk/doublestar matches, but for corners: "[^a]" never matches a
// slash, a "*" before "/**" may match nothing, and a glob can't end with a slash.
type Glob struct {
	pattern string

	// alternatives are the globs without braces that the pattern stands for.
	alternatives []string

	// prefix and suffix are part of all that match: most names are turned down by
	// these.
	prefix, suffix string
}

// Parse returns the glob that a pattern is. Its error says what's malformed, to be
// read after the pattern.
func Parse(pattern string) (*Glob, error) {
	if pattern == "" {
		return nil, errors.New("is empty")
	}
	g := &Glob{pattern: pattern}
	if err := g.expand(pattern); err != nil {
		return nil, err
	}
	if len(g.alternatives) == 1 {
		g.prefix, g.suffix = edges(g.alternatives[0])
	}
	return g, nil
}

// String returns the pattern as it was parsed.
func (g *Glob) String() string { return g.pattern }

// Compare orders globs by the length of their patterns, the longest first, and those
// of one length by their text.
func Compare(a, b *Glob) int {
	return cmp.Or(len(b.pattern)-len(a.pattern), strings.Compare(a.pattern, b.pattern))
}

// expand adds what p stands for to g's alternatives.
func (g *Glob) expand(p string) error {
	open, end, commas, err := braces(p)
	if err != nil {
		return err
	}
	if open < 0 {
		if len(g.alternatives) == maxAlternatives {
			return fmt.Errorf("stands for more than %d globs", maxAlternatives)
		}
		g.alternatives = append(g.alternatives, p)
		return nil
	}
	from := open + 1
	for _, to := range append(commas, end) {
		if err := g.expand(p[:open] + p[from:to] + p[end+1:]); err != nil {
			return err
		}
		from = to + 1
	}
	return nil
}

// braces finds the first pair of braces in p, and the commas between them but not
// between inner ones. open is -1 if there's none. It checks the syntax of all of p.
func braces(p string) (open, end int, commas []int, err error) {
	open, end = -1, -1
	depth := 0
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c >= 0x80:
			return 0, 0, nil, errors.New("has a character that isn't ASCII, which no name has")
		case c == '\\' && (i+1 == len(p) || p[i+1] == '/'):
			return 0, 0, nil, errors.New(`has a "\" with nothing to escape`)
		case c == '\\':
			i++
		case c == '[':
			n, err := checkClass(p[i:])
			if err != nil {
				return 0, 0, nil, err
			}
			i += n - 1
		case c == '{':
			if depth++; open < 0 {
				open = i
			}
		case c == '}':
			if depth--; depth < 0 {
				return 0, 0, nil, errors.New(`has a "}" without a "{"`)
			}
			if depth == 0 && end < 0 {
				end = i
			}
		case c == ',' && depth == 1 && end < 0:
			commas = append(commas, i)
		}
	}
	if depth > 0 {
		return 0, 0, nil, errors.New(`has a "{" without a "}"`)
	}
	return open, end, commas, nil
}

// checkClass returns how long the class is that p begins with.
func checkClass(p string) (int, error) {
	bad := errors.New(`has a "[" that begins no class; one looks like "[a-z0-9]"`)
	i := 1
	if strings.HasPrefix(p[i:], "^") || strings.HasPrefix(p[i:], "!") {
		i++
	}
	for first := i; i == first || i < len(p) && p[i] != ']'; {
		n, ok := checkClassByte(p[i:])
		if !ok {
			return 0, bad
		}
		if i += n; i < len(p) && p[i] == '-' {
			if n, ok = checkClassByte(p[i+1:]); !ok {
				return 0, bad
			}
			i += 1 + n
		}
	}
	if i >= len(p) {
		return 0, bad
	}
	return i + 1, nil
}

// checkClassByte returns how long the member of a class is that p begins with.
func checkClassByte(p string) (n int, ok bool) {
	switch {
	case p == "" || p[0] == ']' || p[0] == '-' || p[0] == '/' || p[0] >= 0x80:
		return 0, false
	case p[0] == '\\':
		return 2, len(p) > 1 && p[1] != '/' && p[1] < 0x80
	}
	return 1, true
}

// special are the characters that a glob without braces doesn't mean as they are.
const special = `*?[\`

// edges returns what all begin and end with that p matches, or less. Slashes beside
// a wildcard are left out: "a/**" matches "a".
func edges(p string) (prefix, suffix string) {
	first := strings.IndexAny(p, special)
	if first < 0 {
		return p, p
	}
	prefix = strings.TrimSuffix(p[:first], "/")
	if !strings.ContainsAny(p, `[\`) {
		suffix = strings.TrimPrefix(p[strings.LastIndexAny(p, special)+1:], "/")
	}
	return prefix, suffix
}
