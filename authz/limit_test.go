package authz_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

func scope(repositories string, actions ...authz.Action) authz.Scope {
	return authz.Scope{Repositories: repositories, Actions: actions}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scope    authz.Scope
		want     string
		included bool
	}{
		{scope("a", authz.Pull), "pull a", true},
		{scope("a", authz.Pull), "list a", true},
		{scope("a", authz.List), "pull a", false},
		{scope("a", authz.Pull), "push a", false},
		{scope("a", authz.Pull), "pull b", false},
		{scope("a", authz.Pull, authz.Push), "push a v1", true},
		{scope("a", authz.Push), "overwrite a v1", false},
		{scope("a/*", authz.Pull), "pull a/b", true},
		{scope("a/*", authz.Pull), "pull a/b/c", false},
		{scope("a/**", authz.Pull), "pull a", true},
		{scope("{a,b}/**", authz.Pull), "pull b/x", true},
		{scope("[ab]", authz.Pull), "pull b", true},
		{scope("[ab", authz.Pull), "pull a", false}, // malformed
		{scope("a}", authz.Pull), "pull a", false},
		{scope("", authz.Pull), "pull a", false},
		{scope("**", authz.Push), "push", true},
		{scope("*", authz.Push), "push", false}, // of no repository
		{scope("**", authz.Pull), "push", false},
	} {
		if got := c.scope.Includes(access(t, c.want)); got != c.included {
			t.Errorf("%v includes %s: %t, want %t", c.scope, c.want, got, c.included)
		}
	}
}

// TestLimits: whoever authorizes, nothing beyond the limit is granted or shown.
func TestLimits(t *testing.T) {
	t.Parallel()
	open := policy(t, "allow pull push overwrite delete ** to *")
	all := names(t, "a", "b", "c/d")
	for _, a := range []authz.Authorizer{open, authz.Authenticated{Else: authz.AnonymousNone}, authz.AnonymousAll} {
		for _, c := range []struct {
			limit     []authz.Scope
			want      string
			granted   bool
			overwrite bool
		}{
			{nil, "push a v1", true, true},
			{[]authz.Scope{}, "pull a", false, false},
			{[]authz.Scope{}, "list", true, false},
			{[]authz.Scope{scope("a", authz.Pull)}, "pull a", true, false},
			{[]authz.Scope{scope("a", authz.Pull)}, "pull b", false, false},
			{[]authz.Scope{scope("a", authz.Pull)}, "push a v1", false, false},
			{[]authz.Scope{scope("b", authz.Push), scope("a", authz.Push)}, "push a v1", true, false},
			{[]authz.Scope{scope("a", authz.Push, authz.Overwrite)}, "push a v1", true, true},
			{[]authz.Scope{scope("a", authz.Push), scope("b", authz.Overwrite)}, "push a v1", true, false},
		} {
			q := ask(t, authz.Identity{ID: "alice", Limit: c.limit}, c.want)
			answer, err := a.Authorize(t.Context(), q)
			if (err == nil) != c.granted {
				t.Errorf("%T: %v wants %s: %v, want %t", a, c.limit, c.want, err, c.granted)
			}
			if err != nil && (!errors.Is(err, authz.ErrLimit) || !errors.Is(err, oci.Denied)) {
				t.Errorf("%T: %v isn't ErrLimit", a, err)
			}
			if q.Want[0].Action == authz.Push && answer.Overwrite != c.overwrite {
				t.Errorf("%T: %v may overwrite: %t, want %t", a, c.limit, answer.Overwrite, c.overwrite)
			}
		}
		q := ask(t, authz.Identity{ID: "alice", Limit: []authz.Scope{scope("{a,c/*}", authz.Pull)}}, "list")
		if got := slices.Collect(a.Filter(t.Context(), q, slices.Values(all))); !slices.Equal(got, names(t, "a", "c/d")) {
			t.Errorf("%T: %v is shown", a, got)
		}
	}
}

// TestLimitsOfAnonymousCallers: a token of nobody's may be of too few scopes, and
// another helps.
func TestLimitsOfAnonymousCallers(t *testing.T) {
	t.Parallel()
	limit := []authz.Scope{scope("a", authz.Pull)}
	for _, a := range []authz.Authorizer{
		policy(t, "allow pull ** to *"), authz.Authenticated{Else: authz.AnonymousPull},
	} {
		if _, err := a.Authorize(t.Context(), ask(t, authz.Identity{Limit: limit}, "pull a")); err != nil {
			t.Errorf("%T: %v", a, err)
		}
		_, err := a.Authorize(t.Context(), ask(t, authz.Identity{Limit: limit}, "pull b"))
		if !errors.Is(err, oci.Unauthorized) || !errors.Is(err, authz.ErrLimit) {
			t.Errorf("%T: %v", a, err)
		}
	}
}
