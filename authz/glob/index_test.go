package glob

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/glob/globtest"
)

// TestDecisionsLookAtFewGlobs: what begins otherwise isn't looked at.
func TestDecisionsLookAtFewGlobs(t *testing.T) {
	t.Parallel()
	const many = 1000
	for _, k := range globtest.Kinds() {
		var patterns []string
		for i := range many {
			patterns = append(patterns, k.Pattern(i))
		}
		x := indexOf(t, slices.Compact(patterns)...)
		for i := range many {
			components := strings.Split(k.Named(i), "/")
			globs := x.front.along(components)
			slices.Reverse(components)
			if globs += x.back.along(components); globs != 1 {
				t.Fatalf("%s: %d globs are looked at for %s", k.Name, globs, k.Named(i))
			}
		}
	}
}

// along returns how many globs are in the nodes that a name is looked up in.
func (t *tree) along(components []string) int {
	globs := len(t.globs)
	for _, c := range components {
		if t = t.children[c]; t == nil {
			break
		}
		globs += len(t.globs)
	}
	return globs
}

func indexOf(t *testing.T, patterns ...string) Index {
	t.Helper()
	globs := make([]*Glob, len(patterns))
	for i, p := range patterns {
		g, err := Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		globs[i] = g
	}
	return NewIndex(globs)
}
