package authz_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

func name(t *testing.T, s string) oci.Name {
	t.Helper()
	n, err := oci.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t *testing.T, list ...string) []oci.Name {
	t.Helper()
	var all []oci.Name
	for _, s := range list {
		all = append(all, name(t, s))
	}
	return all
}

func refused(err error) bool {
	return errors.Is(err, oci.Denied) || errors.Is(err, oci.Unauthorized)
}

var actions = []authz.Action{authz.Pull, authz.List, authz.Push, authz.Overwrite, authz.Delete}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	nobody, alice := authz.Identity{}, authz.Identity{ID: "alice"}
	none, pull := []authz.Action{}, []authz.Action{authz.Pull, authz.List}
	for _, c := range []struct {
		level     authz.Anonymous
		who       authz.Identity
		granted   []authz.Action
		overwrite bool
	}{
		{authz.AnonymousNone, nobody, none, false},
		{authz.AnonymousPull, nobody, pull, false},
		{authz.AnonymousAll, nobody, actions, true},
		{authz.AnonymousNone, alice, actions, true},
		{authz.AnonymousPull, alice, actions, true},
		{authz.AnonymousAll, alice, actions, true},
	} {
		a := authz.Authenticated{Else: c.level}
		for _, action := range actions {
			q := authz.Question{Who: c.who, Want: []authz.Access{{Action: action, Repository: name(t, "a/b")}}}
			answer, err := a.Authorize(t.Context(), q)
			want := slices.Contains(c.granted, action)
			if want && err != nil || !want && !refused(err) {
				t.Errorf("anonymous %s: %q may %s: %v, want %t", c.level, c.who.ID, action, err, want)
			}
			if answer.Overwrite != (want && c.overwrite) {
				t.Errorf("anonymous %s: %q may overwrite: %t", c.level, c.who.ID, answer.Overwrite)
			}
			listed := slices.Collect(a.Filter(t.Context(), q, slices.Values(names(t, "b", "a"))))
			if want != slices.Equal(listed, names(t, "b", "a")) || !want && len(listed) > 0 {
				t.Errorf("anonymous %s: %q is shown %v to %s", c.level, c.who.ID, listed, action)
			}
		}
	}
}

func TestAnonymousByItselfKnowsNobody(t *testing.T) {
	t.Parallel()
	q := authz.Question{Who: authz.Identity{ID: "alice"}, Want: []authz.Access{{Action: authz.Push}}}
	if _, err := authz.AnonymousPull.Authorize(t.Context(), q); !refused(err) {
		t.Errorf("alice may push: %v", err)
	}
}

func TestAllThatIsWantedOrNothing(t *testing.T) {
	t.Parallel()
	mount := []authz.Access{
		{Action: authz.Pull, Repository: name(t, "from")},
		{Action: authz.Push, Repository: name(t, "to")},
	}
	for _, want := range [][]authz.Access{mount, {mount[1], mount[0]}} {
		q := authz.Question{Want: want}
		if answer, err := authz.AnonymousPull.Authorize(t.Context(), q); !refused(err) || answer.Overwrite {
			t.Errorf("a mount is %v, %v", answer, err)
		}
		if listed := slices.Collect(authz.AnonymousPull.Filter(t.Context(), q, slices.Values(names(t, "a")))); len(listed) > 0 {
			t.Errorf("%v may be pulled and pushed", listed)
		}
	}
	if _, err := authz.AnonymousNone.Authorize(t.Context(), authz.Question{}); err != nil {
		t.Errorf("nothing is wanted: %v", err)
	}
}

func TestARefusalNamesTheOption(t *testing.T) {
	t.Parallel()
	for action, option := range map[authz.Action]string{
		authz.Pull: "'anonymous pull'", authz.List: "'anonymous pull'", authz.Push: "'anonymous all'",
		authz.Overwrite: "'anonymous all'", authz.Delete: "'anonymous all'",
	} {
		_, err := authz.AnonymousNone.Authorize(t.Context(), authz.Question{Want: []authz.Access{{Action: action}}})
		if err == nil || !strings.Contains(err.Error(), option) || !strings.Contains(err.Error(), string(action)) {
			t.Errorf("%s: %v doesn't name %s", action, err, option)
		}
	}
}

