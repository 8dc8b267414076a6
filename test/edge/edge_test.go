//go:build real

// Package edge runs the real program with the Caddyfiles of real sites, and
// shows that a registry is whole behind each of them: every certificate, every
// version of HTTP, every other directive and every proxy that a request may come
// through.
package edge

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

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
