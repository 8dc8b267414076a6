package ociregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/origin"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// server is 'caddy oci-registry serve'.
type server struct {
	root     string // default: defaultRoot()
	listen   string // default: 127.0.0.1:5000, or :443 with a domain
	domain   string // default: empty, plain HTTP
	readOnly bool
	debug    bool
}

func serveCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "serve [--root <folder>] [--listen <address>] [--domain <name>] [--read-only] [--debug]",
		Short: "Serves a registry, until it's interrupted",
		Long: `Serves a registry, until it's interrupted: by plain HTTP on this machine only,
or, with --domain, to everybody by HTTPS with a certificate that Caddy gets.

On a loopback address anybody on this machine may push, pull and delete.
Elsewhere anybody may pull and nobody may push: that takes users, and so a
Caddyfile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.root, "root", "r", "", "The folder that keeps the content (default: where the directive oci_registry keeps it)")
	f.StringVarP(&s.listen, "listen", "l", "", "The address to listen on (default 127.0.0.1:5000, with --domain :443)")
	f.StringVarP(&s.domain, "domain", "d", "", "The name to serve by HTTPS")
	f.BoolVarP(&s.readOnly, "read-only", "", false, "Refuse everything that changes content")
	f.BoolVarP(&s.debug, "debug", "v", false, "Log every detail")
	return cmd
}

// run serves until the process is told to stop; it returns only an error.
func (s *server) run(ctx context.Context, out io.Writer) error {
	if err := s.setDefaults(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.root, 0o750); err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	if err := s.checkFree(ctx); err != nil {
		return err
	}
	caddy.TrapSignals()
	if err := caddy.Run(s.config()); err != nil {
		return err
	}
	if _, err := io.WriteString(out, s.greeting()); err != nil {
		return err
	}
	select {}
}

func (s *server) setDefaults() (err error) {
	if s.root == "" {
		s.root = defaultRoot()
	}
	if s.root, err = filesystem.Canonical(s.root); err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	switch {
	case s.listen == "" && s.domain == "":
		s.listen = "127.0.0.1:5000"
	case s.listen == "":
		s.listen = ":443"
	}
	addr, err := caddy.ParseNetworkAddressWithDefaults(s.listen, "tcp", 5000)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	s.listen = addr.String()
	return nil
}

// checkFree says in one line that the address is taken. Caddy's own listeners
// wouldn't notice another Caddy there: they share ports, for reloads.
func (s *server) checkFree(ctx context.Context) error {
	addr, err := caddy.ParseNetworkAddress(s.listen)
	if err != nil || addr.IsUnixNetwork() || addr.PortRangeSize() != 1 {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.JoinHostPort(0))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("something else listens on %s already: stop that, or choose another address, as in --listen %s",
			addr.JoinHostPort(0), net.JoinHostPort(addr.Host, "5001"))
	}
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	return ln.Close()
}

// anonymous is what callers may do without signing in, which nobody can here.
func (s *server) anonymous() authz.Anonymous {
	if s.open() {
		return authz.AnonymousAll
	}
	return authz.AnonymousPull
}

// open reports whether everybody who gets here may do everything: who is on this
// machine. A domain on loopback means that something in front lets others in.
func (s *server) open() bool { return origin.IsLoopback(s.host()) && s.domain == "" }

// hosts are the names that an open registry answers to, so that no page can reach it
// by a name of its own that it points here (DNS rebinding).
func (s *server) hosts() caddyhttp.MatchHost {
	host, _, _ := net.SplitHostPort(s.host())
	names := caddyhttp.MatchHost{"localhost", "127.0.0.1", "::1"}
	if host = strings.Trim(host, "[]"); !slices.Contains(names, host) {
		names = append(names, host)
	}
	return names
}

// host is the host and port that s listens on; without a port for a Unix socket.
func (s *server) host() string {
	addr, err := caddy.ParseNetworkAddress(s.listen)
	if err != nil || addr.IsUnixNetwork() {
		return ""
	}
	return addr.JoinHostPort(0)
}

// config is what Caddy runs: one site with a registry, and no admin endpoint,
// so that it can run beside another Caddy.
func (s *server) config() *caddy.Config {
	site := Handler{
		Name: "serve",
		Page: true,
		Registry: Registry{
			StorageRaw: caddyconfig.JSONModuleObject(FilesystemStorage{Root: s.root}, "module", "filesystem", nil),
			ReadOnly:   s.readOnly,
			Anonymous:  s.anonymous(),
			Health:     "/health",
		},
	}
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		caddyconfig.JSONModuleObject(site, "handler", "oci_registry", nil),
		// Caddy's own answer to what nobody serves is an empty 200, which podman
		// takes for a broken /v1/search.
		caddyconfig.JSONModuleObject(caddyhttp.StaticResponse{StatusCode: "404"}, "handler", "static_response", nil),
	}}
	web := &caddyhttp.Server{
		Listen: []string{s.listen},
		Routes: caddyhttp.RouteList{route},
	}
	if s.domain != "" {
		web.Routes[0].MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(caddyhttp.MatchHost{s.domain}, nil)}}
	} else {
		if s.open() {
			web.Routes[0].MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(s.hosts(), nil)}}
			web.Routes = append(web.Routes, caddyhttp.Route{HandlersRaw: []json.RawMessage{
				caddyconfig.JSONModuleObject(caddyhttp.StaticResponse{
					StatusCode: "421", Body: "This registry is open to this machine alone, and answers to localhost.\n",
				}, "handler", "static_response", nil),
			}})
		}
		web.AutoHTTPS = &caddyhttp.AutoHTTPSConfig{Disabled: true}
		// Without h2 in the list Caddy wraps every connection, and sendfile is lost.
		// With h3 it would say that this wants TLS.
		web.Protocols = []string{"h1", "h2"}
	}
	return &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: new(false)}},
		Logging: s.logging(),
		AppsRaw: caddy.ModuleMap{"http": caddyconfig.JSON(caddyhttp.App{Servers: map[string]*caddyhttp.Server{"registry": web}}, nil)},
	}
}

// logging lets through what an operator must know, so that the greeting stays
// in sight: of the parts that serve also warnings, of Caddy itself only errors.
func (s *server) logging() *caddy.Logging {
	if s.debug {
		return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "DEBUG"}}}}
	}
	parts := []string{"tls", "oci_registry", "http.handlers.oci_registry"}
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}, Exclude: parts},
		"serve":   {BaseLog: caddy.BaseLog{Level: "WARN"}, Include: parts},
	}}
}
