// Package serve is 'caddy oci-registry serve': a Caddy that has one registry, and needs
// no configuration file.
package serve

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

// Server is a registry that is to be served, as the command's flags say it.
type Server struct {
	Root     string // the folder that keeps the content; default: Module.Root()
	Listen   string // the address; default: 127.0.0.1:5000, or :443 with a domain
	Domain   string // the name to serve by HTTPS; default: empty, plain HTTP
	ReadOnly bool   // refuses everything that changes content
	Debug    bool   // logs every detail

	Module Module
}

// Module is what serves. All of it is required.
type Module struct {
	// Root returns the folder that keeps the content if nobody has said which one.
	Root func() string

	// Handler returns the configuration of an HTTP handler for a registry, with the
	// handler's name as Caddy has it in a list. It has a page for browsers, and says
	// below /health how it is.
	Handler func(Registry) json.RawMessage
}

// Registry is what the handler of a Server is about.
type Registry struct {
	Root      string // absolute
	ReadOnly  bool
	Anonymous authz.Anonymous // what everybody may do, since nobody can sign in
}

// Command returns the command, which serves with m.
func Command(m Module) *cobra.Command {
	s := Server{Module: m}
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
	f.StringVarP(&s.Root, "root", "r", "", "The folder that keeps the content (default: where the directive oci_registry keeps it)")
	f.StringVarP(&s.Listen, "listen", "l", "", "The address to listen on (default 127.0.0.1:5000, with --domain :443)")
	f.StringVarP(&s.Domain, "domain", "d", "", "The name to serve by HTTPS")
	f.BoolVarP(&s.ReadOnly, "read-only", "", false, "Refuse everything that changes content")
	f.BoolVarP(&s.Debug, "debug", "v", false, "Log every detail")
	return cmd
}

// run serves until the process is told to stop; it returns only an error.
func (s *Server) run(ctx context.Context, out io.Writer) error {
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	caddy.TrapSignals()
	if err := caddy.Run(s.Config()); err != nil {
		return err
	}
	if _, err := io.WriteString(out, s.Greeting()); err != nil {
		return err
	}
	select {}
}

// Prepare fills in the defaults, makes the folder, and returns an error if it can't be
// served at the address.
func (s *Server) Prepare(ctx context.Context) error {
	if err := s.setDefaults(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Root, 0o750); err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	return s.checkFree(ctx)
}

func (s *Server) setDefaults() (err error) {
	if s.Root == "" {
		s.Root = s.Module.Root()
	}
	if s.Root, err = filesystem.Canonical(s.Root); err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	switch {
	case s.Listen == "" && s.Domain == "":
		s.Listen = "127.0.0.1:5000"
	case s.Listen == "":
		s.Listen = ":443"
	}
	addr, err := caddy.ParseNetworkAddressWithDefaults(s.Listen, "tcp", 5000)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	s.Listen = addr.String()
	return nil
}

// checkFree says in one line that the address is taken. Caddy's own listeners
// wouldn't notice another Caddy there: they share ports, for reloads.
func (s *Server) checkFree(ctx context.Context) error {
	addr, err := caddy.ParseNetworkAddress(s.Listen)
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
func (s *Server) anonymous() authz.Anonymous {
	if s.open() {
		return authz.AnonymousAll
	}
	return authz.AnonymousPull
}

// open reports whether everybody who gets here may do everything: who is on this
// machine. A domain on loopback means that something in front lets others in.
func (s *Server) open() bool { return origin.IsLoopback(s.host()) && s.Domain == "" }

// hosts are the names that an open registry answers to, so that no page can reach it
// by a name of its own that it points here (DNS rebinding).
func (s *Server) hosts() caddyhttp.MatchHost {
	host, _, _ := net.SplitHostPort(s.host())
	names := caddyhttp.MatchHost{"localhost", "127.0.0.1", "::1"}
	if host = strings.Trim(host, "[]"); !slices.Contains(names, host) {
		names = append(names, host)
	}
	return names
}

// host is the host and port that s listens on; without a port for a Unix socket.
func (s *Server) host() string {
	addr, err := caddy.ParseNetworkAddress(s.Listen)
	if err != nil || addr.IsUnixNetwork() {
		return ""
	}
	return addr.JoinHostPort(0)
}

// Config is what Caddy runs once s is prepared: one site with a registry, and no admin
// endpoint, so that it can run beside another Caddy.
func (s *Server) Config() *caddy.Config {
	site := s.Module.Handler(Registry{Root: s.Root, ReadOnly: s.ReadOnly, Anonymous: s.anonymous()})
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		site,
		// Caddy's own answer to what nobody serves is an empty 200, which podman
		// takes for a broken /v1/search.
		caddyconfig.JSONModuleObject(caddyhttp.StaticResponse{StatusCode: "404"}, "handler", "static_response", nil),
	}}
	web := &caddyhttp.Server{
		Listen: []string{s.Listen},
		Routes: caddyhttp.RouteList{route},
	}
	if s.Domain != "" {
		web.Routes[0].MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(caddyhttp.MatchHost{s.Domain}, nil)}}
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
func (s *Server) logging() *caddy.Logging {
	if s.Debug {
		return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "DEBUG"}}}}
	}
	parts := []string{"tls", "oci_registry", "http.handlers.oci_registry"}
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}, Exclude: parts},
		"serve":   {BaseLog: caddy.BaseLog{Level: "WARN"}, Include: parts},
	}}
}
