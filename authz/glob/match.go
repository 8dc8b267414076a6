package glob

import "strings"

// Match reports whether g matches all of s. It allocates nothing.
func (g *Glob) Match(s string) bool {
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

// Match reports whether a pattern that nobody has parsed matches all of a name. One
// that's malformed matches nothing. Without braces, classes and escapes it's matched
// as it stands.
func Match(pattern, name string) bool {
	if !strings.ContainsAny(pattern, `{[\}`) {
		return pattern != "" && matchPath(pattern, name)
	}
	g, err := Parse(pattern)
	return err == nil && g.Match(name)
}

// matchPath reports whether p, a glob without braces, matches all of s. A "**"
// that turns out to have taken too little takes one component more; what follows
// it has been matched as far left as can be, so earlier ones need not be asked.
func matchPath(p, s string) bool {
	i, j := 0, 0          // where the next components begin; the end is one past the last byte
	backI, backJ := -1, 0 // what follows the last "**", and where in s that was tried
	for j <= len(s) {
		pc, sc, more := "", component(s, j), i <= len(p)
		if more {
			pc = component(p, i)
		}
		switch {
		case pc == "**" && i+len(pc) == len(p):
			return true
		case pc == "**":
			i += len(pc) + 1
			backI, backJ = i, j
			continue
		case more && matchComponent(pc, sc):
			i, j = i+len(pc)+1, j+len(sc)+1
			continue
		case backI < 0:
			return false
		}
		backJ += len(component(s, backJ)) + 1
		i, j = backI, backJ
	}
	for i <= len(p) {
		if component(p, i) != "**" {
			return false
		}
		i += len("**/")
	}
	return true
}

// component returns the component of s that begins at i.
func component(s string, i int) string {
	c, _, _ := strings.Cut(s[i:], "/")
	return c
}

// matchComponent is matchPath within a component, for "*".
func matchComponent(p, s string) bool {
	i, j := 0, 0
	backI, backJ := -1, 0
	for j < len(s) {
		if i < len(p) {
			if p[i] == '*' {
				i++
				backI, backJ = i, j
				continue
			}
			if n, ok := matchByte(p[i:], s[j]); ok {
				i, j = i+n, j+1
				continue
			}
		}
		if backI < 0 {
			return false
		}
		backJ++
		i, j = backI, backJ
	}
	return strings.Trim(p[i:], "*") == ""
}

// matchByte reports whether c is matched by what p begins with, which is n bytes long.
func matchByte(p string, c byte) (n int, ok bool) {
	switch p[0] {
	case '?':
		return 1, true
	case '\\':
		return 2, p[1] == c
	case '[':
		return matchClass(p, c)
	}
	return 1, p[0] == c
}

func matchClass(p string, c byte) (n int, ok bool) {
	i := 1
	not := p[i] == '^' || p[i] == '!'
	if not {
		i++
	}
	for p[i] != ']' {
		lo, n := classByte(p[i:])
		hi := lo
		if i += n; p[i] == '-' {
			hi, n = classByte(p[i+1:])
			i += 1 + n
		}
		ok = ok || lo <= c && c <= hi
	}
	return i + 1, ok != not
}

func classByte(p string) (c byte, n int) {
	if p[0] == '\\' {
		return p[1], 2
	}
	return p[0], 1
}
