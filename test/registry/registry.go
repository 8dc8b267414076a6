//go:build real

// Package registry starts the real program for a test, as a user would: built
// from ./xcaddy, with a folder, a free port on loopback and no config of the
// user's.
package registry

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// Server is a running registry. The end of the test stops it.
type Server struct {
	remote.Registry
	*tool.Server

	Address string          // where it listens
	Host    string          // host:port, as it stands in an image's name
	Root    string          // the folder with the content, if Start or Serve made it
	Admin   remote.Registry // Caddy's admin endpoint, if Config made it
	CA      string          // the file with the certificate of Caddy's own authority, if Secure made it

	t     *testing.T
	asked int // how often Requests has asked
}

// Start starts 'oci-registry serve' on a folder of the test's own.
func Start(t *testing.T, args ...string) *Server {
	t.Helper()
	return Serve(t, t.TempDir(), args...)
}

// Serve starts 'oci-registry serve' on the folder root.
func Serve(t *testing.T, root string, args ...string) *Server {
	t.Helper()
	return Run(t, Program(t), root, args...)
}

// Run is Serve by another program, which is Caddy too.
func Run(t *testing.T, caddy *tool.Tool, root string, args ...string) *Server {
	t.Helper()
	args = append([]string{"oci-registry", "serve", "--root", root}, args...)
	s := start(t, caddy, func(s *Server) ([]string, func(context.Context) error) {
		return append(args, "--listen", s.Host), func(ctx context.Context) error { return s.Get(ctx, "/health/readyz") }
	})
	s.Root = root
	return s
}

// Other starts another registry, with the arguments that make it listen on host. It's
// ready once it answers, be it that nobody may ask.
func Other(t *testing.T, program *tool.Tool, args func(host string) []string) *Server {
	t.Helper()
	return start(t, program, func(s *Server) ([]string, func(context.Context) error) {
		return args(s.Host), s.answers
	})
}

// Config starts Caddy with a Caddyfile, in which HOST and ADMIN stand for the
// addresses of its site and of the admin endpoint, and PORT for the site's port.
func Config(t *testing.T, caddyfile string) *Server {
	t.Helper()
	return Configure(t, Program(t), caddyfile)
}

// Configure is Config by a program whose environment is the caller's to set.
func Configure(t *testing.T, caddy *tool.Tool, caddyfile string) *Server {
	t.Helper()
	return start(t, caddy, func(s *Server) ([]string, func(context.Context) error) {
		admin := FreeAddress(t)
		s.Admin = remote.Registry{URL: "http://" + admin}
		// Caddy tells its configuration once it runs, and not before.
		return runCaddyfile(t, caddy.Dir, expand(caddyfile, s.Host, admin)), func(ctx context.Context) error { return s.Admin.Get(ctx, "/config/") }
	})
}

// runCaddyfile is how Caddy is told to run a Caddyfile.
func runCaddyfile(t *testing.T, dir, content string) []string {
	t.Helper()
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"run", "--config", path, "--adapter", "caddyfile"}
}

func expand(caddyfile, host, admin string) string {
	_, port, _ := strings.Cut(host, ":")
	return strings.NewReplacer("HOST", host, "ADMIN", admin, "PORT", port).Replace(caddyfile)
}

// start runs a program on a free port, until it's ready. plan says, for a server
// that has an address, with which arguments it's started and how it's found to
// be ready. Another process may take the port between the look for it and its
// use: then start looks for another one.
func start(t *testing.T, caddy *tool.Tool, plan func(*Server) (args []string, ready func(context.Context) error)) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caddy.Limit)
	defer cancel()
	for range 5 {
		host := FreeAddress(t)
		s := &Server{Address: host, Host: host, t: t, Registry: remote.Registry{URL: "http://" + host}}
		args, ready := plan(s)
		s.Server = caddy.Start(args...)
		err := s.Until(ctx, ready)
		if err == nil {
			return s
		}
		if log := s.Log(); !strings.Contains(log, "already") && !strings.Contains(log, "in use") {
			t.Fatal(err)
		}
	}
	t.Fatal("no free port could be found in five attempts")
	return nil
}

// FreeAddress returns a loopback address, with a port, on which nothing listens, and
// never one again: two that are started at once may listen on the same port, since Caddy
// shares its own.
func FreeAddress(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := ln.Addr().String()
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		if _, again := given.LoadOrStore(address, nil); !again {
			return address
		}
	}
}

// given is what FreeAddress has returned.
var given sync.Map

// Await waits until the registry answers path with 2xx. The test fails if the
// program ends before, or if that takes more than a minute.
func (s *Server) Await(path string) {
	s.t.Helper()
	s.wait(func(ctx context.Context) error { return s.Get(ctx, path) })
}

func (s *Server) wait(ready func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.Until(ctx, ready); err != nil {
		s.t.Fatal(err)
	}
}

// Ref is a reference to an image of this registry, for a client's command line.
func (s *Server) Ref(repository, ref string) string {
	sep := ":"
	if strings.Contains(ref, ":") {
		sep = "@"
	}
	return s.Host + "/" + repository + sep + ref
}

// Push pushes content and fails the test if that fails.
func (s *Server) Push(c *image.Content, repository, tag string) {
	s.t.Helper()
	if err := s.Repository(repository).Push(s.t.Context(), c, tag); err != nil {
		s.t.Fatal(err)
	}
}

// Check fails the test unless the tag or digest names want and all of it is
// there, byte for byte.
func (s *Server) Check(repository, ref string, want *image.Content) {
	s.t.Helper()
	desc, err := s.Repository(repository).Verify(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	if desc.Digest != want.Digest {
		s.t.Fatalf("%s:%s is %s, want %s", repository, ref, desc.Digest, want.Digest)
	}
}
