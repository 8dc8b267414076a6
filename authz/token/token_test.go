package token_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/oci"
)

func TestGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.people.set(func(p *people) {
		p.limits["root"] = []authz.Scope{{Repositories: "app", Actions: []authz.Action{authz.Pull, authz.List, authz.Push}}}
	})
	for name, c := range map[string]struct {
		basic   string
		scopes  []string
		granted string
		allowed []string
	}{
		"docker login":          {"alice:secret", nil, "", nil},
		"an empty scope":        {"alice:secret", []string{""}, "", nil},
		"anonymous pull":        {"", []string{"repository:public:pull"}, "repository:public:pull", []string{"list:public", "pull:public"}},
		"an empty password":     {":", []string{"repository:public:pull"}, "repository:public:pull", []string{"list:public", "pull:public"}},
		"of a push a pull":      {"", []string{"repository:public:pull,push"}, "repository:public:pull", []string{"list:public", "pull:public"}},
		"push":                  {"alice:secret", []string{"repository:alice:pull,push"}, "repository:alice:pull,push", []string{"list:alice", "overwrite:alice", "pull:alice", "push:alice"}},
		"delete":                {"alice:secret", []string{"repository:alice:delete"}, "repository:alice:delete", []string{"delete:alice"}},
		"everything":            {"alice:secret", []string{"repository:alice:*"}, "repository:alice:*", []string{"delete:alice", "list:alice", "overwrite:alice", "pull:alice", "push:alice"}},
		"a mount":               {"alice:secret", []string{"repository:alice:pull,push", "repository:public:pull"}, "repository:alice:pull,push repository:public:pull", []string{"list:alice", "list:public", "overwrite:alice", "pull:alice", "pull:public", "push:alice"}},
		"in one parameter":      {"alice:secret", []string{"repository:alice:pull repository:public:pull"}, "repository:alice:pull repository:public:pull", []string{"list:alice", "list:public", "pull:alice", "pull:public"}},
		"a class":               {"alice:secret", []string{"repository(plugin):alice:pull"}, "repository(plugin):alice:pull", []string{"list:alice", "pull:alice"}},
		"another's":             {"alice:secret", []string{"repository:bob:pull,push"}, "", nil},
		"one of two":            {"alice:secret", []string{"repository:bob:pull", "repository:alice:pull"}, "repository:alice:pull", []string{"list:alice", "pull:alice"}},
		"the catalog":           {"alice:secret", []string{"registry:catalog:*"}, "registry:catalog:*", []string{"list:**"}},
		"an unknown type":       {"alice:secret", []string{"cluster:x:y"}, "", nil},
		"an unknown action":     {"alice:secret", []string{"repository:alice:admin"}, "", nil},
		"no action":             {"alice:secret", []string{"repository:alice:"}, "", nil},
		"no name of ours":       {"alice:secret", []string{"repository:host:5000/Alice:pull"}, "", nil},
		"within a limit":        {"root:toor", []string{"repository:app:pull,push,delete", "repository:other:pull"}, "repository:app:pull,push", []string{"list:app", "pull:app", "push:app"}},
		"a catalog in a limit":  {"root:toor", []string{"registry:catalog:*"}, "registry:catalog:*", []string{"list:app"}},
		"a glob is no wildcard": {"alice:secret", []string{"repository:**:pull"}, "", nil},
	} {
		a := w.get(w.s, c.basic, c.scopes...)
		if a.status != http.StatusOK || a.Scope != c.granted {
			t.Errorf("%s: %d, granted %q, want %q", name, a.status, a.Scope, c.granted)
			continue
		}
		who := w.accepted(w.s, a.Token)
		if who.Limit == nil || !slices.Equal(allowed(who), c.allowed) {
			t.Errorf("%s: the token allows %v, want %v", name, allowed(who), c.allowed)
		}
		if user, _, _ := strings.Cut(c.basic, ":"); who.ID != user {
			t.Errorf("%s: it's %q's, want %q", name, who.ID, user)
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{Life: 2 * time.Minute})
	a := w.get(w.s, "alice:secret", "repository:alice:pull")
	at, err := time.Parse(time.RFC3339, a.IssuedAt)
	if a.Token != a.Access || a.ExpiresIn != 120 || err != nil || time.Since(at) > time.Minute || a.Refresh != "" {
		t.Errorf("%s, %v", a.body, err)
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", a.header)
	}
	who := w.accepted(w.s, a.Token)
	if who.Provider != "file" || !slices.Equal(who.Groups, []string{"dev"}) {
		t.Errorf("it's %+v", who)
	}
	if other := w.token("alice:secret", "repository:alice:pull"); other == a.Token {
		t.Error("two tokens are the same")
	}
}

