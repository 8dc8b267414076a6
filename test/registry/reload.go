//go:build real

package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// Reload makes a server that Config has started run another Caddyfile. No request
// comes to what ran before once it has returned: Caddy answers when it has begun
// to close listeners, which take connections until they are closed.
func (s *Server) Reload(caddyfile string) error {
	return s.load(expand(caddyfile, s.Host, strings.TrimPrefix(s.Admin.URL, "http://")), "text/caddyfile")
}

// ReloadJSON is Reload of a configuration in Caddy's own form, as it is.
func (s *Server) ReloadJSON(config string) error { return s.load(config, "application/json") }

func (s *Server) load(config, contentType string) error {
	resp, err := s.Admin.Do(s.t.Context(), http.MethodPost, "/load", strings.NewReader(config), "Content-Type", contentType)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	return s.Until(ctx, s.alone)
}

// alone fails as long as two configurations listen at an address with the server's
// port, each with a socket of its own.
func (s *Server) alone(context.Context) error {
	_, port, err := net.SplitHostPort(s.Host)
	if err != nil {
		return err
	}
	all, err := tool.Listening(port)
	seen := make(map[string]bool)
	for _, socket := range all {
		if seen[socket.Address] {
			return fmt.Errorf("two sockets listen on port %s", port)
		}
		seen[socket.Address] = true
	}
	return err
}
