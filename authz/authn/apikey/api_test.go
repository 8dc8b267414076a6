package apikey_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/oci"
)

// site is the API of some keys.
type site struct {
	*world

	api apikey.API
}

// newSite is one where X-User says who sends a request, and X-Key does, too.
func newSite(t *testing.T) *site {
	t.Helper()
	w := newWorld(t, apikey.Options{})
	identity := func(r *http.Request) (authz.Identity, error) {
		switch key, user := r.Header.Get("X-Key"), r.Header.Get("X-User"); {
		case user == "down":
			return authz.Identity{}, errDown
		case user == "wrong":
			return authz.Identity{}, authn.ErrRefused
		case user == "many":
			return authz.Identity{}, &oci.Error{Code: oci.TooManyRequests, RetryAfter: 9}
		case user == "token":
			return authz.Identity{ID: "alice", Provider: "file", Limit: []authz.Scope{{Repositories: "**", Actions: []authz.Action{authz.Pull}}}}, nil
		case key != "":
			return w.keys.Authenticate(r.Context(), user, key)
		case user == "":
			return authz.Identity{}, nil
		default:
			return authz.Identity{ID: user, Provider: "file", Groups: []string{"dev"}}, nil
		}
	}
	admin := func(_ *http.Request, who authz.Identity) bool { return who.ID == "root" }
	return &site{w, apikey.API{Keys: w.keys, Path: "/keys", Identity: identity, Admin: admin}}
}

// reply is what the API answers.
type reply struct {
	status int
	header http.Header
	body   string
}

func (s *site) do(method, target, body string, header ...string) reply {
	s.Helper()
	r := httptest.NewRequestWithContext(s.Context(), method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	s.api.ServeHTTP(rec, r)
	got, _ := io.ReadAll(rec.Body)
	if rec.Header().Get("Cache-Control") != "no-store" {
		s.Errorf("%s %s may be stored", method, target)
	}
	return reply{rec.Code, rec.Header(), string(got)}
}

func (s *site) want(status int, method, target, body string, header ...string) reply {
	s.Helper()
	got := s.do(method, target, body, header...)
	if got.status != status {
		s.Fatalf("%s %s %v: %d %s; want %d", method, target, header, got.status, got.body, status)
	}
	return got
}

// field returns a string of a JSON object.
func (r reply) field(t *testing.T, name string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(r.body), &all); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	s, _ := all[name].(string)
	return s
}

