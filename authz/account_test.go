package authz_test

import (
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
)

// Who is named with a provider is nobody of that name whom another one knows.
func TestAccounts(t *testing.T) {
	t.Parallel()
	p := policy(t,
		"allow pull a to user@ldap:alice", "allow pull b to group@ldap:ops", "allow pull c to group:dev",
		"allow pull d to user@upstream:alice", "allow pull e to user:user@ldap:alice", "allow pull f to user@example.com",
		"allow pull g to alice", "group dev user@ldap:alice bob user:carol user:user@x:y", "admin delete to user@ldap:root")
	for _, tc := range []struct {
		who  authz.Identity
		may  string
		root bool
	}{
		{authz.Identity{ID: "alice", Provider: "ldap"}, "acg", false},
		{authz.Identity{ID: "alice", Provider: "file"}, "g", false},
		{authz.Identity{ID: "alice"}, "dg", false},
		{authz.Identity{ID: "x", Provider: "ldap", Groups: []string{"ops"}}, "b", false},
		{authz.Identity{ID: "x", Provider: "file", Groups: []string{"ops"}}, "", false},
		{authz.Identity{ID: "ops", Provider: "ldap", Groups: []string{"alice"}}, "", false},
		{authz.Identity{ID: "bob", Provider: "file"}, "c", false},
		{authz.Identity{ID: "carol", Provider: "file"}, "c", false},
		{authz.Identity{ID: "user:carol", Provider: "file"}, "", false},
		{authz.Identity{ID: "user@x:y", Provider: "file"}, "c", false},
		{authz.Identity{ID: "y", Provider: "x"}, "", false},
		{authz.Identity{ID: "user@ldap:alice", Provider: "file"}, "e", false},
		{authz.Identity{ID: "user@example.com", Provider: "file"}, "f", false},
		{authz.Identity{ID: "ldap\x00alice", Provider: "file"}, "", false},
		{authz.Identity{Provider: "ldap"}, "", false},
		{authz.Identity{ID: "root", Provider: "ldap"}, "", true},
		{authz.Identity{ID: "root", Provider: "file"}, "", false},
	} {
		for _, repository := range "abcdefg" {
			q := ask(t, tc.who, "pull "+string(repository))
			_, err := p.Authorize(t.Context(), q)
			if want := strings.ContainsRune(tc.may, repository); (err == nil) != want {
				t.Errorf("%+v pulls %c: %v", tc.who, repository, err)
			}
			if granted := p.Explain(t.Context(), q).Accesses[0]; granted.Granted != (err == nil) || granted.Tried[0].Allows != (err == nil) {
				t.Errorf("%+v pulls %c: explained as %+v", tc.who, repository, granted)
			}
		}
		if _, err := p.Authorize(t.Context(), ask(t, tc.who, "delete a")); (err == nil) != tc.root {
			t.Errorf("%+v deletes: %v", tc.who, err)
		}
	}
	for name, want := range map[string]bool{"ops": true, "dev": true, "alice": false} {
		if p.NamesGroup(name) != want {
			t.Errorf("group %q: %t", name, !want)
		}
	}
}

func TestExplainAccounts(t *testing.T) {
	t.Parallel()
	p := policy(t, "allow pull a to user@ldap:alice", "group dev user@ldap:alice")
	e := p.Explain(t.Context(), ask(t, authz.Identity{ID: "alice", Provider: "file"}, "pull a"))
	if tried := e.Accesses[0].Tried[0]; tried.Because != "it names user@ldap:alice, and who asks is known by another provider" ||
		tried.Rule != "rule 1: allow pull a to user@ldap:alice" || len(e.Groups) > 0 {
		t.Errorf("explained as %+v", e)
	}
	e = p.Explain(t.Context(), ask(t, authz.Identity{ID: "alice", Provider: "ldap"}, "pull a"))
	if !e.Granted || len(e.Groups) != 1 {
		t.Errorf("explained as %+v", e)
	}
}

