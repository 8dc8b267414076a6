package authz_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// TestRefusalsTellNothing: who may neither pull nor list a repository is told the same
// of one that rules are written for as of one that nobody has heard of, but for the
// name that was asked for.
func TestRefusalsTellNothing(t *testing.T) {
	t.Parallel()
	c := config(
		t, "allow pull push ** to alice", "allow pull push merger-with-x/** to alice", "allow push inbox/** to bob",
		"read_only merger-with-x/old", "no_overwrite_in merger-with-x/** v*",
	)
	c.Rules[1].Conditions = []authz.Condition{holds(false, "the merger isn't public")}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []authz.Identity{{}, user("bob")} {
		for _, action := range []string{"pull", "list", "push", "overwrite", "delete"} {
			var texts []string
			for _, repository := range []string{"merger-with-x/secret", "merger-with-x/old", "nothing/here"} {
				_, err := p.Authorize(t.Context(), ask(t, who, action+" "+repository+" v1"))
				refusal, ok := errors.AsType[*oci.Error](err)
				if !ok || refusal.Detail != nil {
					t.Fatalf("%q wants to %s %s: %v, %v", who.ID, action, repository, err, refusal)
				}
				text := strings.ReplaceAll(err.Error(), repository, "NAME")
				if strings.Contains(text, "merger") {
					t.Errorf("%q is told %q", who.ID, err)
				}
				texts = append(texts, text)
			}
			if who.ID == "bob" && (texts[0] != texts[1] || texts[1] != texts[2]) {
				t.Errorf("%q wants to %s: told different things: %q", who.ID, action, texts)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := config(
		t, "allow pull team/** to alice *", "allow push office/** to alice", "allow pull push delete x/** to alice",
	)
	c.Rules[1].Conditions = []authz.Condition{holds(false, "only from the office")}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	limited := user("alice")
	limited.Limit = []authz.Scope{{Repositories: "x/a", Actions: []authz.Action{authz.Pull}}}
	for _, c := range []struct {
		who     authz.Identity
		want    string
		text    string
		pattern string
	}{
		{user("bob"), "pull x/a", "requested access to the resource is denied: x/a: the policy has no 'allow pull' for bob", "x/**"},
		{user("bob"), "pull y", "requested access to the resource is denied: y: the policy has no 'allow pull' for bob", ""},
		{authz.Identity{}, "pull x/a", "authentication required: x/a: the policy has no 'allow pull' for anonymous callers", "x/**"},
		{authz.Identity{}, "push", "requested access to the resource is denied: the registry: the policy has no 'allow push' for anonymous callers", ""},
		// Who may pull may know more.
		{
			user("bob"), "push team/a v1",
			"requested access to the resource is denied: team/a: of the policy only the rules for team/** count here, which have no 'allow push' for bob", "team/**",
		},
		// Whom a rule names is told what it's bound to.
		{
			user("alice"), "push office/a v1",
			"requested access to the resource is denied: office/a: the policy has no 'allow push' for alice: only from the office", "office/**",
		},
		{limited, "push x/a v1", "requested access to the resource is denied: x/a: the scopes of the credential don't include push", "x/**"},
		{limited, "pull x/b", "requested access to the resource is denied: x/b: the scopes of the credential don't include pull", "x/**"},
		// That a token with more scopes wouldn't help either is said first.
		{limited, "push team/a v1", "requested access to the resource is denied: team/a: the policy has no 'allow push' for alice", "team/**"},
	} {
		_, err := p.Authorize(t.Context(), ask(t, c.who, c.want))
		if err == nil || err.Error() != c.text {
			t.Errorf("%q wants %s:\n%v\nwant\n%s", c.who.ID, c.want, err, c.text)
		}
		refusal, ok := errors.AsType[*authz.Refusal](err)
		if !ok || refusal.Access != access(t, c.want) || refusal.Pattern != c.pattern {
			t.Errorf("%q wants %s: the cause is %+v", c.who.ID, c.want, refusal)
		}
		if errors.Is(err, authz.ErrLimit) != strings.Contains(c.text, "scopes") {
			t.Errorf("%v is ErrLimit: %t", err, errors.Is(err, authz.ErrLimit))
		}
	}
}

func TestARefusalHasWhatBrokeForTheLog(t *testing.T) {
	t.Parallel()
	c := config(t, "allow pull a to alice")
	c.Rules[0].Conditions = []authz.Condition{broken}
	p, err := authz.New(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Authorize(t.Context(), ask(t, user("alice"), "pull a"))
	refusal, ok := errors.AsType[*authz.Refusal](err)
	if !ok || refusal.Err == nil || refusal.Err.Error() != `the condition "a message" couldn't be asked: broken` {
		t.Fatalf("the cause is %+v", refusal)
	}
	if strings.Contains(err.Error(), "broken") || strings.Contains(err.Error(), "a message") {
		t.Errorf("the client is told %q", err)
	}
}
