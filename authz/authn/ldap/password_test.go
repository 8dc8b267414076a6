package ldap_test

import (
	"testing"
)

// TestGeneration: it changes with whatever says when the password was set, and with
// nothing else.
func TestGeneration(t *testing.T) {
	t.Parallel()
	for _, attribute := range []string{"pwdChangedTime", "pwdLastSet", "krbLastPwdChange", "sambaPwdLastSet"} {
		t.Run(attribute, func(t *testing.T) {
			t.Parallel()
			d := newDirectory(t)
			s, replica := open(t, d), open(t, d)
			generation := func() string {
				t.Helper()
				g, err := s.Generation(t.Context(), "alice")
				other, oerr := replica.Generation(t.Context(), "ALICE")
				if err != nil || oerr != nil || g != other {
					t.Fatalf("it's %q, %v, and by another name %q, %v", g, err, other, oerr)
				}
				return g
			}
			set := func(name, value string) {
				d.set(func() { d.entries[userDN("alice")][name] = []string{value} })
			}
			if g := generation(); g != "" {
				t.Errorf("of who has none it's %q", g)
			}
			set(attribute, "20260101000000Z")
			one := generation()
			set("mail", "alice@example.com")
			if g := generation(); g != one || g == "" {
				t.Errorf("after another change it's %q, and was %q", g, one)
			}
			set(attribute, "20260101000001Z")
			if generation() == one {
				t.Error("a new password doesn't change it")
			}
			d.set(func() { d.hidden = attribute })
			if g := generation(); g != "" {
				t.Errorf("of what may not be seen it's %q", g)
			}
			d.set(func() { delete(d.entries, userDN("alice")) })
			_, err := s.Generation(t.Context(), "alice")
			mustRefuse(t, "an account that's gone", err)
			_, err = s.Generation(t.Context(), "a\x00b")
			mustRefuse(t, "no name", err)
		})
	}
}

// TestGenerationNobodyKnows: a directory that's down hasn't forgotten anybody.
func TestGenerationNobodyKnows(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	s := open(t, d)
	d.set(func() { d.fault = func(request) fault { return hangUp } })
	_, err := s.Generation(t.Context(), "alice")
	mustFail(t, "a directory that's down", err)
}
