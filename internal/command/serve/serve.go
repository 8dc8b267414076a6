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
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/authz"
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
