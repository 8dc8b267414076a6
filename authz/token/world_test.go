package token_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/oci"
)

var errDown = errors.New("it doesn't answer")

// people are users with passwords, and with accounts that can be asked about.
type people struct {
	mu         sync.Mutex
	passwords  map[string]string
	groups     map[string][]string
	claims     map[string]map[string]any
	generation map[string]string
	limits     map[string][]authz.Scope
	down       bool
}

func newPeople() *people {
	return &people{
		passwords: map[string]string{"alice": "secret", "bob": "hunter2", "root": "toor"}, groups: map[string][]string{"alice": {"dev"}},
		claims: map[string]map[string]any{}, generation: map[string]string{"alice": "1"}, limits: map[string][]authz.Scope{},
	}
}

func (p *people) set(change func(p *people)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *people) identity(user string) authz.Identity {
	return authz.Identity{
		ID: user, Provider: "file", Groups: p.groups[user], Claims: maps.Clone(p.claims[user]), Limit: p.limits[user],
	}
}

// Identify implements authn.Method.
func (p *people) Identify(r *http.Request) (authz.Identity, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, err := r.Cookie("session"); err == nil {
		return p.identity(c.Value), true, nil
	}
	user, password, ok := r.BasicAuth()
	switch {
	case !ok && r.Header.Get("Authorization") != "":
		return authz.Identity{}, true, authn.ErrRefused
	case !ok || user == "" && password == "":
		return authz.Identity{}, false, nil
	case p.down:
		return authz.Identity{}, true, errDown
	case user == "many":
		return authz.Identity{}, true, &oci.Error{Code: oci.TooManyRequests, RetryAfter: 7}
	case password == "" || p.passwords[user] != password:
		return authz.Identity{}, true, authn.ErrRefused
	}
	return p.identity(user), true, nil
}

// Lookup implements authn.Directory.
func (p *people) Lookup(_ context.Context, user string) (authz.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.passwords[user]
	switch {
	case p.down:
		return authz.Identity{}, errDown
	case !ok:
		return authz.Identity{}, authn.ErrRefused
	}
	return p.identity(user), nil
}

// Generation implements token.Generational.
func (p *people) Generation(_ context.Context, user string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation[user], nil
}

// rules are an authz.Authorizer: "public" may be pulled by everybody, a user has the
// repository of its name, root has all; within the limit of who asks.
type rules struct {
	mu     sync.Mutex
	closed bool // to anonymous callers
	down   bool
}

func (p *rules) Authorize(_ context.Context, q authz.Question) (authz.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.down:
		return authz.Answer{}, errDown
	case p.closed && q.Who.IsAnonymous():
		return authz.Answer{}, oci.Errorf(oci.Unauthorized, "sign in")
	}
	for _, w := range q.Want {
		if !may(q.Who, w) || !limited(q.Who.Limit, w) {
			return authz.Answer{}, oci.Errorf(oci.Denied, "no")
		}
	}
	return authz.Answer{Overwrite: true}, nil
}

func may(who authz.Identity, w authz.Access) bool {
	read := w.Action == authz.Pull || w.Action == authz.List
	switch name := w.Repository.String(); {
	case name == "public" && read, who.ID == "root":
		return true
	case name == "":
		return read && !who.IsAnonymous()
	default:
		return who.ID != "" && name == who.ID
	}
}

func limited(limit []authz.Scope, w authz.Access) bool {
	return limit == nil || w.Repository.IsZero() || slices.ContainsFunc(limit, func(s authz.Scope) bool {
		return (s.Repositories == "**" || s.Repositories == w.Repository.String()) && slices.Contains(s.Actions, w.Action)
	})
}

func (p *rules) Filter(ctx context.Context, q authz.Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	return authz.FilterOneByOne(ctx, p, q, names)
}

// world is a token server and what's around it.
type world struct {
	*testing.T

	people *people
	rules  *rules
	opts   token.Options
	s      *token.Service
}

