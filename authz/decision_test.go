package authz

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/glob"
	"github.com/caddy-oci/oci-registry/authz/glob/globtest"
	"github.com/caddy-oci/oci-registry/oci"
)

// sometimes is a Condition that looks at all there is.
type sometimes int

func (s sometimes) Met(_ context.Context, c Case) (bool, error) {
	n := len(c.Access.Repository.String()) + len(c.Access.Reference.String()) + len(c.Access.Action) + len(c.Question.Who.Groups) + int(s)
	if n%5 == 4 {
		return true, errors.New("broken")
	}
	return n%2 == 0 || c.Admin, nil
}

func (s sometimes) Message() string { return "" }

// someConfig makes a Config that New takes.
func someConfig(r *rand.Rand) Config {
	for {
		c := Config{Groups: map[string][]string{"local": {"alice", "bob"}}}
		for range 1 + r.IntN(7) {
			c.Rules = append(c.Rules, Rule{
				Allow: someActions(r), Repositories: globtest.Pattern(r), To: someSubjects(r), Conditions: someConditions(r),
			})
		}
		if r.IntN(2) == 0 {
			c.Admins = []Admin{{
				Allow: someActions(r), To: []string{"root", "group:local"}, IgnoreNoOverwrite: r.IntN(2) == 0, Conditions: someConditions(r),
			}}
		}
		if r.IntN(2) == 0 {
			c.NoOverwrite = []NoOverwrite{{Tags: []string{"v*"}, Repositories: globtest.Pattern(r)}, {Tags: []string{"x"}}}
			c.ReadOnly = []string{globtest.Pattern(r)}
		}
		if len(c.check()) == 0 {
			return c
		}
	}
}

func someActions(r *rand.Rand) []Action {
	all := slices.Clone(actionNames[:])
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+r.IntN(len(all))]
}

func someSubjects(r *rand.Rand) []string {
	all := []string{"alice", "bob", "group:local", "group:dev", "anonymous", "authenticated", "*"}
	return []string{all[r.IntN(len(all))], all[r.IntN(len(all))]}
}

func someConditions(r *rand.Rand) []Condition {
	if r.IntN(3) > 0 {
		return nil
	}
	return []Condition{sometimes(r.IntN(10))}
}

func someIdentity(r *rand.Rand) Identity {
	who := Identity{ID: []string{"", "alice", "bob", "carol", "root"}[r.IntN(5)]}
	if r.IntN(2) == 0 {
		who.Groups = []string{"dev", "other"}
	}
	if r.IntN(4) == 0 {
		who.Limit = []Scope{{globtest.Pattern(r), someActions(r)}}
	}
	return who
}

// naivePolicy decides as the comments of Config have it.
type naivePolicy struct{ Config }

func (p naivePolicy) grants(who Identity, w Access) bool {
	longest := ""
	for _, r := range p.Rules {
		if g, _ := glob.Parse(r.Repositories); g.Match(w.Repository.String()) && len(r.Repositories) > len(longest) {
			longest = r.Repositories
		}
	}
	granted := slices.ContainsFunc(p.Rules, func(r Rule) bool {
		return r.Repositories == longest && p.allows(r.Allow, r.To, r.Conditions, who, w)
	})
	granted = granted || slices.ContainsFunc(p.Admins, func(a Admin) bool {
		return p.allows(a.Allow, a.To, a.Conditions, who, w)
	})
	return granted && !p.forbids(who, w) && who.WithinLimit(w)
}

func (p naivePolicy) allows(allow []Action, to []string, conditions []Condition, who Identity, w Access) bool {
	if !slices.Contains(allow, w.Action) && (w.Action != List || !slices.Contains(allow, Pull)) {
		return false
	}
	if !slices.ContainsFunc(to, func(t string) bool { return p.names(t, who) }) {
		return false
	}
	asked := Case{Question: Question{Who: who}, Access: w}
	if slices.Contains(p.Groups["local"], who.ID) {
		asked.Question.Who.Groups = append(slices.Clone(who.Groups), "local")
	}
	for _, a := range p.Admins {
		asked.Admin = asked.Admin || slices.ContainsFunc(a.To, func(t string) bool { return p.names(t, who) })
	}
	for _, c := range conditions {
		if met, err := c.Met(context.Background(), asked); err != nil || !met {
			return false
		}
	}
	return true
}

func (p naivePolicy) names(to string, who Identity) bool {
	switch {
	case to == "*":
		return true
	case to == "anonymous":
		return who.ID == ""
	case who.ID == "":
		return false
	case to == "group:local":
		return slices.Contains(p.Groups["local"], who.ID) || slices.Contains(who.Groups, "local")
	case to == "group:dev":
		return slices.Contains(who.Groups, "dev")
	}
	return to == "authenticated" || to == who.ID
}

