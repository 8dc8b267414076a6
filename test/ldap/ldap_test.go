//go:build real

// Package ldap_test checks authz/authn/ldap with a real directory, OpenLDAP's.
package ldap_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/authntest"
	"github.com/caddy-oci/oci-registry/authz/authn/ldap"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const (
	people  = "ou=people," + tool.SlapdBase
	groups  = "ou=groups," + tool.SlapdBase
	service = "cn=registry," + tool.SlapdBase
)

// directory is a server with users, groups and the account that searches.
type directory struct {
	*tool.Slapd

	secret atomic.Pointer[string] // as in a file that's read again and again
}

func newDirectory(t *testing.T) *directory {
	t.Helper()
	d := &directory{Slapd: tool.NewSlapd(t)}
	for _, ou := range []string{"people", "groups"} {
		d.Add("ou="+ou+","+tool.SlapdBase, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	secret := "service secret"
	d.secret.Store(&secret)
	d.Add(service, map[string][]string{
		"objectClass": {"organizationalRole", "simpleSecurityObject"}, "cn": {"registry"}, "userPassword": {secret},
	})
	return d
}

// user adds a user, with the password "password of NAME".
func (d *directory) user(name, dn string) string {
	d.Add(dn, map[string][]string{
		"objectClass": {"inetOrgPerson"}, "cn": {name}, "sn": {name}, "uid": {name}, "userPassword": {"password of " + name},
	})
	return dn
}

// group adds a group, and returns its DN.
func (d *directory) group(name string, members ...string) string {
	dn := "cn=" + goldap.EscapeDN(name) + "," + groups
	d.Add(dn, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {name}, "member": members})
	return dn
}

func uid(name string) string { return "uid=" + goldap.EscapeDN(name) + "," + people }

// open returns a source of the directory's users, over LDAPS.
func (d *directory) open(t *testing.T, changes ...func(*ldap.Options)) *ldap.Source {
	t.Helper()
	opts := ldap.Options{
		URLs: []string{d.Secure}, TLS: d.trusting(t), Base: people, BindDN: service,
		Password: func() (string, error) { return *d.secret.Load(), nil },
	}
	for _, change := range changes {
		change(&opts)
	}
	s, err := ldap.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (d *directory) trusting(t *testing.T) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(d.pem(t)) {
		t.Fatalf("no certificate in %s", d.CA)
	}
	return &tls.Config{RootCAs: pool}
}

func (d *directory) pem(t *testing.T) []byte {
	t.Helper()
	pem, err := os.ReadFile(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

func mustSignIn(t *testing.T, s *ldap.Source, name, password string) {
	t.Helper()
	who, err := s.Authenticate(t.Context(), name, password)
	if err != nil || who.ID != name {
		t.Errorf("%q is %q, %v", name, who.ID, err)
	}
}

func mustBeRefused(t *testing.T, s *ldap.Source, name, password string) {
	t.Helper()
	if who, err := s.Authenticate(t.Context(), name, password); !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
		t.Errorf("%.40q with %.40q is %q, %v; want ErrRefused", name, password, who.ID, err)
	}
}

func TestWaysToConnect(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.user("alice", uid("alice"))
	for what, c := range map[string]struct {
		change func(*ldap.Options)
		well   bool
	}{
		"LDAPS":    {func(o *ldap.Options) {}, true},
		"StartTLS": {func(o *ldap.Options) { o.URLs = []string{d.Plain} }, true},
		"plain":    {func(o *ldap.Options) { o.URLs, o.TLS, o.Plain = []string{d.Plain}, nil, true }, true},
		"one after the other": {func(o *ldap.Options) {
			o.URLs = []string{"ldaps://" + "127.0.0.1:1", d.Plain, d.Secure}
		}, true},
		"LDAPS, unknown authority":    {func(o *ldap.Options) { o.TLS = nil }, false},
		"StartTLS, unknown authority": {func(o *ldap.Options) { o.URLs, o.TLS = []string{d.Plain}, nil }, false},
		"StartTLS, another's name": {func(o *ldap.Options) {
			o.URLs, o.TLS.ServerName = []string{d.Plain}, "directory.example.com"
		}, false},
		"LDAPS where there's none": {func(o *ldap.Options) {
			o.URLs, o.Step = []string{strings.Replace(d.Plain, "ldap:", "ldaps:", 1)}, time.Second
		}, false},
		"nobody listens":    {func(o *ldap.Options) { o.URLs = []string{"ldaps://127.0.0.1:1"} }, false},
		"wrong password":    {func(o *ldap.Options) { o.Password = func() (string, error) { return "wrong", nil } }, false},
		"nobody's search":   {func(o *ldap.Options) { o.BindDN, o.Password = "", nil }, false},
		"a base that isn't": {func(o *ldap.Options) { o.Base = "ou=missing," + people }, false},
	} {
		s := d.open(t, c.change)
		who, err := s.Authenticate(t.Context(), "alice", "password of alice")
		switch {
		case c.well && (err != nil || who.ID != "alice"):
			t.Errorf("%s: %q, %v", what, who.ID, err)
		case !c.well && (err == nil || errors.Is(err, authn.ErrRefused)):
			t.Errorf("%s: %q, %v; want an error that isn't ErrRefused", what, who.ID, err)
		}
		if c.well {
			mustBeRefused(t, s, "alice", "wrong")
			mustBeRefused(t, s, "nobody", "wrong")
			mustBeRefused(t, s, "alice", "")
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.user("alice", uid("alice"))
	authntest.Source(t, d.open(t), authntest.User{Name: "alice", Password: "password of alice", Provider: "ldap"})
}

// TestNames has users sign in whose names and DNs mean something to filters and DNs.
func TestNames(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	names := []string{
		"alice", "O'Brien", "a,b", "a+b=c", `back\slash`, "star*", "(paren)", "#hash", `quo"te`, "semi;colon", "<angle>",
		"*)(uid=*", "Jürgen", "日本", "two words", "user@example.com", `\2a`, "{dn}", "{user}",
	}
	for _, name := range names {
		d.group("of "+name, d.user(name, uid(name)))
	}
	s := d.open(t, func(o *ldap.Options) {
		o.Groups = ldap.Groups{Attribute: "memberOf", Filter: "(member={dn})", Base: groups, Name: "cn"}
	})
	for _, name := range names {
		mustSignIn(t, s, name, "password of "+name)
		if who, err := s.Lookup(t.Context(), strings.ToUpper(name)); err != nil || who.ID != name || !slices.Equal(who.Groups, []string{"of " + name}) {
			t.Errorf("%q is %q in %q, %v", strings.ToUpper(name), who.ID, who.Groups, err)
		}
	}
	for _, name := range []string{
		"*", "al*", "alice*", "alice)(uid=*", "alice)", "*)(objectClass=*", ")(|(uid=*", `alice\`, `\61lice`, " alice", "alice ",
		"alice\n", "alice\x00", "\x00alice", "uid=alice", uid("alice"), "\u202ealice", "a\u200dlice", "alice" + strings.Repeat(" ", 100),
		"\xff", " ", strings.Repeat("a", 256), strings.Repeat("*", 256),
	} {
		mustBeRefused(t, s, name, "password of alice")
		if who, err := s.Lookup(t.Context(), name); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%q is found to be %q, %v", name, who.ID, err)
		}
	}
	for _, password := range []string{
		"", " ", "password of alice ", "password of alice\x00", "PASSWORD OF ALICE", "*", "\x00", strings.Repeat("x", 1024), strings.Repeat("x", 1<<16),
	} {
		mustBeRefused(t, s, "alice", password)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	smith := d.user("smith", `cn=Smith\, John (more*),`+people)
	d.user("jones", uid("jones"))
	inner := d.group(`R&D, "core" + more`, smith)
	middle := d.group("middle", inner)
	outer := d.group("outer", middle, uid("jones"))
	d.Replace(inner, "member", smith, outer) // in a circle
	d.Add("cn=posix,"+groups, map[string][]string{
		"objectClass": {"posixGroup"}, "cn": {"posix"}, "gidNumber": {"1"}, "memberUid": {"smith"},
	})
	first := `R&D, "core" + more`
	for _, c := range []struct {
		groups ldap.Groups
		want   []string
	}{
		{ldap.Groups{Attribute: "memberOf", Name: "cn"}, []string{first}},
		{ldap.Groups{Attribute: "memberOf", Name: "cn", Depth: 1}, []string{first, "middle"}},
		{ldap.Groups{Attribute: "memberOf", Name: "cn", Depth: 9}, []string{first, "middle", "outer"}},
		{ldap.Groups{Filter: "(member={dn})", Base: groups, Name: "cn"}, []string{first}},
		{ldap.Groups{Filter: "(member={dn})", Base: groups, Name: "cn", Depth: 1}, []string{first, "middle"}},
		{ldap.Groups{Filter: "(member={dn})", Base: groups, Name: "cn", Depth: 9}, []string{first, "middle", "outer"}},
		{ldap.Groups{Attribute: "memberOf", Filter: "(member={dn})", Base: groups, Name: "cn", Depth: 9}, []string{first, "middle", "outer"}},
		{ldap.Groups{Filter: "(|(memberUid={user})(member={dn}))", Base: groups, Name: "cn"}, []string{first, "posix"}},
		{ldap.Groups{Attribute: "memberOf", Name: "cn", Base: people}, nil},
	} {
		s := d.open(t, func(o *ldap.Options) { o.Groups = c.groups })
		who, err := s.Authenticate(t.Context(), "smith", "password of smith")
		slices.Sort(who.Groups)
		if err != nil || !slices.Equal(who.Groups, c.want) {
			t.Errorf("%+v: %q, %v; want %q", c.groups, who.Groups, err, c.want)
		}
	}
	s := d.open(t, func(o *ldap.Options) { o.Groups = ldap.Groups{Attribute: "memberOf"} })
	who, err := s.Lookup(t.Context(), "smith")
	if err != nil || len(who.Groups) != 1 {
		t.Fatalf("%q, %v", who.Groups, err)
	}
	if got, err := goldap.ParseDN(who.Groups[0]); err != nil || got.RDNs[0].Attributes[0].Value != first {
		t.Errorf("the group is %q, %v", who.Groups[0], err)
	}
}

// TestChangesHoldAtOnce: nothing is kept of a user.
func TestChangesHoldAtOnce(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	alice := d.user("alice", uid("alice"))
	team := d.group("team", alice, service)
	s := d.open(t, func(o *ldap.Options) {
		o.Filter = "(!(employeeType=disabled))"
		o.Groups = ldap.Groups{Attribute: "memberOf", Name: "cn"}
	})
	in := func(want ...string) {
		t.Helper()
		if who, err := s.Lookup(t.Context(), "alice"); err != nil || !slices.Equal(who.Groups, want) {
			t.Errorf("alice is in %q, %v; want %q", who.Groups, err, want)
		}
	}
	mustSignIn(t, s, "alice", "password of alice")
	in("team")

	d.Replace(team, "member", service)
	in()
	d.Replace(alice, "userPassword", "new")
	mustBeRefused(t, s, "alice", "password of alice")
	mustSignIn(t, s, "alice", "new")

	d.Replace(alice, "employeeType", "disabled")
	mustBeRefused(t, s, "alice", "new")
	if _, err := s.Lookup(t.Context(), "alice"); !errors.Is(err, authn.ErrRefused) {
		t.Errorf("a disabled account: %v", err)
	}
	d.Replace(alice, "employeeType")
	mustSignIn(t, s, "alice", "new")

	d.Replace(alice, "userPassword")
	mustBeRefused(t, s, "alice", "new")
	d.Remove(alice)
	mustBeRefused(t, s, "alice", "new")
	if _, err := s.Lookup(t.Context(), "alice"); !errors.Is(err, authn.ErrRefused) {
		t.Errorf("an account that's gone: %v", err)
	}
}

// TestManyGroups has a user in as many groups as there may be, and in one more.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	alice := d.user("alice", uid("alice"))
	for i := range 60 {
		d.group(fmt.Sprint("g", i), alice)
	}
	for _, g := range []ldap.Groups{{Attribute: "memberOf"}, {Filter: "(member={dn})", Base: groups}} {
		g.Limit = 60
		who, err := d.open(t, func(o *ldap.Options) { o.Groups = g }).Lookup(t.Context(), "alice")
		if err != nil || len(who.Groups) != 60 {
			t.Errorf("%+v: %d groups, %v", g, len(who.Groups), err)
		}
		g.Limit = 59
		_, err = d.open(t, func(o *ldap.Options) { o.Groups = g }).Lookup(t.Context(), "alice")
		if err == nil || errors.Is(err, authn.ErrRefused) {
			t.Errorf("%+v: %v", g, err)
		}
	}
}
