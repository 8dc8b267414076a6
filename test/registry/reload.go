//go:build real

package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Reload makes a server that Config has started run another Caddyfile. No request
// comes to what ran before once it has returned: Caddy answers when it has begun
// to close listeners, which take connections until they are closed.
func (s *Server) Reload(caddyfile string) error {
	config := expand(caddyfile, s.Host, strings.TrimPrefix(s.Admin.URL, "http://"))
	resp, err := s.Admin.Do(s.t.Context(), http.MethodPost, "/load", strings.NewReader(config), "Content-Type", "text/caddyfile")
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
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	v4, err4 := os.ReadFile("/proc/net/tcp")
	v6, err6 := os.ReadFile("/proc/net/tcp6")
	seen := make(map[string]bool)
	for line := range strings.Lines(string(v4) + string(v6)) {
		const listens = "0A"
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != listens || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) {
			continue
		}
		if seen[f[1]] {
			return fmt.Errorf("two sockets listen on port %s", port)
		}
		seen[f[1]] = true
	}
	return errors.Join(err4, err6)
}
