package ldap_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	ldapsource "github.com/caddy-oci/oci-registry/authz/authn/ldap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a source of the directory's users.
func open(t *testing.T, d *directory, changes ...func(*ldapsource.Options)) *ldapsource.Source {
	t.Helper()
	opts := ldapsource.Options{
		URLs: []string{"ldap://one"}, Plain: true, Base: people, Dial: d.dial, BindDN: service,
		Password: func() (string, error) { return "service's secret", nil },
	}
	for _, change := range changes {
		change(&opts)
	}
	s, err := ldapsource.New(opts)
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

func login(t *testing.T, s authn.Source, user, password string) (authz.Identity, error) {
	t.Helper()
	who, err := s.Authenticate(t.Context(), user, password)
	if err != nil && !who.IsAnonymous() {
		t.Errorf("%s is %+v, beside an error", user, who)
	}
	return who, err
}

// mustRefuse fails the test unless the error is ErrRefused and says no more than that:
// why a user is refused is nothing to tell.
func mustRefuse(t *testing.T, what string, err error) {
	t.Helper()
	if err != authn.ErrRefused { //nolint:errorlint // it must be the same
		t.Errorf("%s: %v, want ErrRefused alone", what, err)
	}
}

// mustFail fails the test unless the error is one that refuses nobody.
func mustFail(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, authn.ErrRefused) {
		t.Errorf("%s: %v, want an error that isn't ErrRefused", what, err)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	for _, name := range []string{"alice", "ALICE", "Alice"} {
		who, err := login(t, s, name, "password of alice")
		if err != nil || who.ID != "alice" || who.Provider != "ldap" || len(who.Groups) != 0 || who.Claims["dn"] != userDN("alice") {
			t.Errorf("%s is %+v, %v", name, who, err)
		}
		who, err = s.Lookup(t.Context(), name)
		if err != nil || who.ID != "alice" || who.Provider != "ldap" || who.Claims["dn"] != userDN("alice") {
			t.Errorf("%s is found to be %+v, %v", name, who, err)
		}
	}
	for _, c := range [][2]string{
		{"alice", "wrong"},
		{"alice", "password of bob"},
		{"alice", "password of alice "},
		{"nobody", "password of alice"},
		{"alice*", "password of alice"},
		{"*", "password of alice"},
		{" alice", "password of alice"},
		{"uid=alice", "password of alice"},
		{userDN("alice"), "password of alice"},
	} {
		_, err := login(t, s, c[0], c[1])
		mustRefuse(t, c[0]+":"+c[1], err)
	}
	_, err := s.Lookup(t.Context(), "nobody")
	mustRefuse(t, "nobody", err)
	for _, r := range d.requests() {
		if r.op == "search" && (r.as != service || r.limit != 2 || r.deref != ldap.NeverDerefAliases) {
			t.Errorf("a search as %q, for up to %d entries, with aliases %d", r.as, r.limit, r.deref)
		}
	}
}

func TestTheProviderHasAName(t *testing.T) {
	t.Parallel()
	s := open(t, newDirectory(t), func(o *ldapsource.Options) { o.Provider = "staff" })
	if who, err := s.Lookup(t.Context(), "alice"); err != nil || who.Provider != "staff" {
		t.Errorf("%+v, %v", who, err)
	}
}

// TestNoUserAndNoPassword: what can't be right is refused without asking anybody. An
// empty password above all, which a directory takes for a wish to be anonymous.
func TestNoUserAndNoPassword(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	for _, c := range [][2]string{
		{"alice", ""},
		{"", ""},
		{"", "x"},
		{"alice\n", "password of alice"},
		{"alice\x00", "password of alice"},
		{"al\u0085ice", "password of alice"},
		{"\xff", "x"},
		{strings.Repeat("a", 257), "x"},
		{"alice", strings.Repeat("x", 1025)},
		{"alice", "password of alice\x00"},
	} {
		_, err := login(t, s, c[0], c[1])
		mustRefuse(t, fmt.Sprintf("%.20q with %.20q", c[0], c[1]), err)
	}
	for _, name := range []string{"", "alice\n", "alice\x00", "\xff", strings.Repeat("a", 257)} {
		_, err := s.Lookup(t.Context(), name)
		mustRefuse(t, fmt.Sprintf("%.20q", name), err)
	}
	if _, dialed, _ := d.connections(); dialed != 0 {
		t.Errorf("the directory was asked: %v", d.requests())
	}
}

func TestAUserWhoIsNotThereCostsTheSame(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	login(t, s, "alice", "password of alice") // connections are there then
	d.requests()
	_, err := login(t, s, "alice", "wrong")
	mustRefuse(t, "a wrong password", err)
	wrong := d.ops()
	_, err = login(t, s, "nobody", "wrong")
	mustRefuse(t, "a user who isn't there", err)
	asked := d.requests()
	if wrong != "search bind" || len(asked) != 2 || asked[0].op != "search" || asked[1].op != "bind" || asked[1].password != "wrong" {
		t.Errorf("a wrong password takes %s, a user who isn't there %+v", wrong, asked)
	}
	for _, result := range []int64{0, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultOther} {
		d.set(func() { d.result[asked[1].dn], d.password[asked[1].dn] = result, "wrong" })
		_, err = login(t, s, "nobody", "wrong")
		mustRefuse(t, fmt.Sprint("a user who isn't there, with answer ", result), err)
	}
	d.set(func() {
		d.fault = func(r request) fault {
			if r.op == "bind" {
				return hangUp
			}
			return none
		}
	})
	_, err = login(t, s, "nobody", "wrong")
	mustFail(t, "a user who isn't there, while nobody can sign in", err)
}

// TestAnswersToABind: some are about the user, the others aren't.
func TestAnswersToABind(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	for _, result := range []int64{
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultInsufficientAccessRights,
		ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation, ldap.LDAPResultNoSuchObject,
	} {
		d.set(func() { d.result[userDN("alice")] = result })
		_, err := login(t, s, "alice", "password of alice")
		mustRefuse(t, fmt.Sprint("answer ", result), err)
	}
	for _, result := range []int64{
		ldap.LDAPResultOperationsError, ldap.LDAPResultProtocolError, ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultReferral,
		ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultConfidentialityRequired, ldap.LDAPResultInvalidDNSyntax,
		ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultOther, 4096,
	} {
		d.set(func() { d.result[userDN("alice")] = result })
		_, err := login(t, s, "alice", "password of alice")
		mustFail(t, fmt.Sprint("answer ", result), err)
		if err != nil && strings.Contains(err.Error(), "password of alice") {
			t.Errorf("the password is in %v", err)
		}
	}
}

func TestTheFilterLeavesAccountsOut(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d, func(o *ldapsource.Options) { o.Filter = "(!(locked=TRUE))" })
	if _, err := login(t, s, "alice", "password of alice"); err != nil {
		t.Fatal(err)
	}
	d.add(userDN("alice"), map[string][]string{"uid": {"alice"}, "locked": {"TRUE"}})
	_, err := login(t, s, "alice", "password of alice")
	mustRefuse(t, "a locked account", err)
	_, err = s.Lookup(t.Context(), "alice")
	mustRefuse(t, "a locked account", err)
}

