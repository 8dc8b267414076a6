//go:build real

// Package registry starts the real program for a test, as a user would: built
// from ./xcaddy, with a folder, a free port on loopback and no config of the
// user's.
package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

	Host  string          // host:port, as it stands in an image's name
	Root  string          // the folder with the content, if Start or Serve made it
	Admin remote.Registry // Caddy's admin endpoint, if Config made it

	t *testing.T
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
	s := start(t, caddy, "/health/readyz", func(host string) []string { return append(args, "--listen", host) })
	s.Root = root
	return s
}

// Other starts another registry, with the arguments that make it listen on host.
func Other(t *testing.T, program *tool.Tool, args func(host string) []string) *Server {
	t.Helper()
	return start(t, program, "/v2/", args)
}

// Config starts Caddy with a Caddyfile, in which HOST and ADMIN stand for the
// addresses of its site, which answers /v2/, and of the admin endpoint. PORT is
// that of HOST.
func Config(t *testing.T, caddyfile string) *Server {
	t.Helper()
	caddy, admin := Program(t), FreeAddress(t)
	s := start(t, caddy, "/v2/", func(host string) []string {
		path := filepath.Join(caddy.Dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(expand(caddyfile, host, admin)), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"run", "--config", path, "--adapter", "caddyfile"}
	})
	s.Admin = remote.Registry{URL: "http://" + admin}
	return s
}

func expand(caddyfile, host, admin string) string {
	return strings.NewReplacer("HOST", host, "ADMIN", admin, "PORT", host[strings.LastIndexByte(host, ':')+1:]).Replace(caddyfile)
}

// Reload makes a server that Config has started run another Caddyfile.
func (s *Server) Reload(caddyfile string) error {
	config := expand(caddyfile, s.Host, strings.TrimPrefix(s.Admin.URL, "http://"))
	resp, err := s.Admin.Do(s.t.Context(), http.MethodPost, "/load", strings.NewReader(config), "Content-Type", "text/caddyfile")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// start runs a program on a free port, until it answers the path ready. Another
// process may take the port between the look for it and its use: then start
// looks for another one.
func start(t *testing.T, caddy *tool.Tool, ready string, args func(host string) []string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), caddy.Limit)
	defer cancel()
	for range 5 {
		host := FreeAddress(t)
		s := &Server{Server: caddy.Start(args(host)...), Host: host, t: t, Registry: remote.Registry{URL: "http://" + host}}
		err := s.await(ctx, ready)
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

// FreeAddress returns a loopback address, with a port, on which nothing listens.
func FreeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Await waits until the registry answers path with 2xx. The test fails if the
// program ends before, or if that takes more than a minute.
func (s *Server) Await(path string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.await(ctx, path); err != nil {
		s.t.Fatal(err)
	}
}

// await asks again whatever goes wrong: a program that starts may open its port
// more than once.
func (s *Server) await(ctx context.Context, path string) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := s.Get(ctx, path)
		if err == nil {
			return nil
		}
		select {
		case <-s.Exited():
			return s.Ended()
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-again.C:
		}
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
