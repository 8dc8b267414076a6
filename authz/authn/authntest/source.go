// Package authntest checks that Sources keep the contract of package authn.
package authntest

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// User is one that a source knows.
type User struct {
	Name, Password string

	// ID is what the source calls the user. Default: Name.
	ID string

	// Provider is what the user's Identity says. Not checked if it's empty.
	Provider string
}

func (u User) id() string {
	if u.ID != "" {
		return u.ID
	}
	return u.Name
}

// foreign are names that mean something to a file of lines, to LDAP, to a shell or to
// nobody. No source knows them.
var foreign = []string{
	"", " ", "nobody-has-this-name", ":", "\n", "\x00", "*", "(", ")", "\\", "#", "..", "../../etc/passwd",
	"*)(uid=*))(|(uid=*", "admin)(&)", "' or '1'='1", "$(id)", "%2e", "\u202e", "\xff\xfe",
	strings.Repeat("a", 1<<16),
}

// Source checks src, which knows user. If it's a Directory, that is checked, too.
func Source(t *testing.T, src authn.Source, user User) {
	t.Helper()
	t.Run("right", func(t *testing.T) { testRight(t, src, user) })
	t.Run("wrong", func(t *testing.T) { testWrong(t, src, user) })
	t.Run("foreign names", func(t *testing.T) { testForeign(t, src, user) })
	t.Run("injection", func(t *testing.T) { testInjection(t, src, user) })
	t.Run("at once", func(t *testing.T) { testAtOnce(t, src, user) })
	if d, ok := src.(authn.Directory); ok {
		t.Run("directory", func(t *testing.T) { testDirectory(t, d, user) })
	}
}

func testRight(t *testing.T, src authn.Source, user User) {
	who, err := src.Authenticate(t.Context(), user.Name, user.Password)
	if err != nil {
		t.Fatalf("the right password: %v", err)
	}
	check(t, who, user)
}

func check(t *testing.T, who authz.Identity, user User) {
	t.Helper()
	if who.ID != user.id() {
		t.Errorf("%s is %q, want %q", user.Name, who.ID, user.id())
	}
	if user.Provider != "" && who.Provider != user.Provider {
		t.Errorf("%s is known by %q, want %q", user.Name, who.Provider, user.Provider)
	}
}

func testWrong(t *testing.T, src authn.Source, user User) {
	p := user.Password
	for _, wrong := range []string{
		"", " ", "wrong", p + "x", p + "\x00", p + "\n", " " + p, p + " ", p[:len(p)-1], p + p, "\xff",
		strings.Repeat("x", 1<<16), user.Name + ":" + p,
	} {
		refused(t, src, user.Name, wrong)
	}
}

func testForeign(t *testing.T, src authn.Source, user User) {
	for _, name := range foreign {
		refused(t, src, name, user.Password)
		refused(t, src, name, "")
	}
}

// testInjection are names that a source which puts them together with something else
// could take for the user's.
func testInjection(t *testing.T, src authn.Source, user User) {
	for _, name := range []string{
		user.Name + ":", user.Name + ":" + user.Password, user.Name + "\n", "\n" + user.Name, user.Name + "\x00",
		user.Name + "\x00x", "x\n" + user.Name, user.Name + "*", user.Name + ")(uid=*", "#" + user.Name, "/" + user.Name,
	} {
		refused(t, src, name, user.Password)
	}
}

func refused(t *testing.T, src authn.Source, name, password string) {
	t.Helper()
	who, err := src.Authenticate(t.Context(), name, password)
	if !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
		t.Errorf("%.40q with %.40q: %v, %v; want ErrRefused and nobody", name, password, who.ID, err)
	}
	if err != nil && len(password) > 8 && strings.Contains(err.Error(), password) {
		t.Errorf("the error has the password %.40q in it", password)
	}
}

func testAtOnce(t *testing.T, src authn.Source, user User) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			password, want := user.Password, error(nil)
			if i%2 == 1 {
				password, want = "wrong", authn.ErrRefused
			}
			if _, err := src.Authenticate(t.Context(), user.Name, password); !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
		})
	}
	all.Wait()
}

func testDirectory(t *testing.T, d authn.Directory, user User) {
	who, err := d.Lookup(t.Context(), user.Name)
	if err != nil {
		t.Fatalf("look up %s: %v", user.Name, err)
	}
	check(t, who, user)
	for _, name := range foreign {
		if who, err := d.Lookup(t.Context(), name); !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
			t.Errorf("look up %.40q: %v, %v; want ErrRefused and nobody", name, who.ID, err)
		}
	}
}