// TestTooManyGroups: those that don't fit are left out, if each can only allow more.
func TestTooManyGroups(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, token.Options{
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Groups: func(string) bool { return true },
	})
	w.people.set(func(p *people) {
		for i := range 200 {
			p.groups["alice"] = append(p.groups["alice"], fmt.Sprintf("CN=team %d,OU=Groups,DC=example,DC=com", i))
		}
	})
	raw := w.token("alice:secret", "repository:alice:pull,push")
	if len(raw) > 8<<10 || !strings.Contains(log.String(), "left out") {
		t.Errorf("%d bytes, and the log has %q", len(raw), &log)
	}
	w.people.set(func(p *people) { p.down = true })
	if who := w.accepted(w.replica(), raw); len(who.Groups) < 50 || !slices.Equal(who.Groups, w.people.groups["alice"][:len(who.Groups)]) {
		t.Errorf("the token has %v", who.Groups)
	}
	w.people.set(func(p *people) { p.down = false })
	w.opts.Groups = nil
	if a := w.get(w.replica(), "alice:secret"); a.status != 400 {
		t.Errorf("of all groups: %d", a.status)
	}
}

// TestTooManyClaims: none is left out, since there are conditions that are met without.
func TestTooManyClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{Claims: func(string) bool { return true }})
	w.people.set(func(p *people) { p.claims["alice"] = map[string]any{"a": "b", "junk": strings.Repeat("x", 8<<10)} })
	if a := w.get(w.s, "alice:secret"); a.status != 400 || a.Token != "" || !strings.Contains(a.body, "the claims that the policy looks at are 8") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSmall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{
		Groups: func(g string) bool { return strings.HasPrefix(g, "team-") },
		Claims: func(name string) bool { return name == "branch" },
	})
	groups := []string{"team-platform", "team-release", "team-security"}
	w.people.set(func(p *people) {
		p.groups["alice"] = slices.Concat(slices.Repeat([]string{"CN=everybody,OU=Groups,DC=example,DC=com"}, 500), groups)
		p.claims["alice"] = map[string]any{"branch": "main", "junk": strings.Repeat("x", 1000), "api_key": "k"}
		p.limits["alice"] = []authz.Scope{{Repositories: "**", Actions: []authz.Action{authz.Pull, authz.Push, authz.List}}}
	})
	raw := w.token("alice:secret", "repository:alice:pull,push", "repository:public:pull", "registry:catalog:*")
	if len(raw) >= 1024 {
		t.Errorf("the token has %d bytes", len(raw))
	}
	who := w.accepted(w.s, raw)
	if !slices.Equal(who.Groups, w.people.groups["alice"]) {
		t.Error("the groups aren't those of now")
	}
	w.people.set(func(p *people) { p.down = true })
	who = w.accepted(w.replica(), raw)
	if !slices.Equal(who.Groups, groups) || len(who.Claims) != 2 || who.Claims["branch"] != "main" || who.Claims["api_key"] != "k" {
		t.Errorf("the token has %v %v", who.Groups, who.Claims)
	}
}

