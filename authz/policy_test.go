package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

func jsonField(t *testing.T, v any, field string) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	return fields[field]
}

// config reads a Config of rules as a Caddyfile would have them, and of the options
// that a policy has beside that.
func config(t *testing.T, lines ...string) authz.Config {
	t.Helper()
	var c authz.Config
	for _, line := range lines {
		f := strings.Fields(line)
		to := slices.Index(f, "to")
		switch f[0] {
		case "allow":
			c.Rules = append(c.Rules, authz.Rule{Allow: list(f[1 : to-1]), Repositories: f[to-1], To: f[to+1:]})
		case "admin":
			c.Admins = append(c.Admins, authz.Admin{Allow: list(f[1:to]), To: f[to+1:]})
		case "admin_overwrites":
			c.Admins = append(c.Admins, authz.Admin{Allow: list(f[1:to]), To: f[to+1:], IgnoreNoOverwrite: true})
		case "no_overwrite":
			c.NoOverwrite = append(c.NoOverwrite, authz.NoOverwrite{Tags: f[1:]})
		case "no_overwrite_in":
			c.NoOverwrite = append(c.NoOverwrite, authz.NoOverwrite{Repositories: f[1], Tags: f[2:]})
		case "read_only":
			c.ReadOnly = append(c.ReadOnly, f[1:]...)
		case "group":
			if c.Groups == nil {
				c.Groups = map[string][]string{}
			}
			c.Groups[f[1]] = f[2:]
		default:
			t.Fatalf("line %q", line)
		}
	}
	return c
}

func list(words []string) []authz.Action {
	var all []authz.Action
	for _, w := range words {
		all = append(all, authz.Action(w))
	}
	return all
}