func (p naivePolicy) forbids(who Identity, w Access) bool {
	if w.Action == Pull || w.Action == List {
		return false
	}
	matches := func(pattern, s string) bool {
		g, _ := glob.Parse(pattern)
		return g.Match(s)
	}
	for _, g := range p.ReadOnly {
		if matches(g, w.Repository.String()) {
			return true
		}
	}
	if w.Action != Overwrite || slices.ContainsFunc(p.Admins, func(a Admin) bool {
		return a.IgnoreNoOverwrite && p.allows(a.Allow, a.To, a.Conditions, who, w)
	}) {
		return false
	}
	return slices.ContainsFunc(p.NoOverwrite, func(n NoOverwrite) bool {
		return matches(n.pattern(), w.Repository.String()) && slices.ContainsFunc(n.Tags, func(tag string) bool {
			return matches(tag, w.Reference.String())
		})
	})
}

func someAccess(r *rand.Rand, n oci.Name) Access {
	t, _ := oci.ParseTag([]string{"v1", "x", "latest"}[r.IntN(3)])
	return Access{Action: actionNames[r.IntN(len(actionNames))], Repository: n, Reference: oci.TagRef(t)}
}

// TestDecisions compares a Policy with a naive one, and what it lists and explains
// with what it decides.
func TestDecisions(t *testing.T) {
	t.Parallel()
	var all []oci.Name
	for w := range globtest.Words("ab/-", 4) {
		if n, err := oci.ParseName(w); err == nil {
			all = append(all, n)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	granted := 0
	const rounds = 400
	for range rounds {
		c := someConfig(r)
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		q := Question{Who: someIdentity(r)}
		for range 30 {
			w := someAccess(r, all[r.IntN(len(all))])
			q.Want = []Access{w}
			answer, err := p.Authorize(t.Context(), q)
			want := naivePolicy{c}.grants(q.Who, w)
			if want {
				granted++
			}
			if (err == nil) != want {
				t.Fatalf("%+v\n%+v wants %v: %v, want %t", c, q.Who, w, err, want)
			}
			w.Action = Overwrite
			if answer.Overwrite && !(naivePolicy{c}).grants(q.Who, w) {
				t.Fatalf("%+v\n%+v may overwrite %v", c, q.Who, w)
			}
			if e := p.Explain(t.Context(), q); e.Granted != want || e.Accesses[0].Granted != want {
				t.Fatalf("%+v\n%+v wants %v: %t, explained as\n%s", c, q.Who, w, want, e)
			}
		}
		compareLists(t, p, q, all)
	}
	if granted < rounds || granted > 29*rounds {
		t.Errorf("%d of %d granted says little", granted, 30*rounds)
	}
}

func compareLists(t *testing.T, p *Policy, q Question, all []oci.Name) {
	t.Helper()
	for _, actions := range [][]Action{{List}, {Pull}, {Push}, {Pull, Delete}} {
		q.Want = nil
		for _, a := range actions {
			q.Want = append(q.Want, Access{Action: a})
		}
		seq := p.Filter(t.Context(), q, slices.Values(all))
		got, again := slices.Collect(seq), slices.Collect(seq)
		want := slices.Collect(FilterOneByOne(t.Context(), p, q, slices.Values(all)))
		if !slices.Equal(got, want) || !slices.Equal(again, want) {
			t.Fatalf("%v is shown %v, then %v, want %v", q, got, again, want)
		}
	}
}

// TestPolicyIsSharedByMany is for the race detector.
func TestPolicyIsSharedByMany(t *testing.T) {
	t.Parallel()
	p, err := New(someConfig(rand.New(rand.NewPCG(7, 8))))
	if err != nil {
		t.Fatal(err)
	}
	n, err := oci.ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	q := Question{Who: Identity{ID: "alice", Groups: []string{"dev"}}, Want: []Access{{Action: Push, Repository: n}}}
	_, want := p.Authorize(t.Context(), q)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				_, err := p.Authorize(t.Context(), q)
				listed := slices.Collect(p.Filter(t.Context(), q, slices.Values([]oci.Name{n})))
				if e := p.Explain(t.Context(), q); (err == nil) != (want == nil) || e.Granted != (want == nil) || len(listed) == 1 != (want == nil) {
					t.Errorf("%v, %v, %v; alone it was %v", err, e, listed, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestFilterStops(t *testing.T) {
	t.Parallel()
	p, err := New(Config{Rules: []Rule{{Allow: []Action{Pull}, Repositories: "**", To: []string{"*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	names := func(yield func(oci.Name) bool) {
		for i := range 10 {
			looked++
			n, _ := oci.ParseName(fmt.Sprint("a", i))
			if !yield(n) {
				return
			}
		}
	}
	for range p.Filter(t.Context(), Question{Want: []Access{{Action: List}}}, names) {
		break
	}
	if looked != 1 {
		t.Errorf("looked at %d names, want 1", looked)
	}
}
