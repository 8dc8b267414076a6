package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// avoidFor is how long a server that failed is asked after all others.
const avoidFor = 30 * time.Second

// servers are those of a directory, in the order in which they are to be asked.
type servers struct {
	opts Options
	all  []*server
}

// A server is one of them.
type server struct {
	url     string
	address string
	tls     *tls.Config // nil for plain
	secure  bool        // TLS from the start, no StartTLS
	log     *slog.Logger

	mu     sync.Mutex
	failed time.Time // when it failed last, if it hasn't answered since
}

func newServers(opts Options) (*servers, error) {
	s := &servers{opts: opts}
	if len(opts.URLs) == 1 {
		opts.Log = slog.New(slog.DiscardHandler) // who asks is told
	}
	for _, raw := range opts.URLs {
		host, address, secure, err := parseURL(raw)
		if err != nil {
			return nil, err
		}
		srv := &server{url: raw, address: address, secure: secure, log: opts.Log}
		switch {
		case secure && opts.Plain:
			return nil, fmt.Errorf("%s without TLS: write ldap:// if passwords may go over the network for all to read", raw)
		case !opts.Plain:
			srv.tls = tlsFor(opts.TLS, host)
		}
		s.all = append(s.all, srv)
	}
	return s, nil
}

func tlsFor(config *tls.Config, host string) *tls.Config {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

// order returns the servers in their order, but those that failed of late last.
func (s *servers) order() []*server {
	var well, failed []*server
	for _, srv := range s.all {
		if srv.isAvoided() {
			failed = append(failed, srv)
		} else {
			well = append(well, srv)
		}
	}
	return append(well, failed...)
}

// dial connects to the first server that can be had, and has bind prepare the
// connection. Without one that can be had, the error is that of each.
func (s *servers) dial(ctx context.Context, bind func(context.Context, *conn) error) (*conn, error) {
	var all []error
	for _, srv := range s.order() {
		c, err := s.connect(ctx, srv)
		if err == nil {
			err = bind(ctx, c)
		}
		if err == nil {
			return c, nil
		}
		if c != nil {
			c.close()
		}
		all = append(all, err)
		if ctx.Err() != nil || errors.Is(err, errCredentials) {
			break // it isn't the server's fault
		}
		srv.fail(err)
	}
	return nil, errors.Join(all...)
}

// connect returns a connection to a server that is as secure as it has to be.
func (s *servers) connect(ctx context.Context, srv *server) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.Step, fmt.Errorf("no connection within %v: %w", s.opts.Step, errSlow))
	defer cancel()
	socket, err := s.opts.Dial(ctx, "tcp", srv.address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", srv.url, causeOf(ctx, err))
	}
	c := &conn{wire: &wire{Conn: socket}, to: srv, step: s.opts.Step, made: time.Now()}
	c.wire.left.Store(maxAnswer)
	var stream net.Conn = c.wire
	if srv.secure {
		secured := tls.Client(stream, srv.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = socket.Close()
			return nil, fmt.Errorf("%s: TLS: %w", srv.url, causeOf(ctx, err))
		}
		stream = secured
	}
	c.ldap = ldap.NewConn(stream, srv.secure)
	c.ldap.Start()
	if srv.tls != nil && !srv.secure {
		if err := c.ask(ctx, func(l *ldap.Conn) error { return l.StartTLS(srv.tls) }); err != nil {
			c.close()
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
	}
	return c, nil
}

// causeOf returns why ctx ended, if it did, or else err.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// fail has the server avoided for a while.
func (s *server) fail(err error) {
	if !s.isAvoided() {
		s.log.Warn("a directory server fails", "error", err)
	}
	s.mu.Lock()
	s.failed = time.Now()
	s.mu.Unlock()
}

func (s *server) isAvoided() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.failed.IsZero() && time.Since(s.failed) < avoidFor
}