func policy(t *testing.T, lines ...string) *authz.Policy {
	t.Helper()
	p, err := authz.New(config(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNamesGroup(t *testing.T) {
	t.Parallel()
	p := policy(t, "allow pull a/** to group:dev alice", "allow push b/** to group:ops", "admin delete to group:root")
	for name, want := range map[string]bool{"dev": true, "ops": true, "root": true, "alice": false, "": false, "group:dev": false} {
		if p.NamesGroup(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	if policy(t).NamesGroup("dev") {
		t.Error("no rule is for somebody")
	}
}

// access is "push team/app v1", "pull team/app" or "list".
func access(t *testing.T, s string) authz.Access {
	t.Helper()
	f := strings.Fields(s)
	a := authz.Access{Action: authz.Action(f[0])}
	if len(f) > 1 {
		a.Repository = name(t, f[1])
	}
	if len(f) > 2 {
		a.Reference = reference(t, f[2])
	}
	return a
}

func ask(t *testing.T, who authz.Identity, accesses ...string) authz.Question {
	t.Helper()
	q := authz.Question{Who: who}
	for _, a := range accesses {
		q.Want = append(q.Want, access(t, a))
	}
	return q
}

func user(id string, groups ...string) authz.Identity { return authz.Identity{ID: id, Groups: groups} }

func TestPolicy(t *testing.T) {
	t.Parallel()
	p := policy(
		t,
		"group release carol dave",
		"allow pull ** to *",
		"allow pull push overwrite delete team-a/** to alice group:release",
		"allow list secret/** to authenticated",
		"allow pull push drop/** to erin",
		"no_overwrite v*",
	)
	nobody := authz.Identity{}
	for _, c := range []struct {
		who  authz.Identity
		want string
		code oci.Code // empty if granted
	}{
		{nobody, "pull lib/x latest", ""},
		{nobody, "list lib/x", ""}, // pull implies it
		{nobody, "push lib/x v1", oci.Denied},
		{nobody, "pull team-a/x latest", oci.Unauthorized},
		{nobody, "list", ""},
		{nobody, "push", oci.Denied},
		{user("alice"), "push team-a/x v1", ""},
		{user("alice"), "delete team-a/x v1", ""},
		{user("alice"), "push lib/x v1", oci.Denied},
		{user("alice"), "list", ""},
		{user("alice"), "push", oci.Denied},
		{user("carol"), "push team-a v1", ""},
		{user("frank", "release"), "push team-a/x v1", ""},
		{user("frank", "Release"), "push team-a/x v1", oci.Denied},
		{user("frank"), "list secret/x", ""},
		{user("frank"), "pull secret/x latest", oci.Denied}, // list isn't pull
		{nobody, "list secret/x", oci.Unauthorized},
		{user("alice"), "fly team-a/x", oci.Denied}, // no such action
	} {
		_, err := p.Authorize(t.Context(), ask(t, c.who, c.want))
		refusal, _ := errors.AsType[*oci.Error](err)
		if c.code == "" && err != nil || c.code != "" && (refusal == nil || refusal.Code != c.code) {
			t.Errorf("%q wants %s: %v, want %s", c.who.ID, c.want, err, c.code)
		}
	}
}

func TestPolicyGrantsAllOrNothing(t *testing.T) {
	t.Parallel()
	p := policy(t, "allow pull from to alice", "allow pull push to/** to alice")
	for _, c := range []struct {
		want    []string
		granted bool
	}{
		{[]string{"push to/a", "pull from"}, true},
		{[]string{"pull from", "push to/a"}, true},
		{[]string{"push to/a", "pull other"}, false},
		{[]string{"pull other", "push to/a"}, false},
		{[]string{"push to/a", "push from"}, false},
		{nil, true},
	} {
		if _, err := p.Authorize(t.Context(), ask(t, user("alice"), c.want...)); (err == nil) != c.granted {
			t.Errorf("%v: %v, want %t", c.want, err, c.granted)
		}
	}
}

func TestPolicyOverwrite(t *testing.T) {
	t.Parallel()
	p := policy(
		t,
		"allow pull push overwrite delete a/** to alice",
		"allow pull push a/** to bob",
		"allow pull push overwrite b/** to alice",
		"admin push overwrite to root",
		"admin_overwrites push overwrite to chief",
		"no_overwrite v* stable",
		"no_overwrite_in b/** latest",
	)
	for _, c := range []struct {
		who       string
		want      []string
		overwrite bool
	}{
		{"alice", []string{"push a/x latest"}, true},
		{"alice", []string{"push a/x v1"}, false},
		{"alice", []string{"push a/x stable"}, false},
		{"alice", []string{"push a/x Stable"}, true}, // tags have a case
		{"alice", []string{"push a/x " + zotDigest}, true},
		{"alice", []string{"push a/x " + zotDigest, "push a/x latest", "push a/x dev"}, true},
		{"alice", []string{"push a/x " + zotDigest, "push a/x latest", "push a/x v1"}, false},
		{"alice", []string{"push a/x"}, false}, // of a tag that isn't known, which may be v1
		{"alice", []string{"push b/x latest"}, false},
		{"alice", []string{"push b/x dev"}, true},
		{"alice", []string{"push b/x v2"}, false},
		{"alice", []string{"pull a/x latest"}, false}, // it isn't a push
		{"alice", []string{"delete a/x v1"}, false},
		{"alice", []string{"push a/x latest", "pull b/x"}, true}, // a mount
		{"bob", []string{"push a/x latest"}, false},
		{"root", []string{"push c/x latest"}, true},
		{"root", []string{"push c/x v1"}, false},
		{"chief", []string{"push c/x v1"}, true},
		{"chief", []string{"push b/x latest"}, true},
	} {
		answer, err := p.Authorize(t.Context(), ask(t, user(c.who), c.want...))
		if err != nil || answer.Overwrite != c.overwrite {
			t.Errorf("%s wants %v: %v, %v; want %t", c.who, c.want, answer, err, c.overwrite)
		}
	}
}

func TestPolicyOverwriteAsked(t *testing.T) {
	t.Parallel()
	p := policy(t, "allow pull push overwrite a/** to alice", "allow pull push a/** to bob", "no_overwrite v*")
	if a, err := p.Authorize(t.Context(), ask(t, user("alice"), "overwrite a/x latest")); err != nil || !a.Overwrite {
		t.Errorf("%v, %v", a, err)
	}
	_, err := p.Authorize(t.Context(), ask(t, user("alice"), "overwrite a/x v1"))
	if !errors.Is(err, oci.Denied) || !strings.Contains(err.Error(), "tags like v* of a/x can't move (no_overwrite v*)") {
		t.Error(err)
	}
	if _, err := p.Authorize(t.Context(), ask(t, user("bob"), "overwrite a/x latest")); !errors.Is(err, oci.Denied) {
		t.Error(err)
	}
}

func TestPolicyReadOnly(t *testing.T) {
	t.Parallel()
	p := policy(
		t, "allow pull push overwrite delete ** to alice", "allow pull old/x to bob",
		"admin pull push overwrite delete to root", "read_only old/** archive",
	)
	for _, who := range []string{"alice", "root"} {
		for want, granted := range map[string]bool{
			"pull old/a": true, "list old/a": true, "push old/a v1": false, "overwrite old/a v1": false, "delete old/a v1": false,
			"push archive v1": false, "push archive/x v1": true, "push older v1": true,
		} {
			_, err := p.Authorize(t.Context(), ask(t, user(who), want))
			if granted && err != nil || !granted && !errors.Is(err, oci.Denied) {
				t.Errorf("%s wants %s: %v, want %t", who, want, err, granted)
			}
			if !granted && !strings.Contains(err.Error(), "is read-only (read_only ") {
				t.Errorf("%v doesn't say why", err)
			}
		}
	}
	// Signing in doesn't help, and who couldn't push anyway isn't told of it.
	for _, who := range []string{"", "bob"} {
		_, err := p.Authorize(t.Context(), ask(t, user(who), "push old/x v1"))
		if !errors.Is(err, oci.Denied) || strings.Contains(err.Error(), "read-only") {
			t.Errorf("%q: %v", who, err)
		}
	}
}

func TestConditionsAreAskedWithAllThereIs(t *testing.T) {
	t.Parallel()
	type key struct{}
	var asked []authz.Case
	spy := spyCondition{func(ctx context.Context, c authz.Case) {
		if ctx.Value(key{}) == nil {
			t.Error("another context")
		}
		asked = append(asked, c)
	}}
	c := config(t, "group dev alice", "group all alice bob", "allow pull push overwrite a/** to group:dev", "admin delete to alice")
	c.Rules[0].Conditions = []authz.Condition{spy}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	groups := append(make([]string, 0, 8), "ldap", "all")
	q := ask(t, user("alice", groups...), "push a/x v1", "pull a/y")
	if _, err := p.Authorize(context.WithValue(t.Context(), key{}, true), q); err != nil {
		t.Fatal(err)
	}
	want := []authz.Access{access(t, "push a/x v1"), access(t, "pull a/y"), access(t, "overwrite a/x v1")}
	if len(asked) != len(want) {
		t.Fatalf("asked %d times, want %d", len(asked), len(want))
	}
	for i, c := range asked {
		if c.Access != want[i] || !c.Admin || !slices.Equal(c.Question.Who.Groups, []string{"ldap", "all", "dev"}) {
			t.Errorf("asked %+v, want %v", c, want[i])
		}
	}
	if groups[:3][2] != "" || !slices.Equal(q.Who.Groups, []string{"ldap", "all"}) {
		t.Error("the question was changed")
	}
	if _, err := p.Authorize(context.WithValue(t.Context(), key{}, true), ask(t, user("bob", "dev"), "pull a/y")); err != nil {
		t.Fatal(err)
	}
	if last := asked[len(asked)-1]; last.Admin {
		t.Error("bob is an admin")
	}
}

type spyCondition struct {
	spy func(context.Context, authz.Case)
}

func (c spyCondition) Met(ctx context.Context, asked authz.Case) (bool, error) {
	c.spy(ctx, asked)
	return true, nil
}

func (spyCondition) Message() string { return "" }

func TestConfigAsJSON(t *testing.T) {
	t.Parallel()
	const text = `{
		"rules": [{"allow": ["pull", "push"], "repositories": "team/**", "to": ["alice", "group:dev"]}],
		"admins": [{"allow": ["delete"], "to": ["root"], "ignore_no_overwrite": true}],
		"no_overwrite": [{"tags": ["v*"], "repositories": "team/**"}, {"tags": ["stable"]}],
		"read_only": ["old/**"],
		"groups": {"dev": ["bob"]}
	}`
	var c authz.Config
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Authorize(t.Context(), ask(t, user("bob"), "push team/x v1")); err != nil {
		t.Error(err)
	}
	out, err := json.Marshal(authz.Config{})
	if err != nil || string(out) != "{}" {
		t.Errorf("an empty Config is %s, %v", out, err)
	}
}
