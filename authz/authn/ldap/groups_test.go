package ldap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ldapsource "github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

// mustBeIn fails the test unless alice is in these groups, in whatever order.
func mustBeIn(t *testing.T, d *directory, g ldapsource.Groups, want ...string) {
	t.Helper()
	s := open(t, d, func(o *ldapsource.Options) { o.Groups = g })
	want = slices.Sorted(slices.Values(want))
	who, err := s.Lookup(t.Context(), "alice")
	slices.Sort(who.Groups)
	if err != nil || !slices.Equal(who.Groups, want) {
		t.Errorf("%+v: alice is in %q, %v; want %q", g, who.Groups, err, want)
	}
	who, err = login(t, s, "alice", "password of alice")
	slices.Sort(who.Groups)
	if err != nil || !slices.Equal(who.Groups, want) {
		t.Errorf("%+v: alice signs in with %q, %v; want %q", g, who.Groups, err, want)
	}
}

// member makes an entry a member of groups, as memberOf says it.
func (d *directory) member(dn string, groups ...string) {
	d.set(func() {
		if d.entries[dn] == nil {
			d.entries[dn] = map[string][]string{}
		}
		d.entries[dn]["memberOf"] = groups
	})
}

// team makes a group with members.
func (d *directory) team(dn string, members ...string) {
	d.add(dn, map[string][]string{"member": members})
}

func TestGroupsOfTheUser(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	groups := []string{
		"CN=Release," + teams,
		`CN=Smith\, Jones \+ Co,` + teams,
		`cn=a\2cb\5cc\e4\b8\ad,` + teams,
		`ou=no-cn+description=x,` + teams,
		`description=x+cn=two in one,` + teams,
		"cn=Release,ou=elsewhere,dc=example,dc=org",
		`CN=  spaces  ,` + teams,
		`CN=\ spaces\ ,` + teams,
		"plain name",
		"",
	}
	d.member(userDN("alice"), groups...)
	byDN := groups[:len(groups)-1]
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberof"}, byDN...)
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Name: "CN"},
		"Release", "Smith, Jones + Co", `a,b\c中`, groups[3], "two in one", "spaces", " spaces ", "plain name")
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Name: "ou"}, slices.Concat(byDN[:3], []string{"no-cn"}, byDN[4:])...)
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Name: "cn", Base: "OU=Groups,DC=Example,DC=com"},
		"Release", "Smith, Jones + Co", `a,b\c中`, groups[3], "two in one", "spaces", " spaces ")
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Base: "dc=example,dc=org"}, groups[5])
	mustBeIn(t, d, ldapsource.Groups{Attribute: "nothing"})
	mustBeIn(t, d, ldapsource.Groups{})
}

func TestAGroupCountsOnce(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.member(userDN("alice"), "CN=Release, OU=Groups, DC=example, DC=com")
	d.team("cn=release,"+teams, userDN("alice"))
	g := ldapsource.Groups{Attribute: "memberOf", Filter: "(member={dn})", Base: teams, Limit: 1}
	mustBeIn(t, d, g, "CN=Release, OU=Groups, DC=example, DC=com")
}

func TestGroupsBySearch(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.team(`cn=with\, comma (and more*),`+teams, userDN("alice"))
	d.team("cn=others,"+teams, userDN("bob"))
	d.team("cn=elsewhere,"+people, userDN("alice"))
	d.add("cn=posix,"+teams, map[string][]string{"memberUid": {"alice"}})
	mustBeIn(t, d, ldapsource.Groups{Filter: "(member={dn})", Base: teams, Name: "cn"}, "with, comma (and more*)")
	mustBeIn(t, d, ldapsource.Groups{Filter: "(member={dn})", Name: "cn"}, "elsewhere") // below the users' base
	mustBeIn(t, d, ldapsource.Groups{Filter: "(&(memberUid={user})(!(x=*)))", Base: teams}, "cn=posix,"+teams)
	mustBeIn(t, d, ldapsource.Groups{Filter: "(|(member={dn})(memberUid={user}))", Base: base, Name: "cn"}, "with, comma (and more*)", "elsewhere", "posix")
}

// TestTheUsersNameIsNoFilter: the name in a filter is that of the directory, and what
// looks like a placeholder in it is none.
func TestTheUsersNameIsNoFilter(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.addUser("{dn}")
	d.addUser("x)(member=*")
	d.add("cn=posix,"+teams, map[string][]string{"memberUid": {"{dn}", "Alice"}, "member": {userDN("bob")}})
	s := open(t, d, func(o *ldapsource.Options) {
		o.Groups = ldapsource.Groups{Filter: "(memberUid={user})", Base: teams, Name: "cn"}
	})
	for name, want := range map[string]string{"{dn}": "posix", "ALICE": "posix", "x)(member=*": ""} {
		if who, err := s.Lookup(t.Context(), name); err != nil || strings.Join(who.Groups, " ") != want {
			t.Errorf("%s is in %q, %v; want %q", name, who.Groups, err, want)
		}
	}
}

// chain has alice in g1, that in g2 and so on; the last one is in the first.
func chain(d *directory, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`cn=g%d\, and more,%s`, i+1, teams))
	}
	d.member(userDN("alice"), all[0])
	for i, dn := range all {
		of := append([]string{all[(i+n-1)%n]}, userDN("bob"))
		if i == 0 {
			of = append(of, userDN("alice"))
		}
		d.team(dn, of...)
		d.member(dn, all[(i+1)%n])
	}
	return all
}