// TestSignIn: who shows wrong credentials gets nothing, not even what nobody gets.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	const public = "repository:public:pull"
	own := w.token("alice:secret", "repository:alice:pull")
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"wrong password":        {w.request("GET", "/v2/token?scope="+public, "", "basic", "alice:wrong"), 401},
		"unknown user":          {w.request("GET", "/v2/token?scope="+public, "", "basic", "eve:x"), 401},
		"empty password":        {w.request("GET", "/v2/token?scope="+public, "", "basic", "alice:"), 401},
		"a token":               {w.request("GET", "/v2/token?scope="+public, "", "Authorization", "Bearer "+own), 401},
		"a scheme of no use":    {w.request("GET", "/v2/token?scope="+public, "", "Authorization", "Digest x"), 401},
		"a wrong form":          {w.request("POST", "/v2/token", "grant_type=password&username=alice&password=x&scope="+public), 401},
		"a form without a name": {w.request("POST", "/v2/token", "grant_type=password&scope="+public), 401},
		"nothing for nobody":    {w.request("GET", "/v2/token?scope=repository:alice:pull", ""), 401},
		"too often":             {w.request("GET", "/v2/token", "", "basic", "many:x"), 429},
		"password in the URL":   {w.request("POST", "/v2/token?username=alice&password=secret", "grant_type=password"), 401},
		"grant in the URL":      {w.request("POST", "/v2/token?grant_type=password&username=alice&password=secret&scope=repository:alice:pull", ""), 401},
		"a wrong form, signed":  {w.request("POST", "/v2/token", "grant_type=password&username=alice&password=x", "basic", "alice:secret"), 401},
		"a wrong form, cookie":  {w.request("POST", "/v2/token", "grant_type=password&username=alice&password=x", "Cookie", "session=alice"), 401},
	} {
		a := w.send(w.s, c.r)
		if a.status != c.status || a.Token != "" {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
		}
		if challenge := a.header.Get("Www-Authenticate"); (c.status == 401) != (challenge == `Basic realm="registry.example"`) {
			t.Errorf("%s: challenge %q", name, challenge)
		}
		if !strings.HasPrefix(a.body, `{"errors":[{"code":"`) {
			t.Errorf("%s: body %s", name, a.body)
		}
		if c.status == 429 && a.header.Get("Retry-After") != "7" {
			t.Errorf("%s: %v", name, a.header)
		}
	}
	w.rules.closed = true
	if a := w.get(w.s, ""); a.status != 401 {
		t.Errorf("a token for nobody where nobody may do anything: %d", a.status)
	}
}

// everything knows tokens, too, as what a registry asks about its other requests.
type everything struct{ w *world }

func (e everything) Identify(r *http.Request) (authz.Identity, bool, error) {
	if who, found, err := e.w.s.Identify(r); found {
		return who, found, err
	}
	return e.w.people.Identify(r)
}

// TestNoTokenForAToken: or one could be had for ever, by whoever has found one.
func TestNoTokenForAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.opts.Credentials = everything{w}
	w.s = w.replica()
	raw := w.token("alice:secret", "repository:alice:pull")
	a := w.send(w.s, w.request("GET", "/v2/token?scope=repository:alice:pull", "", "Authorization", "Bearer "+raw))
	if a.status != 401 || a.Token != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// certificates knows who has a client certificate, before anybody asks for a password.
type certificates struct{ *people }

func (c certificates) Identify(r *http.Request) (authz.Identity, bool, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return authz.Identity{ID: "machine", Provider: "mtls"}, true, nil
	}
	return c.people.Identify(r)
}

// TestPasswordBesideACertificate: who sends a password is who has that, or nobody.
func TestPasswordBesideACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.opts.Credentials = certificates{w.people}
	w.s = w.replica()
	ask := func(method, body string) answer {
		r := w.request(method, "/v2/token", body)
		r.TLS.PeerCertificates = []*x509.Certificate{{}}
		return w.send(w.s, r)
	}
	if a := ask("GET", ""); a.status != 200 || w.accepted(w.s, a.Token).ID != "machine" {
		t.Errorf("by the certificate: %d %s", a.status, a.body)
	}
	if a := ask("POST", "grant_type=password&username=alice&password=secret"); a.status != 200 || w.accepted(w.s, a.Token).ID != "alice" {
		t.Errorf("by the password: %d %s", a.status, a.body)
	}
	if a := ask("POST", "grant_type=password&username=alice&password=wrong"); a.status != 401 {
		t.Errorf("by a wrong password: %d %s", a.status, a.body)
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	own := []string{"service", host, "client_id", "test", "scope", "repository:alice:pull repository:public:pull"}
	password := append([]string{"grant_type", "password", "username", "alice", "password", "secret"}, own...)
	a := w.post(w.s, password...)
	if a.status != 200 || a.Access == "" || a.Scope != "repository:alice:pull repository:public:pull" || a.Refresh != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if who := w.accepted(w.s, a.Access); who.ID != "alice" {
		t.Errorf("it's %q's", who.ID)
	}
	r := w.request("POST", "/v2/token?scope=repository:alice:pull", "service="+host, "basic", "alice:secret")
	if a := w.send(w.s, r); a.status != 200 || a.Scope != "repository:alice:pull" {
		t.Errorf("by the header: %d %s", a.status, a.body)
	}
	if a := w.post(w.s, "scope", "repository:public:pull"); a.status != 200 || w.accepted(w.s, a.Token).ID != "" {
		t.Errorf("by nothing: %d %s", a.status, a.body)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"another service":   {w.request("GET", "/v2/token?service=other.example", ""), 400},
		"no scope":          {w.request("GET", "/v2/token?scope=alice", ""), 400},
		"many scopes":       {w.request("GET", "/v2/token?scope="+strings.Repeat("a:b:c+", 101), ""), 400},
		"a long query":      {w.request("GET", "/v2/token?scope="+strings.Repeat("a", 17<<10), ""), 400},
		"an odd query":      {w.request("GET", "/v2/token?scope=%zz", ""), 400},
		"an unknown grant":  {w.request("POST", "/v2/token", "grant_type=authorization_code"), 400},
		"JSON":              {w.request("POST", "/v2/token", "{}", "Content-Type", "application/json"), 415},
		"a large form":      {w.request("POST", "/v2/token", "x="+strings.Repeat("x", 65<<10)), 413},
		"an odd form":       {w.request("POST", "/v2/token", "password=%zzsecret"), 400},
		"PUT":               {w.request("PUT", "/v2/token", ""), 405},
		"HEAD":              {w.request("HEAD", "/v2/token", ""), 405},
		"a token of tokens": {w.request("POST", "/v2/token", "grant_type=refresh_token&refresh_token="), 401},
	} {
		if name == "JSON" {
			c.r.Header["Content-Type"] = []string{"application/json"}
		}
		a := w.send(w.s, c.r)
		if a.status != c.status || strings.Contains(a.body, "secret") {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
		}
		if c.status == 405 && a.header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: %v", name, a.header)
		}
	}
}