func TestParseUser(t *testing.T) {
	t.Parallel()
	for who, want := range map[string]authz.Identity{
		"alice": {ID: "alice"}, "user:a@b": {ID: "a@b"}, "user@ldap:alice": {ID: "alice", Provider: "ldap"},
		"user@upstream:system:x": {ID: "system:x"}, "group@ldap:x": {ID: "group@ldap:x"}, "user@ex.org:8080": {ID: "user@ex.org:8080"},
	} {
		if got := authz.ParseUser(who); got.ID != want.ID || got.Provider != want.Provider {
			t.Errorf("%s is %+v", who, got)
		}
	}
}

// A name that several providers can give is warned of once, and a provider that isn't
// there each time.
func TestLintAccounts(t *testing.T) {
	t.Parallel()
	c := config(t, "allow pull a to alice", "allow pull b to bob", "allow pull c to user@lpad:carol group@ldap:x user@upstream:y", "group dev user@lpad:bob",
		"allow pull d to group:dev")
	found := make(map[string]string)
	for _, f := range authz.Lint(c, authz.Known{Open: true, Providers: []string{"htpasswd", "ldap"}}) {
		found[f.Where] += f.Problem + "; " + f.Fix + "\n"
	}
	want := map[string]string{
		"rule 1 (allow pull a to alice)":                                        `alice is whoever is called that by any provider (htpasswd, ldap); write "user@htpasswd:alice" if it's one of them, here and in other rules` + "\n",
		"rule 3 (allow pull c to user@lpad:carol group@ldap:x user@upstream:y)": `there's no provider "lpad", so user@lpad:carol is nobody; the providers are htpasswd, ldap` + "\n",
		"group dev": `there's no provider "lpad", so user@lpad:bob is nobody; the providers are htpasswd, ldap` + "\n",
	}
	for where, text := range want {
		if found[where] != text {
			t.Errorf("%s: %q, want %q", where, found[where], text)
		}
	}
	if len(found) != len(want) {
		t.Errorf("found %q", found)
	}
	for _, providers := range [][]string{nil, {"ldap"}} {
		if f := authz.Lint(config(t, "allow pull a to alice"), authz.Known{Providers: providers}); len(f) > 0 {
			t.Errorf("providers %q: %v", providers, f)
		}
	}
}

// What a rule for one provider's users may do is compared with what others allow.
func TestLintComparesAccounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lines string
		want  string
	}{
		{"allow pull push a to user@ldap:alice", ""},
		{"allow push a to user@ldap:alice,allow pull a to alice", ""},
		{"allow push a to user@ldap:alice,allow pull a to user@ldap:alice", ""},
		{"allow push a to user@ldap:alice,allow pull a to user@file:alice", "allows push without pull"},
		{"allow push a to alice,allow pull a to user@file:alice", "allows push without pull"},
		{"allow push a to group@ldap:x,allow pull a to group:x", ""},
		{"allow push a to group@ldap:x,allow pull a to x", "allows push without pull"},
		{"allow push pull a to user@ldap:alice,allow pull a to user@ldap:alice bob", ""},
		{"allow push pull a to user@ldap:alice,allow pull a to user@ldap:alice", "allows nothing that"},
	} {
		found := authz.Lint(config(t, strings.Split(tc.lines, ",")...), authz.Known{Open: true})
		if tc.want == "" && len(found) > 0 || tc.want != "" && (len(found) != 1 || !strings.Contains(found[0].Problem, tc.want)) {
			t.Errorf("%s: %v, want %q", tc.lines, found, tc.want)
		}
	}
}

func TestAccountsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, c := range []authz.Config{
		{Rules: []authz.Rule{{Allow: []authz.Action{authz.Pull}, Repositories: "a", To: []string{"user@ldap:"}}}},
		{Rules: []authz.Rule{{Allow: []authz.Action{authz.Pull}, Repositories: "a", To: []string{"group@ldap: x"}}}},
		{Groups: map[string][]string{"dev": {"user@ldap:"}}},
		{Groups: map[string][]string{"dev": {"group@ldap:x"}}},
	} {
		if _, err := authz.New(c); err == nil {
			t.Errorf("%+v compiles", c)
		}
	}
}
