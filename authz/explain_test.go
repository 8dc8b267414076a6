package authz_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
)

func explainedPolicy(t *testing.T) *authz.Policy {
	t.Helper()
	c := config(
		t, "allow pull ** to *", "allow pull push overwrite team/** to group:dev", "allow delete team/** to alice",
		"allow pull team/old/** to alice", "allow pull push team/frozen/** to alice",
		"admin delete to root", "group dev alice", "no_overwrite v*", "read_only team/frozen/**",
	)
	c.Rules[2].Conditions = []authz.Condition{holds(false, "not on Fridays")}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExplain(t *testing.T) {
	t.Parallel()
	p := explainedPolicy(t)
	limited := user("alice")
	limited.Limit = []authz.Scope{scope("team/a", authz.Pull)}
	for _, c := range []struct {
		who  authz.Identity
		want string
		text string
	}{
		{user("alice"), "push team/a latest", `allowed to alice (groups: dev)
push of team/a latest: yes, since rule 2 allows it
  the longest pattern that matches counts: team/**
  shorter ones that match don't: **
  rule 2: allow pull push overwrite team/** to group:dev: allows it
  rule 3: allow delete team/** to alice: it doesn't allow push
  admin rule 1: admin delete to root: it doesn't name who asks
  a tag that names something else may move: yes
`},
		{user("alice"), "delete team/a latest", `refused to alice (groups: dev): requested access to the resource is denied: team/a: of the policy only the rules for team/** count here, which have no 'allow delete' for alice: not on Fridays
delete of team/a latest: no, since no rule for team/** allows it, which alone count here, and no admin rule does
  the longest pattern that matches counts: team/**
  shorter ones that match don't: **
  rule 2: allow pull push overwrite team/** to group:dev: it doesn't allow delete
  rule 3: allow delete team/** to alice: its condition "not on Fridays" isn't met
  admin rule 1: admin delete to root: it doesn't name who asks
`},
		{user("root"), "delete lib latest", `allowed to root
delete of lib latest: yes, since admin rule 1 allows it
  the longest pattern that matches counts: **
  rule 1: allow pull ** to *: it doesn't allow delete
  admin rule 1: admin delete to root: allows it
`},
		{authz.Identity{}, "pull team/old/x", `refused to an anonymous caller: authentication required: team/old/x: the policy has no 'allow pull' for anonymous callers
pull of team/old/x: no, since no rule for team/old/** allows it, which alone count here, and no admin rule does
  the longest pattern that matches counts: team/old/**
  shorter ones that match don't: team/**, **
  rule 4: allow pull team/old/** to alice: it doesn't name who asks
  admin rule 1: admin delete to root: it doesn't name who asks
`},
		{limited, "push team/a latest", `refused to alice (groups: dev): requested access to the resource is denied: team/a: the scopes of the credential don't include push
push of team/a latest: no, since rule 2 would allow it, but the scopes of the credential don't include it
  the longest pattern that matches counts: team/**
  shorter ones that match don't: **
  rule 2: allow pull push overwrite team/** to group:dev: allows it
  rule 3: allow delete team/** to alice: it doesn't allow push
  admin rule 1: admin delete to root: it doesn't name who asks
`},
	} {
		e := p.Explain(t.Context(), ask(t, c.who, c.want))
		if e.String() != c.text {
			t.Errorf("%q wants %s:\n%s\nwant\n%s", c.who.ID, c.want, e, c.text)
		}
	}
}

func TestExplainBecause(t *testing.T) {
	t.Parallel()
	p := explainedPolicy(t)
	private := policy(t, "allow pull a to alice")
	both := policy(t, "allow delete a to root", "admin delete to root")
	for _, c := range []struct {
		p       *authz.Policy
		who     string
		want    string
		because string
	}{
		{p, "alice", "push team/frozen/x v1", "rule 5 would allow it, but the repository is read-only: read_only team/frozen/**"},
		{p, "alice", "overwrite team/a v1", "rule 2 would allow it, but the tag can't move: no_overwrite v*"},
		{p, "alice", "fly team/a", "there's no such action"},
		{p, "alice", "list", "who has signed in may ask for lists, and each list shows only what they may see"},
		{p, "", "list", "some rule lets anonymous callers list repositories, and each list shows only what they may see"},
		{private, "", "list", "no rule lets anonymous callers list anything"},
		{p, "alice", "push", "no admin rule allows it, and no other is about the registry as such"},
		{p, "root", "delete", "admin rule 1 allows it"},
		{both, "root", "delete a", "rule 1 allows it"},
		{both, "root", "delete b", "admin rule 1 allows it"},
		{private, "alice", "pull b", "no pattern matches the repository, and no admin rule allows it"},
	} {
		e := c.p.Explain(t.Context(), ask(t, user(c.who), c.want))
		if got := e.Accesses[0].Because; got != c.because {
			t.Errorf("%q wants %s: %s, want %s", c.who, c.want, got, c.because)
		}
	}
}

// explainedJSON is an Explanation as programs get it.
const explainedJSON = `{
	"user": "alice",
	"groups": [
		"dev"
	],
	"granted": false,
	"overwrite": false,
	"code": "DENIED",
	"answer": "requested access to the resource is denied: team/a: of the policy only the rules for team/** count here, which have no 'allow delete' for alice: not on Fridays",
	"accesses": [
		{
			"action": "push",
			"repository": "team/a",
			"reference": "v1",
			"granted": true,
			"because": "rule 2 allows it",
			"pattern": "team/**",
			"lost": [
				"**"
			],
			"rule": "rule 2: allow pull push overwrite team/** to group:dev",
			"tried": [
				{
					"rule": "rule 2: allow pull push overwrite team/** to group:dev",
					"allows": true
				},
				{
					"rule": "rule 3: allow delete team/** to alice",
					"allows": false,
					"because": "it doesn't allow push"
				},
				{
					"rule": "admin rule 1: admin delete to root",
					"allows": false,
					"because": "it doesn't name who asks"
				}
			]
		},
		{
			"action": "delete",
			"repository": "team/a",
			"reference": "v1",
			"granted": false,
			"because": "no rule for team/** allows it, which alone count here, and no admin rule does",
			"pattern": "team/**",
			"lost": [
				"**"
			],
			"tried": [
				{
					"rule": "rule 2: allow pull push overwrite team/** to group:dev",
					"allows": false,
					"because": "it doesn't allow delete"
				},
				{
					"rule": "rule 3: allow delete team/** to alice",
					"allows": false,
					"because": "its condition \"not on Fridays\" isn't met"
				},
				{
					"rule": "admin rule 1: admin delete to root",
					"allows": false,
					"because": "it doesn't name who asks"
				}
			]
		}
	]
}`

func TestExplainAsJSON(t *testing.T) {
	t.Parallel()
	e := explainedPolicy(t).Explain(t.Context(), ask(t, user("alice"), "push team/a v1", "delete team/a v1"))
	got, err := json.MarshalIndent(e, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != explainedJSON {
		t.Errorf("%s", got)
	}
}

func TestExplainConditions(t *testing.T) {
	t.Parallel()
	c := config(t, "allow pull a to alice", "allow pull a to alice")
	c.Rules[0].Conditions = []authz.Condition{yes, broken}
	c.Rules[1].Conditions = []authz.Condition{named{no}}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	var because []string
	for _, tried := range p.Explain(t.Context(), ask(t, user("alice"), "pull a")).Accesses[0].Tried {
		because = append(because, tried.Because)
	}
	want := []string{`its condition "a message" couldn't be asked: broken`, "its condition req.x isn't met"}
	if !slices.Equal(because, want) {
		t.Errorf("%q, want %q", because, want)
	}
}

type named struct{ authz.Condition }

func (named) String() string { return "req.x" }

func TestExplainLeavesOutManyRules(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 30 {
		lines = append(lines, "allow pull a to user"+strings.Repeat("x", i))
	}
	lines = append(lines, "allow pull a to alice")
	e := policy(t, lines...).Explain(t.Context(), ask(t, user("alice"), "pull a"))
	text := e.String()
	if len(e.Accesses[0].Tried) != 31 || strings.Count(text, "it doesn't name who asks") != 20 ||
		!strings.Contains(text, "rule 31: allow pull a to alice: allows it\n") ||
		!strings.Contains(text, "and 10 rules more that don't allow it\n") {
		t.Errorf("%s", text)
	}
}