func TestNothingIsKept(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	if _, err := login(t, s, "alice", "password of alice"); err != nil {
		t.Fatal(err)
	}
	d.set(func() { d.password[userDN("alice")] = "new" })
	_, err := login(t, s, "alice", "password of alice")
	mustRefuse(t, "the old password", err)
	if _, err := login(t, s, "alice", "new"); err != nil {
		t.Error(err)
	}
	d.set(func() { delete(d.entries, userDN("alice")) })
	_, err = login(t, s, "alice", "new")
	mustRefuse(t, "an account that's gone", err)
	_, err = s.Lookup(t.Context(), "alice")
	mustRefuse(t, "an account that's gone", err)
}

func TestHowDeepUsersAre(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	deep := "uid=dave,ou=there," + people
	d.add("ou=there,"+people, nil)
	d.add(deep, map[string][]string{"uid": {"dave"}})
	d.add("uid=erin,"+base, map[string][]string{"uid": {"erin"}})
	all := open(t, d)
	if who, err := all.Lookup(t.Context(), "dave"); err != nil || who.Claims["dn"] != deep {
		t.Errorf("%+v, %v", who, err)
	}
	_, err := all.Lookup(t.Context(), "erin")
	mustRefuse(t, "a user beside the base", err)
	flat := open(t, d, func(o *ldapsource.Options) { o.SingleLevel = true })
	_, err = flat.Lookup(t.Context(), "dave")
	mustRefuse(t, "a user too deep", err)
	if _, err := flat.Lookup(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

func TestOtherAttributes(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.add(userDN("alice"), map[string][]string{"uid": {"alice"}, "mail": {"A.Smith@example.com", "alice@example.com"}})
	s := open(t, d, func(o *ldapsource.Options) { o.UserAttribute = "MAIL" })
	for typed, id := range map[string]string{
		"a.smith@EXAMPLE.com": "A.Smith@example.com", "alice@example.com": "alice@example.com",
	} {
		if who, err := login(t, s, typed, "password of alice"); err != nil || who.ID != id {
			t.Errorf("%s is %+v, %v", typed, who, err)
		}
	}
	_, err := login(t, s, "alice", "password of alice")
	mustRefuse(t, "the name of another attribute", err)
}

func TestAnonymousSearch(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d, func(o *ldapsource.Options) { o.BindDN, o.Password = "", nil })
	if _, err := login(t, s, "alice", "password of alice"); err != nil {
		t.Fatal(err)
	}
	if asked := d.requests(); len(asked) != 2 || asked[0].op != "search" || asked[0].as != "" || asked[1].dn != userDN("alice") {
		t.Errorf("asked %+v", asked)
	}
}

// TestWhatIsNobodysFault: a directory that isn't as it should be refuses nobody.
func TestWhatIsNobodysFault(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*directory){
		"the same name twice": func(d *directory) { d.add("uid=alice,ou=x,"+people, map[string][]string{"uid": {"alice"}}) },
		"the same name, often": func(d *directory) {
			d.endless = true
			for i := range 5 {
				d.add(fmt.Sprintf("uid=alice,ou=%d,%s", i, people), map[string][]string{"uid": {"alice"}})
			}
		},
		"no base":     func(d *directory) { delete(d.entries, people) },
		"no password": func(d *directory) { d.result[service] = ldap.LDAPResultInvalidCredentials },
		"an entry without a DN": func(d *directory) {
			delete(d.entries, userDN("alice"))
			d.entries[""] = map[string][]string{"uid": {"alice"}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newDirectory(t)
			change(d)
			s := open(t, d)
			_, err := login(t, s, "alice", "password of alice")
			mustFail(t, "login", err)
			_, err = s.Lookup(t.Context(), "alice")
			mustFail(t, "lookup", err)
			for _, r := range d.requests() {
				if r.op == "bind" && r.dn != service {
					t.Errorf("a bind as %q", r.dn)
				}
			}
		})
	}
}

