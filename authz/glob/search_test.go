package glob

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/glob/globtest"
	"github.com/caddy-oci/oci-registry/oci"
)

// has reports whether w is a word of g, without its first slash.
func (g *Grammar) has(w string) bool {
	state := g.start
	for _, c := range []byte("/" + w) {
		if strings.IndexByte(g.alphabet, c) < 0 {
			return false
		}
		if state = g.next(state, c); state < 0 {
			return false
		}
	}
	return g.ends(state)
}

func isName(s string) bool {
	_, err := oci.ParseName(s)
	return err == nil
}

func isTag(s string) bool {
	_, err := oci.ParseTag(s)
	return err == nil
}

// TestGrammars compares the grammars with what parses names and tags, for all short words.
func TestGrammars(t *testing.T) {
	t.Parallel()
	for w := range globtest.Words("a0._-/AZ:", 5) {
		if got, want := Repositories.has(w), isName(w); got != want {
			t.Fatalf("%q is a name: %t, want %t", w, got, want)
		}
		if got, want := Tags.has(w), isTag(w); got != want {
			t.Fatalf("%q is a tag: %t, want %t", w, got, want)
		}
	}
	for _, r := range reserved {
		for _, format := range []string{"%s", "a/%s", "a/%s/b", "%s/%[1]s", "a/%sx", "a/x%s", "a/%s-x", "a/b/%s", "%s/a"} {
			if w := fmt.Sprintf(format, r); Repositories.has(w) != isName(w) {
				t.Errorf("%q is a name: %t", w, !isName(w))
			}
		}
		if w := "a/" + r[:len(r)-1]; Repositories.has(w) != isName(w) {
			t.Errorf("%q is a name: %t", w, !isName(w))
		}
	}
}

func FuzzGrammars(f *testing.F) {
	for _, s := range []string{"a", "a/blobs", "a/index.json/b", "oci-layout", "a--b__c.d", "a/_b", "V1.0", "-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= longestTag && (Repositories.has(s) != isName(s) || Tags.has(s) != isTag(s)) {
			t.Errorf("%q is a name: %t, is a tag: %t", s, isName(s), isTag(s))
		}
	})
}

// someGlob makes a glob of few letters, so that two often have names in common.
func someGlob(r *rand.Rand) *Glob {
	g, err := Parse(globtest.Pattern(r))
	if err != nil {
		panic(err)
	}
	return g
}

// TestGlobsInCommon compares what search says of two globs with all short names.
func TestGlobsInCommon(t *testing.T) {
	t.Parallel()
	names := slices.Collect(globtest.Words("ab/-", 5))
	names = slices.DeleteFunc(names, func(w string) bool { return !isName(w) })
	r := rand.New(rand.NewPCG(1, 2))
	found, none := 0, 0
	for range 3000 {
		a, b := someGlob(r), someGlob(r)
		word, sure := (&search{grammar: Repositories, match: []*program{a.program(), b.program()}}).run()
		switch {
		case !sure:
			t.Fatalf("%s and %s: not sure without a budget", a.pattern, b.pattern)
		case word != "" && (!isName(word) || !a.Match(word) || !b.Match(word)):
			t.Fatalf("%s and %s don't both match the name %q", a.pattern, b.pattern, word)
		}
		i := slices.IndexFunc(names, func(n string) bool { return a.Match(n) && b.Match(n) })
		if i >= 0 && word == "" {
			t.Fatalf("%s and %s have nothing in common, and both match %s", a.pattern, b.pattern, names[i])
		}
		if i >= 0 && len(word) > len(names[i]) {
			t.Fatalf("%s and %s: %q isn't the shortest, %s is shorter", a.pattern, b.pattern, word, names[i])
		}
		if word != "" && NewSet(Repositories, nil).apart(a, b) {
			t.Fatalf("%s and %s are apart, and both match %s", a.pattern, b.pattern, word)
		}
		if word == "" {
			none++
		} else {
			found++
		}
	}
	if found < 500 || none < 500 {
		t.Errorf("%d pairs with names in common and %d without say little", found, none)
	}
}

// TestGlobsCovered does the same for a glob and others that match all that it does.
func TestGlobsCovered(t *testing.T) {
	t.Parallel()
	names := slices.Collect(globtest.Words("ab/-", 5))
	names = slices.DeleteFunc(names, func(w string) bool { return !isName(w) })
	r := rand.New(rand.NewPCG(3, 4))
	covered, not := 0, 0
	for range 3000 {
		g, by := someGlob(r), []*Glob{someGlob(r), someGlob(r)}
		outside := func(n string) bool { return g.Match(n) && !by[0].Match(n) && !by[1].Match(n) }
		set := NewSet(Repositories, append(by, g))
		word, sure := (&search{
			grammar: Repositories, match: []*program{set.program(g)}, avoid: set.programsOf(by), budget: searchBudget,
		}).run()
		if word != "" && (!isName(word) || !outside(word)) {
			t.Fatalf("%s without %s and %s: %q", g.pattern, by[0].pattern, by[1].pattern, word)
		}
		is := set.Covers(by, g)
		if is != (sure && word == "") {
			t.Fatalf("%s: covered %t, outside %q, %t", g.pattern, is, word, sure)
		}
		if i := slices.IndexFunc(names, outside); i >= 0 && is {
			t.Fatalf("%s and %s cover %s, and %s is outside", by[0].pattern, by[1].pattern, g.pattern, names[i])
		}
		if is {
			covered++
		} else {
			not++
		}
	}
	if covered < 300 || not < 300 {
		t.Errorf("%d covered and %d not say little", covered, not)
	}
}

func TestSearchStopsAtItsBudget(t *testing.T) {
	t.Parallel()
	g, _ := Parse("**")
	by, _ := Parse("**")
	s := search{grammar: Repositories, match: []*program{g.program()}, avoid: []*program{by.program()}, budget: 2}
	if word, sure := s.run(); sure || word != "" {
		t.Errorf("%q, %t", word, sure)
	}
	if !NewSet(Repositories, []*Glob{g}).Covers([]*Glob{by}, g) {
		t.Error("** doesn't cover **")
	}
}