// TestNobodyKnows: that nobody can say is no refusal, and no leave either.
func TestNobodyKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.people.set(func(p *people) { p.down = true })
	if a := w.get(w.s, "alice:secret", "repository:public:pull"); a.status != 503 || a.header.Get("Retry-After") == "" || a.body != "" {
		t.Errorf("the source is down: %d %s", a.status, a.body)
	}
	w.people.set(func(p *people) { p.down = false })
	w.rules.down = true
	if a := w.get(w.s, "alice:secret", "repository:public:pull"); a.status != 503 {
		t.Errorf("the policy is down: %d %s", a.status, a.body)
	}
}

// TestAdmitUser: whoever asks is counted once, whatever they ask with, if it's right.
func TestAdmitUser(t *testing.T) {
	t.Parallel()
	var got []string
	w := newWorld(t, token.Options{AdmitUser: func(who authz.Identity) error {
		got = append(got, who.ID)
		if len(got) > 4 {
			return &oci.Error{Code: oci.TooManyRequests, RetryAfter: 7}
		}
		return nil
	}})
	raw := w.login()
	w.get(w.s, "bob:wrong")
	w.get(w.s, "")
	w.post(w.s, "grant_type", "password", "username", "bob", "password", "hunter2")
	w.refresh(w.s, "x"+raw)
	w.refreshed(w.s, raw)
	if a := w.refresh(w.s, raw); a.status != 429 || a.header.Get("Retry-After") != "7" || a.Token != "" {
		t.Errorf("once too often: %d %s", a.status, a.body)
	}
	if want := []string{"alice", "", "bob", "alice", "alice"}; !slices.Equal(got, want) {
		t.Errorf("counted are %q, want %q", got, want)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	var events []token.Event
	w := newWorld(t, token.Options{Observe: func(_ *http.Request, e token.Event) { events = append(events, e) }})
	w.post(w.s, "grant_type", "password", "username", "alice", "password", "secret", "client_id", "docker", "scope", "repository:alice:pull")
	w.get(w.s, "alice:wrong")
	if len(events) != 2 || events[0].Who.ID != "alice" || events[0].Grant != "password" || events[0].Client != "docker" ||
		events[0].Scope != "repository:alice:pull" || events[0].Err != nil || events[1].Err == nil || events[1].Who.ID != "" {
		t.Errorf("%+v", events)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	for name, opts := range map[string]token.Options{
		"none":         {},
		"a short life": {State: w.opts.State, Credentials: w.people, Authorizer: w.rules, Life: 59 * time.Second},
		"a hasty turn": {State: w.opts.State, Credentials: w.people, Authorizer: w.rules, RotateEvery: time.Hour},
	} {
		if _, err := token.New(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
