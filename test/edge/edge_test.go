//go:build real

// Package edge runs the real program with the Caddyfiles of real sites, and
// shows that a registry is whole behind each of them: every certificate, every
// version of HTTP, every other directive and every proxy that a request may come
// through.
package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// answer is a response, whatever its status, whose body was read.
type answer struct {
	*http.Response

	body []byte
}

// ask sends a request without a body. Its header is in pairs of name and value;
// an empty value is none.
func ask(ctx context.Context, r *remote.Registry, method, path string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.URL+path, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := cmp.Or(r.Client, http.DefaultClient).Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body}, errors.Join(err, resp.Body.Close())
}

// check compares the answer's status and some of its header, in pairs of name and value.
func (a answer) check(status int, header ...string) error {
	if a.StatusCode != status {
		return fmt.Errorf("%s %s: %s, want %d: %.300s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	for i := 0; i < len(header); i += 2 {
		if got := a.Header.Get(header[i]); got != header[i+1] {
			return fmt.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL, header[i], got, header[i+1])
		}
	}
	return nil
}

// example is the Caddyfile of one of the examples, with some global options, and
// with what can't be so in a test replaced, in pairs of old and new.
func example(t *testing.T, name, options string, pairs ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(tool.Root(t), "examples", name, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	caddyfile := replace(t, string(raw), pairs...)
	if rest, ok := strings.CutPrefix(caddyfile, "{\n"); ok {
		return "{\n" + options + "\n" + rest
	}
	return "{\n" + options + "\n}\n" + caddyfile
}

// replace replaces each old by its new, in pairs, and fails the test if there's none.
func replace(t *testing.T, s string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("there's no %q in\n%s", pairs[i], s)
		}
		s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
	}
	return s
}

// alice is who may sign in where the examples say so.
var alice = url.UserPassword("alice", "correct horse")

// withAlice returns the program, which has the hash of alice's password in its
// environment.
func withAlice(t *testing.T) (caddy *tool.Tool, hash string) {
	t.Helper()
	caddy = registry.Program(t)
	password, _ := alice.Password()
	hash = caddy.Lines("hash-password", "--bcrypt-cost", "4", "--plaintext", password)[0]
	caddy.Env = append(caddy.Env, "ALICE_HASH="+hash)
	return caddy, hash
}

// signIn makes a client sign in with each request, as clients do that were
// asked to.
func signIn(r *remote.Registry, user *url.Userinfo) {
	next := cmp.Or(r.Client, http.DefaultClient).Transport
	r.Client = &http.Client{Transport: signedIn{cmp.Or(next, http.DefaultTransport), user}}
}

type signedIn struct {
	next http.RoundTripper
	user *url.Userinfo
}

// RoundTrip implements http.RoundTripper.
func (s signedIn) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	password, _ := s.user.Password()
	req.SetBasicAuth(s.user.Username(), password)
	return s.next.RoundTrip(req)
}

// port is the port of an address.
func port(t *testing.T, addr string) int {
	t.Helper()
	_, s, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// write writes a file into dir and returns its path.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
