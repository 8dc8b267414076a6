package authz

import (
	"errors"
	"fmt"
	"strings"
)

// maxAlternatives is how many globs one glob with braces may stand for.
const maxAlternatives = 100

// glob matches names of repositories, or tags, as bmatcuk/doublestar says that it
// does. It differs from what doublestar does in corners: "[^a]" never matches a
// slash, a "*" before "/**" may match nothing, and a glob can't end with a slash.
type glob struct {
	pattern string

	// alternatives are the globs without braces that the pattern stands for.
	alternatives []string

	// prefix and suffix are part of all that match: most names are turned down by
	// these.
	prefix, suffix string
}

func parseGlob(pattern string) (*glob, error) {
	if pattern == "" {
		return nil, errors.New("is empty")
	}
	g := &glob{pattern: pattern}
	if err := g.expand(pattern); err != nil {
		return nil, err
	}
	if len(g.alternatives) == 1 {
		g.prefix, g.suffix = edges(g.alternatives[0])
	}
	return g, nil
}

// parseGlobs parses globs that have been checked.
func parseGlobs(patterns ...string) []*glob {
	globs := make([]*glob, len(patterns))
	for i, p := range patterns {
		globs[i], _ = parseGlob(p)
	}
	return globs
}

// expand adds what p stands for to g's alternatives.
func (g *glob) expand(p string) error {
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

func (g *glob) match(s string) bool {
	if !strings.HasPrefix(s, g.prefix) || !strings.HasSuffix(s, g.suffix) {
		return false
	}
	for _, p := range g.alternatives {
		if matchPath(p, s) {
			return true
		}
	}
	return false
}

// matchPattern matches a pattern that nobody has parsed. Those of tokens are
// names, most of the time.
func matchPattern(pattern, name string) bool {
	if !strings.ContainsAny(pattern, `{[\}`) {
		return pattern != "" && matchPath(pattern, name)
	}
	g, err := parseGlob(pattern)
	return err == nil && g.match(name)
}
