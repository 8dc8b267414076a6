package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
)

// has reports whether w is a word of g, without its first slash.
func (g *grammar) has(w string) bool {
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
	for w := range words("a0._-/AZ:", 5) {
		if got, want := repositoryNames.has(w), isName(w); got != want {
			t.Fatalf("%q is a name: %t, want %t", w, got, want)
		}
		if got, want := tagNames.has(w), isTag(w); got != want {
			t.Fatalf("%q is a tag: %t, want %t", w, got, want)
		}
	}
	for _, r := range reserved {
		for _, format := range []string{"%s", "a/%s", "a/%s/b", "%s/%[1]s", "a/%sx", "a/x%s", "a/%s-x", "a/b/%s", "%s/a"} {
			if w := fmt.Sprintf(format, r); repositoryNames.has(w) != isName(w) {
				t.Errorf("%q is a name: %t", w, !isName(w))
			}
		}
		if w := "a/" + r[:len(r)-1]; repositoryNames.has(w) != isName(w) {
			t.Errorf("%q is a name: %t", w, !isName(w))
		}
	}
}

func FuzzGrammars(f *testing.F) {
	for _, s := range []string{"a", "a/blobs", "a/index.json/b", "oci-layout", "a--b__c.d", "a/_b", "V1.0", "-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= longestTag && (repositoryNames.has(s) != isName(s) || tagNames.has(s) != isTag(s)) {
			t.Errorf("%q is a name: %t, is a tag: %t", s, isName(s), isTag(s))
		}
	})
}

// words yields all words of an alphabet up to a length.
func words(alphabet string, longest int) func(func(string) bool) {
	return func(yield func(string) bool) {
		var grow func(w string) bool
		grow = func(w string) bool {
			if !yield(w) {
				return false
			}
			for i := range alphabet {
				if len(w) < longest && !grow(w+alphabet[i:i+1]) {
					return false
				}
			}
			return true
		}
		grow("")
	}
}

// someGlob makes a glob of few letters, so that two often have names in common.
func someGlob(r *rand.Rand) *glob {
	pieces := []string{"a", "b", "a", "b", "*", "?", "a*", "*b", "a?", "**", "**", "{a,b}", "{a,b/a}", "[^a]", "[ab]", "a-b", "b**"}
	components := make([]string, 1+r.IntN(3))
	for i := range components {
		components[i] = pieces[r.IntN(len(pieces))]
	}
	g, err := parseGlob(strings.Join(components, "/"))
	if err != nil {
		panic(err)
	}
	return g
}

// TestGlobsInCommon compares what search says of two globs with all short names.
func TestGlobsInCommon(t *testing.T) {
	t.Parallel()
	names := slices.Collect(words("ab/-", 5))
	names = slices.DeleteFunc(names, func(w string) bool { return !isName(w) })
	r := rand.New(rand.NewPCG(1, 2))
	found, none := 0, 0
	for range 3000 {
		a, b := someGlob(r), someGlob(r)
		word, sure := (&search{grammar: repositoryNames, match: []*program{a.program(), b.program()}}).run()
		switch {
		case !sure:
			t.Fatalf("%s and %s: not sure without a budget", a.pattern, b.pattern)
		case word != "" && (!isName(word) || !a.match(word) || !b.match(word)):
			t.Fatalf("%s and %s don't both match the name %q", a.pattern, b.pattern, word)
		}
		i := slices.IndexFunc(names, func(n string) bool { return a.match(n) && b.match(n) })
		if i >= 0 && word == "" {
			t.Fatalf("%s and %s have nothing in common, and both match %s", a.pattern, b.pattern, names[i])
		}
		if i >= 0 && len(word) > len(names[i]) {
			t.Fatalf("%s and %s: %q isn't the shortest, %s is shorter", a.pattern, b.pattern, word, names[i])
		}
		if word != "" && newGlobSet(nil).apart(a, b) {
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
	names := slices.Collect(words("ab/-", 5))
	names = slices.DeleteFunc(names, func(w string) bool { return !isName(w) })
	r := rand.New(rand.NewPCG(3, 4))
	covered, not := 0, 0
	for range 3000 {
		g, by := someGlob(r), []*glob{someGlob(r), someGlob(r)}
		outside := func(n string) bool { return g.match(n) && !by[0].match(n) && !by[1].match(n) }
		set := newGlobSet(append(by, g))
		word, sure := (&search{
			grammar: repositoryNames, match: []*program{set.program(g)}, avoid: set.programsOf(by), budget: searchBudget,
		}).run()
		if word != "" && (!isName(word) || !outside(word)) {
			t.Fatalf("%s without %s and %s: %q", g.pattern, by[0].pattern, by[1].pattern, word)
		}
		is := set.covers(by, g)
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
	g, by := parseGlobs("**")[0], parseGlobs("**")[0]
	s := search{grammar: repositoryNames, match: []*program{g.program()}, avoid: []*program{by.program()}, budget: 2}
	if word, sure := s.run(); sure || word != "" {
		t.Errorf("%q, %t", word, sure)
	}
	if !newGlobSet([]*glob{g}).covers([]*glob{by}, g) {
		t.Error("** doesn't cover **")
	}
}
