package authz

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
)

// manyRules are 1,000 rules, and 1,000 names that they're for.
type manyRules struct {
	name    string
	pattern func(i int) string
	named   func(i int) string
}

var manyKinds = []manyRules{
	{"teams", func(i int) string { return fmt.Sprintf("team-%04d/**", i) }, func(i int) string { return fmt.Sprintf("team-%04d/app/web", i) }},
	{"one_parent", func(i int) string { return fmt.Sprintf("org/team-%04d/*", i) }, func(i int) string { return fmt.Sprintf("org/team-%04d/app", i) }},
	{"suffixes", func(i int) string { return fmt.Sprintf("**/app-%04d", i) }, func(i int) string { return fmt.Sprintf("org/x/app-%04d", i) }},
	{"one_pattern", func(int) string { return "**" }, func(i int) string { return fmt.Sprintf("team/app-%04d", i) }},
}

const many = 1000

func (m manyRules) config() Config {
	c := Config{NoOverwrite: []NoOverwrite{{Tags: []string{"v*"}}}}
	for i := range many {
		c.Rules = append(c.Rules, Rule{
			Allow: []Action{Pull, Push, Overwrite}, Repositories: m.pattern(i),
			To: []string{fmt.Sprintf("user-%d", i), fmt.Sprintf("group:group-%d", i), "alice"},
		})
	}
	return c
}

func (m manyRules) policy(t testing.TB) *Policy {
	t.Helper()
	p, err := New(m.config())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (m manyRules) names(t testing.TB) []oci.Name {
	t.Helper()
	all := make([]oci.Name, many)
	for i := range all {
		n, err := oci.ParseName(m.named(i))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = n
	}
	return all
}

func member() Identity {
	return Identity{ID: "carol", Groups: []string{"group-1", "x", "group-500", "y"}}
}

func pushTo(n oci.Name) Question {
	t, _ := oci.ParseTag("latest")
	return Question{Who: member(), Want: []Access{{Action: Push, Repository: n, Reference: oci.TagRef(t)}}}
}

func BenchmarkAuthorize(b *testing.B) {
	for _, m := range manyKinds {
		b.Run(m.name, func(b *testing.B) {
			p, all := m.policy(b), m.names(b)
			q := pushTo(all[many/2])
			b.ReportAllocs()
			for b.Loop() {
				if a, err := p.Authorize(b.Context(), q); err != nil || !a.Overwrite {
					b.Fatal(a, err)
				}
			}
		})
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, m := range manyKinds {
		b.Run(m.name, func(b *testing.B) {
			p, all := m.policy(b), m.names(b)
			q := Question{Who: member(), Want: []Access{{Action: List}}}
			b.ReportAllocs()
			for b.Loop() {
				for range p.Filter(b.Context(), q, slices.Values(all)) {
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, m := range manyKinds {
		b.Run(m.name, func(b *testing.B) {
			for b.Loop() {
				m.policy(b)
			}
		})
	}
}

func BenchmarkLint(b *testing.B) {
	for _, m := range manyKinds {
		b.Run(m.name, func(b *testing.B) {
			c := m.config()
			c.Rules = append(c.Rules, Rule{Allow: []Action{Pull}, Repositories: "**/*", To: []string{"*"}})
			for b.Loop() {
				Lint(c, Known{Open: true})
			}
		})
	}
}

func TestDecisionsAllocateNothing(t *testing.T) {
	for _, m := range manyKinds {
		p, all := m.policy(t), m.names(t)
		q := pushTo(all[many/2])
		if n := testing.AllocsPerRun(10, func() {
			if _, err := p.Authorize(t.Context(), q); err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("%s: a decision takes %v allocations", m.name, n)
		}
		q = Question{Who: member(), Want: []Access{{Action: List}}}
		if n := testing.AllocsPerRun(10, func() {
			for range p.Filter(t.Context(), q, slices.Values(all)) {
			}
		}); n > 10 { // for the list, not for each name
			t.Errorf("%s: a list takes %v allocations", m.name, n)
		}
	}
}

// TestDecisionsLookAtFewGlobs: what begins otherwise isn't looked at.
func TestDecisionsLookAtFewGlobs(t *testing.T) {
	t.Parallel()
	for _, m := range manyKinds {
		p := m.policy(t)
		for _, n := range m.names(t) {
			components := strings.Split(n.String(), "/")
			globs := p.index.front.along(components)
			slices.Reverse(components)
			if globs += p.index.back.along(components); globs != 1 {
				t.Fatalf("%s: %d globs are looked at for %s", m.name, globs, n)
			}
		}
	}
}

// along returns how many globs are in the nodes that a name is looked up in.
func (t *tree) along(components []string) int {
	globs := len(t.entries)
	for _, c := range components {
		if t = t.children[c]; t == nil {
			break
		}
		globs += len(t.entries)
	}
	return globs
}
