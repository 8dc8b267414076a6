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
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/caddy-oci/oci-registry/test/remote"
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
