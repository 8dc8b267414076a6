package authn_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

func TestChain(t *testing.T) {
	t.Parallel()
	var (
		none     = method{}
		alice    = method{who: "alice", found: true}
		bob      = method{who: "bob", found: true}
		refuses  = method{found: true, err: authn.ErrRefused}
		away     = method{found: true, err: errAway}
		failing  = method{err: errAway} // breaks the contract
		nameless = method{found: true}
		finally  = method{found: true, err: authn.Final(authn.ErrRefused)}
		downed   = method{found: true, err: authn.Final(errAway)}
	)
	for name, c := range map[string]struct {
		methods []method
		who     string
		found   bool
		err     error
		asked   int // how many of them
	}{
		"no methods":                       {nil, "", false, nil, 0},
		"no credentials":                   {[]method{none, none}, "", false, nil, 2},
		"the first knows them":             {[]method{alice, bob}, "alice", true, nil, 1},
		"the second knows them":            {[]method{none, bob}, "bob", true, nil, 2},
		"one refuses and another knows":    {[]method{refuses, bob}, "bob", true, nil, 2},
		"one is away and another knows":    {[]method{away, bob}, "bob", true, nil, 2},
		"refused":                          {[]method{none, refuses, none}, "", true, authn.ErrRefused, 3},
		"all refuse":                       {[]method{refuses, refuses}, "", true, authn.ErrRefused, 2},
		"one refuses and another is away":  {[]method{refuses, away}, "", true, errAway, 2},
		"one is away and another refuses":  {[]method{away, refuses}, "", true, errAway, 2},
		"a refusal that is final":          {[]method{none, finally, bob}, "", true, authn.ErrRefused, 2},
		"even after a failure":             {[]method{away, finally, bob}, "", true, authn.ErrRefused, 2},
		"a failure that is final":          {[]method{refuses, downed, bob}, "", true, errAway, 2},
		"a failure without credentials":    {[]method{failing, none}, "", true, errAway, 2},
		"a user without a name is nobody":  {[]method{nameless}, "", true, authn.ErrRefused, 1},
		"but another may know who that is": {[]method{nameless, bob}, "bob", true, nil, 2},
	} {
		var chain authn.Chain
		for i := range c.methods {
			chain = append(chain, &c.methods[i])
		}
		who, found, err := chain.Identify(request(t))
		if who.ID != c.who || found != c.found || !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: %q, %t, %v; want %q, %t, %v", name, who.ID, found, err, c.who, c.found, c.err)
		}
		if c.err != nil && errors.Is(err, authn.ErrRefused) != errors.Is(c.err, authn.ErrRefused) {
			t.Errorf("%s: %v is, or isn't, a refusal", name, err)
		}
		for i, m := range c.methods {
			if want := min(1, max(0, c.asked-i)); m.asked != want {
				t.Errorf("%s: method %d was asked %d times, want %d", name, i, m.asked, want)
			}
		}
	}
}

// Two headers may be read by us in one way, and by a proxy before us in another.
func TestSeveralHeadersAuthorization(t *testing.T) {
	t.Parallel()
	m := &method{who: "alice", found: true}
	for _, headers := range [][]string{
		{basic("alice", "secret"), basic("alice", "secret")},
		{basic("alice", "secret"), ""},
		{"", "Bearer x"},
	} {
		for name, asked := range map[string]authn.Method{"chain": authn.Chain{m}, "basic": authn.Basic{Source: knows("alice", "secret")}} {
			who, found, err := asked.Identify(request(t, headers...))
			if !who.IsAnonymous() || !found || !errors.Is(err, authn.ErrRefused) {
				t.Errorf("%s, %q: %q, %t, %v", name, headers, who.ID, found, err)
			}
		}
	}
	if m.asked > 0 {
		t.Error("a method was asked")
	}
}

// Who shows credentials is never anonymous, even if nobody can read them.
func TestCredentialsThatNoMethodKnows(t *testing.T) {
	t.Parallel()
	passwords := authn.Basic{Source: knows("alice", "secret")}
	for _, c := range []struct {
		header  string
		methods authn.Chain
		refused bool
	}{
		{"", authn.Chain{passwords}, false},
		{"Basic Og==", authn.Chain{passwords}, false}, // ":"
		{"Basic Og==", authn.Chain{&method{}}, false},
		{"Bearer eyJ", authn.Chain{passwords}, true},
		{"Negotiate abc", authn.Chain{passwords}, true},
		{"Bearer", nil, true},
		{basic("alice", "secret"), authn.Chain{&method{}}, true},
		{"Basic !", authn.Chain{&method{}}, true},
	} {
		who, found, err := c.methods.Identify(request(t, c.header))
		if !who.IsAnonymous() || found != c.refused || errors.Is(err, authn.ErrRefused) != c.refused || (err != nil) != c.refused {
			t.Errorf("%q: %q, %t, %v; refused: want %t", c.header, who.ID, found, err, c.refused)
		}
	}
}

// hidden is a Method that is no Challenger.
type hidden struct{ authn.Method }

func TestChallengeOfAChain(t *testing.T) {
	t.Parallel()
	quiet, first, second := &method{}, &method{challenge: "Basic realm=x"}, &method{challenge: "Bearer realm=y"}
	for _, c := range []struct {
		chain authn.Chain
		want  string
	}{
		{nil, ""},
		{authn.Chain{hidden{quiet}, quiet}, ""},
		{authn.Chain{hidden{first}, quiet, first, second}, "Basic realm=x"},
		{authn.Chain{second, first}, "Bearer realm=y"},
		{authn.Chain{authn.Chain{quiet}, authn.Chain{first}}, "Basic realm=x"},
	} {
		if got := c.chain.Challenge(request(t)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// byHeader is a Method that knows who sent a header Authorization of one value.
type byHeader struct{ knows, who string }

func (b byHeader) Identify(r *http.Request) (authz.Identity, bool, error) {
	switch r.Header.Get("Authorization") {
	case "":
		return authz.Identity{}, false, nil
	case b.knows:
		return authz.Identity{ID: b.who}, true, nil
	}
	return authz.Identity{}, true, authn.ErrRefused
}

// Who sends a wrong password beside a certificate isn't who has the certificate.
func TestRefusedBesideACertificate(t *testing.T) {
	t.Parallel()
	certificate := &method{who: "edge", found: true}
	chain := authn.Chain{byHeader{"Basic right", "alice"}, byHeader{"Basic other", "bob"}, certificate}
	for header, want := range map[string]string{"": "edge", "Basic right": "alice", "Basic other": "bob", "Basic wrong": ""} {
		r := request(t)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		who, found, err := chain.Identify(r)
		if who.ID != want || !found || (want == "") != errors.Is(err, authn.ErrRefused) {
			t.Errorf("%q: %q, %t, %v; want %q", header, who.ID, found, err, want)
		}
	}
}
