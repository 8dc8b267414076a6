package authn_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20_000) // like a JWT with many groups
	for header, want := range map[string][2]string{
		basic("alice", "secret"):                    {"alice", "secret"},
		"basic YWxpY2U6c2VjcmV0":                    {"alice", "secret"},
		"BASIC   YWxpY2U6c2VjcmV0  ":                {"alice", "secret"},
		basic("alice", "a:b::c:"):                   {"alice", "a:b::c:"},
		basic("alice", ":"):                         {"alice", ":"},
		basic("Grüße, 世界", "пароль 🔑 ñ"):            {"Grüße, 世界", "пароль 🔑 ñ"},
		basic("alice", " blanks "):                  {"alice", " blanks "},
		basic("alice@example.org", `"\'`):           {"alice@example.org", `"\'`},
		basic("alice", ""):                          {"alice", ""},
		basic("", "token"):                          {"", "token"},
		basic("jwt", long):                          {"jwt", long},
		basic(strings.Repeat("u", 200), long[:200]): {strings.Repeat("u", 200), long[:200]},
	} {
		user, password, found, err := authn.Password(request(t, header))
		if user != want[0] || password != want[1] || !found || err != nil {
			t.Errorf("%.60s: %.60q, %.60q, %t, %v", header, user, password, found, err)
		}
	}
}

func TestNoPassword(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{nil, {""}, {"Basic Og=="}, {"basic  Og=="}, {"Bearer eyJ"}, {"Basically YTpi"}, {"YTpi"}} {
		user, password, found, err := authn.Password(request(t, headers...))
		if user != "" || password != "" || found || err != nil {
			t.Errorf("%q: %q, %q, %t, %v", headers, user, password, found, err)
		}
	}
}

// malformed are headers that nobody can have meant.
func malformed() map[string]string {
	encode := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	return map[string]string{
		"nothing":              "Basic",
		"no base64":            "Basic !!!!",
		"no padding":           "Basic YTpiYw",
		"URLs' base64":         "Basic " + base64.URLEncoding.EncodeToString([]byte("a:\xc3\xbf\xc3\xbf?")),
		"two words":            "Basic YTpi YTpi",
		"a list":               "Basic YTpi, Basic YTpi",
		"no colon":             encode("alice"),
		"no UTF-8":             encode("alice:\xff\xfe"),
		"a name without UTF-8": encode("\xe4:secret"),
		"a line feed":          encode("alice\nbob:secret"),
		"a NUL":                encode("alice:secret\x00"),
		"a NUL in the name":    encode("al\x00ice:secret"),
		"DEL":                  encode("alice:\x7f"),
		"C1":                   encode("alice:\u0085"),
		"too long":             basic("alice", strings.Repeat("x", 32<<10)),
	}
}

func TestMalformedIsRefused(t *testing.T) {
	t.Parallel()
	for name, header := range malformed() {
		s := knows("alice", "secret")
		who, found, err := authn.Basic{Source: s}.Identify(request(t, header))
		if !who.IsAnonymous() || !found || !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %q, %t, %v", name, who.ID, found, err)
		}
		if err != nil && (!isText(err.Error()) || strings.Contains(err.Error(), "alice")) {
			t.Errorf("%s: the error shows what was sent: %q", name, err)
		}
		if s.times() > 0 {
			t.Errorf("%s: the source was asked %q", name, s.asked)
		}
	}
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

func TestBasic(t *testing.T) {
	t.Parallel()
	s := knows("alice", "se:cret")
	b := authn.Basic{Source: s}
	who, found, err := b.Identify(request(t, basic("alice", "se:cret")))
	if who.ID != "alice" || who.Provider != "test" || !found || err != nil {
		t.Errorf("the right password: %+v, %t, %v", who, found, err)
	}
	who, found, err = b.Identify(request(t, basic("alice", "wrong")))
	if !who.IsAnonymous() || !found || !errors.Is(err, authn.ErrRefused) {
		t.Errorf("a wrong one: %+v, %t, %v", who, found, err)
	}
	if who, found, err = b.Identify(request(t)); !who.IsAnonymous() || found || err != nil {
		t.Errorf("none: %+v, %t, %v", who, found, err)
	}
	s.err = errAway
	if who, found, err = b.Identify(request(t, basic("alice", "se:cret"))); !who.IsAnonymous() || !found || !errors.Is(err, errAway) {
		t.Errorf("the source is away: %+v, %t, %v", who, found, err)
	}
}

func TestBasicChallenge(t *testing.T) {
	t.Parallel()
	for realm, want := range map[string]string{
		"":                `Basic realm="registry", charset="UTF-8"`,
		"Our images":      `Basic realm="Our images", charset="UTF-8"`,
		`a "b" \c`:        `Basic realm="a \"b\" \\c", charset="UTF-8"`,
		"a\r\nSet-Cookie": `Basic realm="aSet-Cookie", charset="UTF-8"`,
	} {
		if got := (authn.Basic{Realm: realm}).Challenge(request(t)); got != want {
			t.Errorf("%q: %s, want %s", realm, got, want)
		}
	}
}

func FuzzPassword(f *testing.F) {
	f.Add("Basic YWxpY2U6c2VjcmV0")
	f.Add("basic  Og==")
	for _, header := range malformed() {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		user, password, found, err := authn.Password(request(t, header))
		if err != nil && (!found || user != "" || password != "") {
			t.Errorf("%q: %q, %q, %t, %v", header, user, password, found, err)
		}
		if found == (err == nil && user == "" && password == "") {
			t.Errorf("%q: found %t, %q, %q, %v", header, found, user, password, err)
		}
		if strings.ContainsAny(user, ":\n\x00") || strings.ContainsAny(password, "\n\x00") {
			t.Errorf("%q: %q, %q", header, user, password)
		}
		if found && err == nil {
			if u, p, ok, err := authn.Password(request(t, basic(user, password))); u != user || p != password || !ok || err != nil {
				t.Errorf("%q, %q: again they are %q, %q, %t, %v", user, password, u, p, ok, err)
			}
		}
	})
}
