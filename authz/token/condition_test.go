package token_test

import (
	"context"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/oci"
)

// never is a condition that the request for a token doesn't meet.
type never struct{}

func (never) Met(context.Context, authz.Case) (bool, error) { return false, nil }
func (never) Message() string                               { return "not now" }

// TestConditionsAreAskedAtUse: a token is for what a rule allows under a condition, which
// is about the request that the token is used for; what no rule allows it isn't for.
func TestConditionsAreAskedAtUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	policy, err := authz.New(authz.Config{Rules: []authz.Rule{
		{Allow: []authz.Action{authz.Pull}, Repositories: "app", To: []string{"*"}},
		{Allow: []authz.Action{authz.Push}, Repositories: "app", To: []string{"alice"}, Conditions: []authz.Condition{never{}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.opts.Authorizer = policy
	s := w.replica()
	app, err := oci.ParseName("app")
	if err != nil {
		t.Fatal(err)
	}
	who := w.accepted(s, w.get(s, "alice:secret", "repository:app:pull,push,delete").Token)
	for action, want := range map[authz.Action]bool{authz.Pull: true, authz.Push: true, authz.Delete: false} {
		if got := who.WithinLimit(authz.Access{Action: action, Repository: app}); got != want {
			t.Errorf("%s: %t, want %t", action, got, want)
		}
	}
}