func TestParseAnonymous(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]authz.Anonymous{
		"": authz.AnonymousPull, "none": authz.AnonymousNone, "pull": authz.AnonymousPull, "all": authz.AnonymousAll,
	} {
		if got, err := authz.ParseAnonymous(s); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"yes", "None", "push", " pull", "all\n"} {
		if got, err := authz.ParseAnonymous(s); err == nil || got != "" || !strings.Contains(err.Error(), "none, pull or all") {
			t.Errorf("%q is %q, %v", s, got, err)
		}
	}
}

// byName grants what its name says, and counts how often it's asked.
type byName struct {
	granted []oci.Name
	asked   []authz.Question
}

func (b *byName) Authorize(_ context.Context, q authz.Question) (authz.Answer, error) {
	b.asked = append(b.asked, q)
	for _, w := range q.Want {
		if !slices.Contains(b.granted, w.Repository) {
			return authz.Answer{}, oci.Errorf(oci.Denied, "%s", w.Repository)
		}
	}
	return authz.Answer{}, nil
}

func (b *byName) Filter(ctx context.Context, q authz.Question, all iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	return authz.FilterOneByOne(ctx, b, q, all)
}

func TestFilterOneByOne(t *testing.T) {
	t.Parallel()
	all := names(t, "d", "a", "c", "b", "a/b")
	b := &byName{granted: names(t, "a", "b", "d")}
	q := authz.Question{
		Who: authz.Identity{ID: "alice"}, Client: netip.MustParseAddr("192.0.2.1"),
		Want: []authz.Access{{Action: authz.List}, {Action: authz.Pull, Repository: name(t, "ignored")}},
	}
	got := slices.Collect(b.Filter(t.Context(), q, slices.Values(all)))
	if want := names(t, "d", "a", "b"); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i, asked := range b.asked {
		if asked.Who.ID != "alice" || asked.Client != q.Client || len(asked.Want) != 2 {
			t.Fatalf("asked %+v", asked)
		}
		for j, w := range asked.Want {
			if w.Action != q.Want[j].Action || i == len(all)-1 && w.Repository != all[i] {
				t.Fatalf("question %d wants %+v", i, asked.Want)
			}
		}
	}
	if q.Want[1].Repository != name(t, "ignored") {
		t.Fatal("the question was changed")
	}
}

func TestFilterOneByOneStops(t *testing.T) {
	t.Parallel()
	b := &byName{granted: names(t, "a", "b", "c")}
	q := authz.Question{Want: []authz.Access{{Action: authz.Pull}}}
	for n := range b.Filter(t.Context(), q, slices.Values(names(t, "x", "a", "b", "c"))) {
		if n != name(t, "a") {
			t.Fatalf("the first is %s", n)
		}
		break
	}
	if len(b.asked) != 2 {
		t.Fatalf("asked %d times, want 2", len(b.asked))
	}
}

// undecided can't decide, which grants nothing.
type undecided struct{ byName }

func (*undecided) Authorize(context.Context, authz.Question) (authz.Answer, error) {
	return authz.Answer{}, fmt.Errorf("the directory is away")
}

func TestWithoutADecisionNothingIsShown(t *testing.T) {
	t.Parallel()
	got := slices.Collect(authz.FilterOneByOne(t.Context(), &undecided{}, authz.Question{}, slices.Values(names(t, "a"))))
	if len(got) > 0 {
		t.Fatalf("%v is shown", got)
	}
}

func TestIsAnonymous(t *testing.T) {
	t.Parallel()
	if !(authz.Identity{}).IsAnonymous() || !(authz.Identity{Provider: "ldap", Groups: []string{"x"}}).IsAnonymous() {
		t.Error("who has no ID isn't anonymous")
	}
	if (authz.Identity{ID: "alice"}).IsAnonymous() {
		t.Error("alice is anonymous")
	}
}
