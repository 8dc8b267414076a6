package authz

import (
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/glob/globtest"
	"github.com/caddy-oci/oci-registry/oci"
)

// many is how many rules there are, and names that they're for.
const many = 1000

func manyRules(k globtest.Kind) Config {
	c := Config{NoOverwrite: []NoOverwrite{{Tags: []string{"v*"}}}}
	for i := range many {
		c.Rules = append(c.Rules, Rule{
			Allow: []Action{Pull, Push, Overwrite}, Repositories: k.Pattern(i),
			To: []string{fmt.Sprintf("user-%d", i), fmt.Sprintf("group:group-%d", i), "alice"},
		})
	}
	return c
}

func manyPolicy(t testing.TB, k globtest.Kind) *Policy {
	t.Helper()
	p, err := New(manyRules(k))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func manyNames(t testing.TB, k globtest.Kind) []oci.Name {
	t.Helper()
	all := make([]oci.Name, many)
	for i := range all {
		n, err := oci.ParseName(k.Named(i))
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
	for _, k := range globtest.Kinds() {
		b.Run(k.Name, func(b *testing.B) {
			p, all := manyPolicy(b, k), manyNames(b, k)
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
	for _, k := range globtest.Kinds() {
		b.Run(k.Name, func(b *testing.B) {
			p, all := manyPolicy(b, k), manyNames(b, k)
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
	for _, k := range globtest.Kinds() {
		b.Run(k.Name, func(b *testing.B) {
			for b.Loop() {
				manyPolicy(b, k)
			}
		})
	}
}

func BenchmarkLint(b *testing.B) {
	for _, k := range globtest.Kinds() {
		b.Run(k.Name, func(b *testing.B) {
			c := manyRules(k)
			c.Rules = append(c.Rules, Rule{Allow: []Action{Pull}, Repositories: "**/*", To: []string{"*"}})
			for b.Loop() {
				Lint(c, Known{Open: true})
			}
		})
	}
}

func TestDecisionsAllocateNothing(t *testing.T) {
	for _, k := range globtest.Kinds() {
		p, all := manyPolicy(t, k), manyNames(t, k)
		q := pushTo(all[many/2])
		if n := testing.AllocsPerRun(10, func() {
			if _, err := p.Authorize(t.Context(), q); err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("%s: a decision takes %v allocations", k.Name, n)
		}
		q = Question{Who: member(), Want: []Access{{Action: List}}}
		if n := testing.AllocsPerRun(10, func() {
			for range p.Filter(t.Context(), q, slices.Values(all)) {
			}
		}); n > 10 { // for the list, not for each name
			t.Errorf("%s: a list takes %v allocations", k.Name, n)
		}
	}
}