// TestAHiddenName: whoever searches may look for the name, but not read it.
func TestAHiddenName(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d, func(o *ldapsource.Options) { o.UserAttribute, o.Filter = "nickname", "(|(uid=alice)(!(uid=*)))" })
	d.add(userDN("alice"), map[string][]string{"uid": {"alice"}, "nickname": {"al"}})
	if _, err := login(t, s, "al", "password of alice"); err != nil {
		t.Fatal(err)
	}
	d.set(func() { d.hidden = "nickname" })
	_, err := login(t, s, "al", "password of alice")
	mustFail(t, "a name that can't be read", err)
}

// special are the characters that mean something in filters and DNs.
var special = []rune("*()\\,=+\"#;<>&|!~:/ {}%'aé\u202e日")

// TestNamesAreOnlyNames has users with all kinds of names come: each is itself, and no
// name is anything but a name to the directory.
func TestNamesAreOnlyNames(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d, func(o *ldapsource.Options) {
		o.Filter = "(uid=*)"
		o.Groups = ldapsource.Groups{Filter: "(|(member={dn})(memberUid={user}))", Base: teams}
	})
	random := rand.New(rand.NewPCG(1, 2))
	known := map[string]bool{}
	for range 300 {
		name := make([]rune, 1+random.IntN(8))
		for i := range name {
			name[i] = special[random.IntN(len(special))]
		}
		who := string(name)
		if strings.TrimSpace(who) == "" {
			continue
		}
		if random.IntN(2) == 0 && strings.TrimSpace(who) == who {
			d.addUser(who)
			known[strings.ToLower(who)] = true
		}
		checkName(t, d, s, who, known[strings.ToLower(who)])
	}
	if len(known) < 50 {
		t.Errorf("only %d users", len(known))
	}
}

func checkName(t *testing.T, d *directory, s *ldapsource.Source, name string, known bool) {
	t.Helper()
	d.requests()
	who, err := login(t, s, name, "password of "+name)
	if known && (err != nil || !strings.EqualFold(who.ID, name)) {
		t.Errorf("%q is %q, %v", name, who.ID, err)
	}
	if !known {
		mustRefuse(t, fmt.Sprintf("%q", name), err)
	}
	for _, r := range d.requests() {
		if r.op != "search" {
			continue
		}
		want := "(&(uid=" + ldap.EscapeFilter(name) + ")(uid=*))"
		if r.dn == teams {
			want = "(|(|(member=" + ldap.EscapeFilter(userDN(who.ID)) + ")(memberUid=" + ldap.EscapeFilter(who.ID) + ")))"
		}
		if r.filter != want {
			t.Errorf("%q is searched by %s, want %s", name, r.filter, want)
		}
	}
}