func TestGroupsInGroups(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	all := chain(d, 6)
	for _, g := range []ldapsource.Groups{
		{Attribute: "memberOf"},
		{Filter: "(member={dn})", Base: teams},
		{Attribute: "memberOf", Filter: "(member={dn})", Base: teams},
	} {
		for depth, want := range map[int]int{0: 1, 1: 2, 4: 5, 5: 6, 6: 6, 16: 6} {
			g.Depth = depth
			mustBeIn(t, d, g, slices.Clone(all[:want])...)
		}
	}
	d.team("cn=itself,"+teams, "cn=itself,"+teams, userDN("alice"))
	mustBeIn(t, d, ldapsource.Groups{Filter: "(member={dn})", Base: teams, Name: "cn", Depth: 16},
		"g1, and more", "g2, and more", "g3, and more", "g4, and more", "g5, and more", "g6, and more", "itself")
}

// TestManyGroupsAtOneLevel has more than one search takes.
func TestManyGroupsAtOneLevel(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	var want []string
	for i := range 70 {
		inner, outer := fmt.Sprintf("cn=i%d,%s", i, teams), fmt.Sprintf("cn=o%d,%s", i, teams)
		d.team(inner, userDN("alice"))
		d.team(outer, inner)
		want = append(want, inner, outer)
	}
	mustBeIn(t, d, ldapsource.Groups{Filter: "(member={dn})", Base: teams, Depth: 1}, want...)
}

// TestGroupsThatAreGone: an attribute may name what isn't there, or no DN at all.
func TestGroupsThatAreGone(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.member(userDN("alice"), "cn=gone,"+teams, "plain name", "cn=there,"+teams)
	d.member("cn=there,"+teams, "cn=outer,"+teams)
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Depth: 3},
		"cn=gone,"+teams, "plain name", "cn=there,"+teams, "cn=outer,"+teams)
}

// TestGroupsElsewhereAreNotFollowed: what doesn't count leads to nothing that does.
func TestGroupsElsewhereAreNotFollowed(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.member(userDN("alice"), "cn=mine,dc=example,dc=com")
	d.member("cn=mine,dc=example,dc=com", "cn=admins,"+teams)
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Depth: 3, Base: teams})
	mustBeIn(t, d, ldapsource.Groups{Attribute: "memberOf", Depth: 3, Base: teams[len("ou=groups,"):], Name: "cn"}, "mine", "admins")
}

// TestGroupsInPieces: Active Directory gives 1500 values at once.
func TestGroupsInPieces(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 4, 5, 8, 9, 20} {
		d := newDirectory(t)
		d.piece = 4
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("cn=g%d,%s", i, teams))
		}
		d.member(userDN("alice"), all...)
		mustBeIn(t, d, ldapsource.Groups{Attribute: "memberof"}, all...)
	}
}

func TestTooManyGroups(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	var all []string
	for i := range 12 {
		dn := fmt.Sprintf("cn=g%d,%s", i, teams)
		all = append(all, dn)
		d.team(dn, userDN("alice"), dn)
		d.member(dn, fmt.Sprintf("cn=h%d,%s", i, teams))
	}
	d.member(userDN("alice"), all...)
	for _, g := range []ldapsource.Groups{
		{Attribute: "memberOf"}, {Filter: "(member={dn})", Base: teams},
	} {
		g.Limit = 12
		mustBeIn(t, d, g, all...)
		for _, g.Limit = range []int{1, 5, 11} {
			mustHaveTooMany(t, d, g)
		}
	}
	mustHaveTooMany(t, d, ldapsource.Groups{Attribute: "memberOf", Limit: 23, Depth: 1})
	d.set(func() { d.piece = 2 })
	mustHaveTooMany(t, d, ldapsource.Groups{Attribute: "memberOf", Limit: 4})
	d.set(func() { d.stuck = true })
	mustHaveTooMany(t, d, ldapsource.Groups{Attribute: "memberOf"})
	d.set(func() { d.endless = true })
	mustHaveTooMany(t, d, ldapsource.Groups{Filter: "(member={dn})", Base: teams, Limit: 5})
}

func mustHaveTooMany(t *testing.T, d *directory, g ldapsource.Groups) {
	t.Helper()
	s := open(t, d, func(o *ldapsource.Options) { o.Groups = g })
	_, err := s.Lookup(t.Context(), "alice")
	mustFail(t, fmt.Sprintf("%+v", g), err)
	if err != nil && !strings.Contains(err.Error(), "raise the limit") {
		t.Errorf("%+v: %v doesn't say what to do", g, err)
	}
}

// TestGroupsThatCannotBeHad: somebody without groups isn't somebody whose groups aren't
// known.
func TestGroupsThatCannotBeHad(t *testing.T) {
	t.Parallel()
	for _, g := range []ldapsource.Groups{
		{Filter: "(member={dn})", Base: "ou=missing," + base},
		{Attribute: "memberOf", Depth: 1},
	} {
		d := newDirectory(t)
		d.member(userDN("alice"), "cn=g,"+teams)
		d.fault = func(r request) fault {
			if r.op == "search" && r.dn == "cn=g,"+teams {
				return hangUp
			}
			return none
		}
		s := open(t, d, func(o *ldapsource.Options) { o.Groups = g })
		_, err := login(t, s, "alice", "password of alice")
		mustFail(t, fmt.Sprintf("%+v", g), err)
	}
}
