package authn_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inBubble runs f on a clock of its own, beside other tests.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

var errAway = errors.New("the directory is away")

// method is a Method that always finds the same.
type method struct {
	who       string
	found     bool
	err       error
	challenge string
	asked     int
}

func (m *method) Identify(*http.Request) (authz.Identity, bool, error) {
	m.asked++
	return authz.Identity{ID: m.who}, m.found, m.err
}

func (m *method) Challenge(*http.Request) string { return m.challenge }

// source is a Source with passwords of its own, which counts how often it's asked.
type source struct {
	mu        sync.Mutex
	passwords map[string]string
	asked     []string // names and passwords
	atOnce    int
	most      int           // of those asked at once
	hold      chan struct{} // Authenticate waits for it, unless nil, or for its context
	err       error         // that it couldn't say
	panics    bool
}

// knows returns a source that knows these.
func knows(namesAndPasswords ...string) *source {
	s := &source{passwords: make(map[string]string)}
	for i := 0; i < len(namesAndPasswords); i += 2 {
		s.passwords[namesAndPasswords[i]] = namesAndPasswords[i+1]
	}
	return s
}

func (s *source) Authenticate(ctx context.Context, user, password string) (authz.Identity, error) {
	s.enter(user, password)
	defer s.leave()
	if s.panics {
		panic("the source is broken")
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return authz.Identity{ID: "nobody"}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return authz.Identity{}, s.err
	}
	if want, ok := s.passwords[user]; !ok || want != password {
		return authz.Identity{ID: "nobody"}, authn.ErrRefused
	}
	return authz.Identity{ID: user, Groups: []string{"staff"}, Provider: "test"}, nil
}

func (s *source) enter(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, user+" "+password)
	s.atOnce++
	s.most = max(s.most, s.atOnce)
}

func (s *source) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atOnce--
}

// set changes a password.
func (s *source) set(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passwords[user] = password
}

// times is how often it was asked.
func (s *source) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// request returns a request with these headers Authorization.
func request(t testing.TB, authorization ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	return r
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// try asks a Source, and checks what it says: ID, or an error.
func try(t *testing.T, src authn.Source, user, password string, want error) {
	t.Helper()
	who, err := src.Authenticate(t.Context(), user, password)
	id := user
	if want != nil {
		id = ""
	}
	if !errors.Is(err, want) || who.ID != id {
		t.Errorf("%s %s: %q, %v; want %q, %v", user, password, who.ID, err, id, want)
	}
}