// ids are those of a list.
func (r reply) ids(t *testing.T) []string {
	t.Helper()
	var list struct {
		Keys []struct {
			ID string `json:"id"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	var ids []string
	for _, k := range list.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func TestAPI(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.want(200, "GET", "/keys", "", "X-User", "alice"); got.body != `{"keys":[]}` {
		t.Errorf("no keys: %s", got.body)
	}
	made := s.want(201, "POST", "/keys",
		`{"label":"ci","scopes":[{"repositories":"team/**","actions":["pull","push"]}],"expires_in":3600}`, "X-User", "alice")
	id, secret := made.field(t, "id"), made.field(t, "key")
	if made.header.Get("Location") != "/keys/"+id || !strings.HasPrefix(secret, "ork_") || made.header.Get("Content-Type") != "application/json" {
		t.Errorf("created: %v %s", made.header, made.body)
	}
	var all map[string]any
	shown := s.want(200, "GET", "/keys/"+id, "", "X-User", "alice")
	if err := json.Unmarshal([]byte(shown.body), &all); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(all)), []string{"created", "expires", "id", "label", "owner", "provider", "scopes"}; !slices.Equal(got, want) {
		t.Errorf("a key has %v, want %v", got, want)
	}
	if !strings.Contains(shown.body, `"scopes":[{"repositories":"team/**","actions":["pull","push"]}]`) || strings.Contains(shown.body, secret) {
		t.Errorf("shown: %s", shown.body)
	}
	listed := s.want(200, "GET", "/keys", "", "X-User", "alice")
	if !slices.Equal(listed.ids(t), []string{id}) || strings.Contains(listed.body, secret) {
		t.Errorf("listed: %s", listed.body)
	}
	s.accepted(s.keys, "alice", secret)
	s.want(204, "DELETE", "/keys/"+id, "", "X-User", "alice")
	s.refused(s.keys, "alice", secret)
	s.want(404, "DELETE", "/keys/"+id, "", "X-User", "alice")
	s.want(404, "GET", "/keys/"+id, "", "X-User", "alice")
}

// TestOthersKeys: a user doesn't see that there are others; an admin does.
func TestOthersKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alices := s.want(201, "POST", "/keys", "{}", "X-User", "alice").field(t, "id")
	bobs := s.want(201, "POST", "/keys", "{}", "X-User", "bob").field(t, "id")
	unknown := s.want(404, "GET", "/keys/"+strings.Repeat("a", 24), "", "X-User", "bob")
	for _, method := range []string{"GET", "DELETE"} {
		if got := s.want(404, method, "/keys/"+alices, "", "X-User", "bob"); got.body != unknown.body {
			t.Errorf("another's key looks like %s, one that isn't there like %s", got.body, unknown.body)
		}
	}
	for _, target := range []string{"/keys?all=true", "/keys?user=alice", "/keys?provider=ldap"} {
		s.want(403, "GET", target, "", "X-User", "bob")
	}
	s.want(403, "DELETE", "/keys?user=alice", "", "X-User", "bob")
	if ids := s.want(200, "GET", "/keys?all=1", "", "X-User", "root").ids(t); len(ids) != 2 {
		t.Errorf("all are %v", ids)
	}
	if ids := s.want(200, "GET", "/keys?user=alice", "", "X-User", "root").ids(t); !slices.Equal(ids, []string{alices}) {
		t.Errorf("alice's are %v", ids)
	}
	s.want(200, "GET", "/keys/"+bobs, "", "X-User", "root")
	s.want(204, "DELETE", "/keys/"+bobs, "", "X-User", "root")
	s.want(201, "POST", "/keys", "{}", "X-User", "alice")
	if got := s.want(200, "DELETE", "/keys?user=alice", "", "X-User", "root"); got.body != `{"revoked":2}` {
		t.Errorf("revoked: %s", got.body)
	}
	s.want(400, "DELETE", "/keys", "", "X-User", "alice")
	s.want(200, "DELETE", "/keys?user=alice", "", "X-User", "alice")
}

// TestAPIByKey: a key sees itself and what was created by it, and no more; a token nothing.
func TestAPIByKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	made := s.want(201, "POST", "/keys", "{}", "X-User", "alice")
	id, secret := made.field(t, "id"), made.field(t, "key")
	other := s.want(201, "POST", "/keys", "{}", "X-User", "alice").field(t, "id")
	by := []string{"X-User", "alice", "X-Key", secret}
	child := s.want(201, "POST", "/keys", `{"expires_in":600}`, by...).field(t, "id")
	ids := s.want(200, "GET", "/keys", "", by...).ids(t)
	slices.Sort(ids)
	want := []string{id, child}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("it sees %v, want %v", ids, want)
	}
	s.want(404, "GET", "/keys/"+other, "", by...)
	s.want(404, "DELETE", "/keys/"+other, "", by...)
	s.want(403, "DELETE", "/keys?user=alice", "", by...)
	s.want(204, "DELETE", "/keys/"+child, "", by...)
	s.want(204, "DELETE", "/keys/"+id, "", by...)
	s.want(401, "GET", "/keys", "", by...)

	for _, c := range [][2]string{{"GET", "/keys"}, {"GET", "/keys/" + other}, {"DELETE", "/keys/" + other}, {"DELETE", "/keys?user=alice"}} {
		s.want(403, c[0], c[1], "", "X-User", "token")
	}
	s.want(403, "POST", "/keys", "{}", "X-User", "token")

	// A key of an admin's is no admin.
	root := s.want(201, "POST", "/keys", "{}", "X-User", "root").field(t, "key")
	s.people.set(func(d *directory) { d.groups["root"] = nil })
	s.want(403, "GET", "/keys?all=true", "", "X-User", "root", "X-Key", root)
	s.want(404, "DELETE", "/keys/"+other, "", "X-User", "root", "X-Key", root)
}

func TestAPIErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	as := []string{"X-User", "alice"}
	for name, c := range map[string]struct {
		status               int
		method, target, body string
		header               []string
		want                 [2]string
	}{
		"anonymous":         {401, "GET", "/keys", "", nil, [2]string{"Www-Authenticate", `Basic realm="registry"`}},
		"wrong credentials": {401, "GET", "/keys", "", []string{"X-User", "wrong"}, [2]string{"Www-Authenticate", `Basic realm="registry"`}},
		"too many":          {429, "GET", "/keys", "", []string{"X-User", "many"}, [2]string{"Retry-After", "9"}},
		"source down":       {503, "GET", "/keys", "", []string{"X-User", "down"}, [2]string{}},
		"put":               {405, "PUT", "/keys", "{}", as, [2]string{"Allow", "GET, POST, DELETE"}},
		"post to a key":     {405, "POST", "/keys/" + strings.Repeat("a", 24), "{}", as, [2]string{"Allow", "GET, DELETE"}},
		"no such path":      {404, "GET", "/keys/x/y", "", as, [2]string{}},
		"a longer path":     {404, "GET", "/keys" + strings.Repeat("a", 24), "", as, [2]string{}},
		"another path":      {404, "GET", "/other", "", as, [2]string{}},
		"path tricks":       {404, "GET", "/keys/../token/keys", "", as, [2]string{}},
		"no JSON":           {415, "POST", "/keys", "{}", append([]string{"Content-Type", "text/plain"}, as...), [2]string{}},
		"half JSON":         {400, "POST", "/keys", "{", as, [2]string{}},
		"two values":        {400, "POST", "/keys", "{}{}", as, [2]string{}},
		"unknown field":     {400, "POST", "/keys", `{"owner":"root"}`, as, [2]string{}},
		"too large":         {413, "POST", "/keys", `{"label":"` + strings.Repeat("x", 9<<10) + `"}`, as, [2]string{}},
		"too long a life":   {400, "POST", "/keys", `{"expires_in":9223372036854775807}`, as, [2]string{}},
		"negative life":     {400, "POST", "/keys", `{"expires_in":-1}`, as, [2]string{}},
		"no scope":          {400, "POST", "/keys", `{"scopes":[]}`, as, [2]string{}},
		"odd scope":         {400, "POST", "/keys", `{"scopes":[{"repositories":"a","actions":["root"]}]}`, as, [2]string{}},
	} {
		got := s.want(c.status, c.method, c.target, c.body, c.header...)
		if c.want[0] != "" && got.header.Get(c.want[0]) != c.want[1] {
			t.Errorf("%s: %s is %q", name, c.want[0], got.header.Get(c.want[0]))
		}
		if (c.status == 503) != (got.body == "") || c.status != 503 && !strings.HasPrefix(got.body, `{"errors":[{"code":"`) {
			t.Errorf("%s: body %q", name, got.body)
		}
	}
}

// TestForgery: a page of another origin can't have a browser create or revoke keys.
func TestForgery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id := s.want(201, "POST", "/keys", "{}", "X-User", "alice").field(t, "id")
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		header = append(header, "X-User", "alice")
		s.want(403, "POST", "/keys", "{}", header...)
		s.want(403, "DELETE", "/keys/"+id, "", header...)
		s.want(403, "DELETE", "/keys?user=alice", "", header...)
	}
	s.want(201, "POST", "/keys", "{}", "X-User", "alice", "Sec-Fetch-Site", "same-origin")
	s.want(201, "POST", "/keys", "{}", "X-User", "alice", "Origin", "http://example.com") // the host of httptest
}
