// Package globtest makes patterns and names for tests.
package globtest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
)

// Pattern makes a pattern of few letters, so that two often have names in common.
func Pattern(r *rand.Rand) string {
	pieces := []string{"a", "b", "a", "b", "*", "?", "a*", "*b", "a?", "**", "**", "{a,b}", "{a,b/a}", "[^a]", "[ab]", "a-b", "b**"}
	components := make([]string, 1+r.IntN(3))
	for i := range components {
		components[i] = pieces[r.IntN(len(pieces))]
	}
	return strings.Join(components, "/")
}

// Words yields all words of an alphabet up to a length, the empty one first.
func Words(alphabet string, longest int) iter.Seq[string] {
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

// Kind is a kind of patterns of which there are many, and of the names that they're
// for: the ith pattern matches the ith name.
type Kind struct {
	Name    string
	Pattern func(i int) string
	Named   func(i int) string
}

// Kinds returns the kinds that differ in how a name is looked up.
func Kinds() []Kind {
	return []Kind{
		{"teams", numbered("team-%04d/**"), numbered("team-%04d/app/web")},
		{"one_parent", numbered("org/team-%04d/*"), numbered("org/team-%04d/app")},
		{"suffixes", numbered("**/app-%04d"), numbered("org/x/app-%04d")},
		{"one_pattern", func(int) string { return "**" }, numbered("team/app-%04d")},
	}
}

func numbered(format string) func(i int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}
