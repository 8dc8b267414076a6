package glob

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
)

func TestGlobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, matches, not string }{
		{"a", "a", "b aa a/a"},
		{"a/b", "a/b", "a b a/b/c x/a/b"},
		{"*", "a b aa a-b", "a/b"},
		{"a*", "a ab abc", "b ba ab/c"},
		{"*a", "a ba cba", "b ab c/a"},
		{"a*c", "ac abc abcbc", "a ab a/c"},
		{"a*b*c", "abc aXbXc abbcc aabcbc", "ac acb abcb"},
		{"team/*", "team/a", "team team/a/b"},
		{"*/app", "team/app", "app a/b/app"},
		{"**", "a a/b a/b/c", ""},
		{"team/**", "team team/a team/a/b", "teams team-a/b ateam"},
		{"**/app", "app a/app a/b/app", "app/a xapp a/xapp"},
		{"a/**/z", "a/z a/b/z a/b/c/z a/z/z", "a z a/b z/a a/zz"},
		{"a/**/m/**/z", "a/m/z a/b/m/c/z a/m/m/z", "a/z a/m m/z"},
		{"**/a/*", "a/b x/a/b a/a/b", "a b/a a/b/c"},
		{"a**", "a ab", "a/b"},
		{"a**b", "ab axb", "a/b"},
		{"**/**", "a a/b", ""},
		{"a?c", "abc a.c", "ac abbc a/c"},
		{"a-[0-9]", "a-0 a-9", "a-a a- a-10"},
		{"a[^0-9]", "ab a-", "a a0"},
		{"a[!b]", "ac", "ab"},
		{"[a-cx]", "a b c x", "d y"},
		{`a\*`, "", "a ab"},
		{`\a`, "a", "b"},
		{`[\a]`, "a", "b"},
		{"{a,b}/c", "a/c b/c", "c/c a b"},
		{"{a,b/c}", "a b/c", "b c"},
		{"{a,b}{c,d}", "ac ad bc bd", "ab cd"},
		{"{a{b,c},d}", "ab ac d", "a b ad"},
		{"a{,-b}", "a a-b", "-b"},
		{"{a/**,b}", "a a/x b", "b/x"},
		{"{team,org}/**", "team org/a/b", "other"},
		{"a[{,}]", "", "a"},
	} {
		g, err := Parse(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for s := range strings.FieldsSeq(c.matches) {
			if !g.Match(s) {
				t.Errorf("%s doesn't match %s", c.pattern, s)
			}
		}
		for s := range strings.FieldsSeq(c.not) {
			if g.Match(s) {
				t.Errorf("%s matches %s", c.pattern, s)
			}
		}
	}
}

func TestMalformedGlobs(t *testing.T) {
	t.Parallel()
	for pattern, problem := range map[string]string{
		"": "empty", "a{b": `"{" without`, "a}": `"}" without`, "a{b{c}": `"{" without`, "}{": `"}" without`,
		"[": "class", "[]": "class", "[a": "class", "[a-": "class", "[a-]": "class", "[-a]": "class", "[^]": "class",
		"[]a]": "class", "[a/b]": "class", `[\`: "class", `a\`: "escape", `a\/b`: "escape", "é": "ASCII", "[é]": "class",
		strings.Repeat("{a,b}", 7): "more than 100",
	} {
		if g, err := Parse(pattern); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q is %v, %v; want an error about %s", pattern, g, err, problem)
		}
	}
	if g, err := Parse(strings.Repeat("{a,b}", 6)); err != nil || len(g.alternatives) != 64 {
		t.Errorf("%v, %v", g, err)
	}
}

// FuzzGlob compares the matcher with a naive one, and with the automaton that lint
// compares globs by.
func FuzzGlob(f *testing.F) {
	for _, pattern := range []string{
		"a", "*", "**", "a/**", "**/a", "a/**/b", "a*b*c", "{a,b}/**", "[a-c]?", "[^a]*", `\a*`, "a**b", "{a,{b,c/**}}",
		"**/a/**/b*", "*a*a*a*b", "a{,b}c",
	} {
		for _, name := range []string{"a", "a/b", "a/x/b", "aabac", "b/c/d", "abab/aab"} {
			f.Add(pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := Parse(pattern)
		if err != nil || len(pattern) > 40 || len(name) > 30 {
			return
		}
		if _, err := oci.ParseName(name); err != nil { // nothing else is ever matched
			return
		}
		got, want := g.Match(name), false
		for _, a := range g.alternatives {
			want = want || naivePath(strings.Split(a, "/"), strings.Split(name, "/"))
		}
		if got != want {
			t.Errorf("%q matches %q: %t, want %t", pattern, name, got, want)
		}
		if accepted := g.program().runs(name); accepted != want {
			t.Errorf("the program of %q accepts %q: %t, want %t", pattern, name, accepted, want)
		}
		if p := Match(pattern, name); p != want {
			t.Errorf("Match(%q, %q) is %t, want %t", pattern, name, p, want)
		}
	})
}

// runs reports whether p accepts a word without its first slash.
func (p *program) runs(word string) bool {
	at := p.starts
	for _, c := range []byte("/" + word) {
		var next []int
		for _, s := range at {
			next = p.step(next, s, c)
		}
		at = next
	}
	return slices.ContainsFunc(at, p.accepts)
}

// naivePath tries all that a glob could mean.
func naivePath(p, s []string) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == "**":
		return naivePath(p[1:], s) || len(s) > 0 && naivePath(p, s[1:])
	}
	return len(s) > 0 && naiveComponent(p[0], s[0]) && naivePath(p[1:], s[1:])
}

func naiveComponent(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return naiveComponent(p[1:], s) || s != "" && naiveComponent(p, s[1:])
	case s == "":
		return false
	case p[0] == '?':
		return naiveComponent(p[1:], s[1:])
	case p[0] == '\\':
		return p[1] == s[0] && naiveComponent(p[2:], s[1:])
	case p[0] == '[':
		end := 1
		for ; p[end] != ']'; end++ {
			if p[end] == '\\' {
				end++
			}
		}
		return naiveClass(p[1:end], s[0]) && naiveComponent(p[end+1:], s[1:])
	}
	return p[0] == s[0] && naiveComponent(p[1:], s[1:])
}

// naiveClass writes down all that a class has.
func naiveClass(p string, c byte) bool {
	not := p[0] == '^' || p[0] == '!'
	if not {
		p = p[1:]
	}
	var members []byte
	for p != "" {
		from := strings.TrimPrefix(p, `\`)
		to := from
		if rest := from[1:]; strings.HasPrefix(rest, "-") {
			to = strings.TrimPrefix(rest[1:], `\`)
		}
		for b := int(from[0]); b <= int(to[0]); b++ {
			members = append(members, byte(b))
		}
		p = to[1:]
	}
	return strings.IndexByte(string(members), c) >= 0 != not
}
