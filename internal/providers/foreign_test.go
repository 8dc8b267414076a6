package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

// Guesses are limited at a provider that isn't ours, too, also with passwords that RFC 7617
// doesn't have.
func TestGuessingAtAForeignProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		f := foreign{name: "fake", slots: make(chan struct{}, 1), auth: fakeAuth(func(_ http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
			asked++
			user, password, _ := r.BasicAuth()
			return caddyauth.User{ID: user}, password == "secret", nil
		})}
		m := authn.NewLimits(authn.LimitOptions{PerUser: authn.Rate{Burst: 10, Every: time.Hour}}).Around(authn.Chain{f})
		knock := func(authorization string) (time.Duration, error) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
			r.Header.Set("Authorization", authorization)
			began := time.Now()
			_, _, err := m.Identify(r)
			return time.Since(began), err
		}
		for i := range 10 {
			if took, err := knock(basic("alice", fmt.Sprint(i, "\t"))); took != time.Second || !errors.Is(err, authn.ErrRefused) {
				t.Errorf("wrong: %v after %s", err, took)
			}
			if took, err := knock(basic("bob", "secret")); took != 0 || err != nil {
				t.Errorf("right: %v after %s", err, took)
			}
		}
		if _, err := knock(basic("alice", "secret")); !errors.Is(err, oci.TooManyRequests) || asked != 20 {
			t.Errorf("too many: %v, %d asked", err, asked)
		}
	})
}

// Only so many passwords are verified at once.
func TestSlotsOfAForeignProvider(t *testing.T) {
	t.Parallel()
	f := foreign{name: "fake", slots: make(chan struct{}, 1), auth: fakeAuth(func(http.ResponseWriter, *http.Request) (caddyauth.User, bool, error) {
		return caddyauth.User{ID: "alice"}, true, nil
	})}
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/", nil)
	r.Header.Set("Authorization", basic("alice", "secret"))
	if who, _, err := f.Identify(r); err != nil || who.ID != "alice" || len(f.slots) != 0 {
		t.Errorf("%+v, %v", who, err)
	}
	f.slots <- struct{}{}
	leave()
	if who, found, err := f.Identify(r); !found || !errors.Is(err, context.Canceled) || !who.IsAnonymous() {
		t.Errorf("%+v, %t, %v", who, found, err)
	}
	if _, m, err := MethodOf(new(caddyauth.HTTPBasicAuth)); err != nil || m.(foreign).slots == nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// fakeAuth is a provider that knows only Caddy's interface.
type fakeAuth func(http.ResponseWriter, *http.Request) (caddyauth.User, bool, error)

func (f fakeAuth) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return f(w, r)
}

func TestForeignProvider(t *testing.T) {
	t.Parallel()
	knows := foreign{name: "fake", auth: fakeAuth(func(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
		switch r.Header.Get("Authorization") {
		case "alice":
			return caddyauth.User{ID: "alice", Metadata: map[string]string{"groups": `["a b","c"]`, "roles": "d e", "mail": "a@example.com"}}, true, nil
		case "broken":
			return caddyauth.User{}, false, errors.New("no such key")
		}
		w.Header().Set("Www-Authenticate", "Fake")
		w.WriteHeader(http.StatusUnauthorized)
		_, err := w.Write([]byte("go away"))
		return caddyauth.User{ID: "candidate"}, false, err
	})}
	for authorization, want := range map[string]struct {
		found, refused bool
		id             string
	}{
		"alice":  {true, false, "alice"},
		"bob":    {true, true, ""},
		"broken": {true, true, ""},
		"":       {false, false, ""},

		"Basic Og==": {false, false, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		who, found, err := knows.Identify(r)
		if found != want.found || errors.Is(err, authn.ErrRefused) != want.refused || who.ID != want.id {
			t.Errorf("%q: %+v %t %v", authorization, who, found, err)
		}
		if who.ID != "" && (who.Provider != "fake" || !slices.Equal(who.Groups, []string{"a b", "c", "d", "e"}) || who.Claims["mail"] != "a@example.com") {
			t.Errorf("alice is %+v", who)
		}
		if got := knows.Challenge(r); got != "Fake" {
			t.Errorf("%q is asked with %q", authorization, got)
		}
		if r.Header.Get("Authorization") != authorization {
			t.Error("the request was changed")
		}
	}
}

// undecided is an authn.Method that can't find out.
type undecided struct{}

func (undecided) Identify(*http.Request) (authz.Identity, bool, error) {
	return authz.Identity{}, true, errors.New("the directory is away")
}

func TestProviderErrorsOnAnySite(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if _, ok, err := Authenticate(undecided{}, httptest.NewRecorder(), r); ok || err == nil {
		t.Errorf("who can't be found out is %t, %v", ok, err)
	}
	if _, ok, err := Authenticate(authn.Chain{}, httptest.NewRecorder(), r); ok || err != nil {
		t.Errorf("without credentials it's %t, %v", ok, err)
	}
}

func TestParseGroups(t *testing.T) {
	t.Parallel()
	for s, want := range map[string][]string{
		"":                          nil,
		"dev":                       {"dev"},
		"Cloud admins":              {"Cloud admins"},
		", dev ops,,x":              {"dev ops", "x"},
		" dev,ops,\tall ":           {"dev", "ops", "all"},
		`["a b","c,d","cn=x,dc=y"]`: {"a b", "c,d", "cn=x,dc=y"},
		`[]`:                        {},
		`["a",1]`:                   {`["a"`, `1]`}, // no array of strings, and no group that anybody has
	} {
		if got := ParseGroups(s); !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", s, got, want)
		}
	}
	for _, groups := range [][]string{nil, {"a b", "cn=x,dc=y"}, {"["}} {
		who := identityOf(userOf(authz.Identity{ID: "alice", Groups: groups, Provider: "x"}), "x")
		if who.ID != "alice" || !slices.Equal(who.Groups, groups) {
			t.Errorf("%q come back as %+v", groups, who)
		}
	}
}

// basic is an Authorization with a name and a password.
func basic(user, password string) string {
	r := &http.Request{Header: make(http.Header)}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}