func newWorld(t *testing.T, opts token.Options) *world {
	t.Helper()
	w := &world{T: t, people: newPeople(), rules: new(rules), opts: opts}
	w.opts.Credentials, w.opts.Authorizer = w.people, w.rules
	if w.opts.State == nil {
		w.opts.State = new(keep.Memory)
	}
	if w.opts.Directory == nil {
		w.opts.Directory = func(provider string) authn.Directory {
			if provider == "file" {
				return w.people
			}
			return nil
		}
	}
	w.s = w.replica()
	return w
}

// replica is another process with the same state.
func (w *world) replica() *token.Service {
	w.Helper()
	s, err := token.New(w.opts)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

const host = "registry.example"

func (w *world) request(method, target, body string, header ...string) *http.Request {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, "https://"+host+target, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "basic" {
			user, password, _ := strings.Cut(header[i+1], ":")
			r.SetBasicAuth(user, password)
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// answer is what the token server answers.
type answer struct {
	status int
	header http.Header
	body   string

	Token     string `json:"token"`
	Access    string `json:"access_token"`
	ExpiresIn int    `json:"expires_in"`
	IssuedAt  string `json:"issued_at"`
	Scope     string `json:"scope"`
	Refresh   string `json:"refresh_token"`
}

func (w *world) send(s *token.Service, r *http.Request) answer {
	w.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	body, err := io.ReadAll(rec.Body)
	if err != nil {
		w.Fatal(err)
	}
	a := answer{status: rec.Code, header: rec.Header(), body: string(body)}
	if rec.Header().Get("Cache-Control") != "no-store" {
		w.Errorf("%s %s may be stored", r.Method, r.URL)
	}
	if a.status == http.StatusOK {
		if err := json.Unmarshal(body, &a); err != nil {
			w.Fatalf("%s: %v", body, err)
		}
	}
	return a
}

// get asks with GET for scopes; basic is a name, a colon and a password, or empty.
func (w *world) get(s *token.Service, basic string, scopes ...string) answer {
	w.Helper()
	q := url.Values{"service": {host}, "scope": scopes}
	var header []string
	if basic != "" {
		header = []string{"basic", basic}
	}
	return w.send(s, w.request(http.MethodGet, "/v2/token?"+q.Encode(), "", header...))
}

// post sends a form, given as names and values.
func (w *world) post(s *token.Service, fields ...string) answer {
	w.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return w.send(s, w.request(http.MethodPost, "/v2/token", form.Encode()))
}

// token returns one for the scopes.
func (w *world) token(basic string, scopes ...string) string {
	w.Helper()
	a := w.get(w.s, basic, scopes...)
	if a.status != http.StatusOK || a.Token == "" {
		w.Fatalf("no token: %d %s", a.status, a.body)
	}
	return a.Token
}

func (w *world) accepted(s *token.Service, raw string) authz.Identity {
	w.Helper()
	who, found, err := s.Identify(w.request(http.MethodGet, "/v2/", "", "Authorization", "Bearer "+raw))
	if !found || err != nil {
		w.Fatalf("the token isn't accepted: %t, %v", found, err)
	}
	return who
}

func (w *world) refused(s *token.Service, raw string) {
	w.Helper()
	who, found, err := s.Identify(w.request(http.MethodGet, "/v2/", "", "Authorization", "Bearer "+raw))
	if !found || !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
		w.Fatalf("%+v, %t, %v; want ErrRefused", who, found, err)
	}
	if strings.Contains(err.Error(), raw) {
		w.Fatal("the error has the token in it")
	}
}

func (w *world) foreign(s *token.Service, raw string) {
	w.Helper()
	who, found, err := s.Identify(w.request(http.MethodGet, "/v2/", "", "Authorization", "Bearer "+raw))
	if found || err != nil || !who.IsAnonymous() {
		w.Fatalf("%+v, %t, %v; want that it isn't found", who, found, err)
	}
}

// allowed are the actions that a token's Limit has, as action:repositories.
func allowed(who authz.Identity) []string {
	var all []string
	for _, s := range who.Limit {
		for _, a := range s.Actions {
			all = append(all, string(a)+":"+s.Repositories)
		}
	}
	slices.Sort(all)
	return all
}
