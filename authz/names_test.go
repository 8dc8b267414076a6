package authz_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// TestNames: groups of a directory have spaces and commas in their names, which a list
// that was mistyped has around them.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"Domain Admins": true, "cn=Release Team,ou=groups,dc=example": true, "a, b": true, "jürgen": true, "R&D / Köln": true,
		" a": false, "a ": false, ",a": false, "a,": false, "a, ": false, "a\tb": false, "a\nb": false, "a\x00": false, "a\u0085b": false,
		"\u00a0a": false, "a\u3000": false, " ": false, ",": false, "": false,
	} {
		for _, c := range []authz.Config{
			{Rules: []authz.Rule{{Allow: []authz.Action{authz.Pull}, Repositories: "a", To: []string{name}}}},
			{Rules: []authz.Rule{{Allow: []authz.Action{authz.Pull}, Repositories: "a", To: []string{"group:" + name}}}},
			{Admins: []authz.Admin{{Allow: []authz.Action{authz.Pull}, To: []string{"group:" + name}}}},
			{Groups: map[string][]string{name: {"alice"}}},
			{Groups: map[string][]string{"dev": {name}}},
		} {
			_, err := authz.New(c)
			if (err == nil) != ok {
				t.Errorf("%q in %+v: %v", name, c, err)
			}
			if err != nil && !strings.Contains(err.Error(), "no proper name") && !strings.Contains(err.Error(), "name of a user") && !strings.Contains(err.Error(), "names nobody") {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

// TestGroupWithSpaces: such a group is one name and not several, and an explanation
// shows it as it's written.
func TestGroupWithSpaces(t *testing.T) {
	t.Parallel()
	const group = "cn=Release Team,ou=groups"
	p, err := authz.New(authz.Config{
		Rules:  []authz.Rule{{Allow: []authz.Action{authz.Pull}, Repositories: "a", To: []string{"group:" + group, "bob"}}},
		Groups: map[string][]string{group: {"Jane Doe"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name, err := oci.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who authz.Identity
		ok  bool
	}{
		{authz.Identity{ID: "carol", Provider: "ldap", Groups: []string{group}}, true},
		{authz.Identity{ID: "Jane Doe", Provider: "file"}, true},
		{authz.Identity{ID: "Jane", Provider: "file"}, false},
		{authz.Identity{ID: "carol", Provider: "ldap", Groups: []string{"cn=Release", "Team"}}, false},
	} {
		q := authz.Question{Who: c.who, Want: []authz.Access{{Repository: name, Action: authz.Pull}}}
		if _, err := p.Authorize(t.Context(), q); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.who, err)
		}
		text := p.Explain(t.Context(), q).String()
		if !strings.Contains(text, `to "group:cn=Release Team,ou=groups" bob`) && slices.Contains(c.who.Groups, group) {
			t.Errorf("the explanation is %s", text)
		}
	}
}
