// Package ldap asks a directory server for users and their groups, as a Source and
// a Directory of package authn.
//
// A login is a search for the user's entry, then a bind as that entry with the
// password; what the directory thinks of a password is its own affair. Nothing is
// kept: a changed password, a removed account and a new group hold for the next
// question. Whoever wants fewer of them puts a cache around the Source.
package ldap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// A Source is the users of a directory. It is safe for concurrent use.
type Source struct {
	opts     Options
	servers  *servers
	searches *pool  // bound as Options.BindDN
	logins   *pool  // bound as whoever it was used for last, and used for binds only
	nobody   string // a DN that no entry has
	refusal  refusal
}

var (
	_ authn.Source    = (*Source)(nil)
	_ authn.Directory = (*Source)(nil)
)

// New returns the source that opts describe. It asks no server: one that's down is
// found out when a user comes. The caller closes the source.
func New(opts Options) (*Source, error) {
	opts = opts.withDefaults()
	if err := opts.check(); err != nil {
		return nil, err
	}
	list, err := newServers(opts)
	if err != nil {
		return nil, err
	}
	s := &Source{opts: opts, servers: list, nobody: opts.UserAttribute + "=" + rand.Text() + "," + opts.Base}
	s.searches = newPool(opts, func(ctx context.Context) (*conn, error) { return list.dial(ctx, s.bindService) })
	s.logins = newPool(opts, func(ctx context.Context) (*conn, error) { return list.dial(ctx, unbound) })
	return s, nil
}

// unbound leaves a connection as it is.
func unbound(context.Context, *conn) error { return nil }

// Close closes the connections that are idle, and the others once they're done with.
// Who still asks is answered, by connections that aren't kept.
func (s *Source) Close() error {
	s.searches.close()
	s.logins.close()
	return nil
}

// Authenticate implements authn.Source. A user that isn't there costs a search and a
// bind like any other; how long the server ponders over either is the server's.
//
// An error that isn't ErrRefused means that no server could say: none answers in
// time, Options.BindDN is refused, the base isn't there, two entries have the name.
func (s *Source) Authenticate(ctx context.Context, user, password string) (authz.Identity, error) {
	if !isName(user) || !isPassword(password) {
		return authz.Identity{}, authn.ErrRefused
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	found, err := s.find(ctx, user)
	if errors.Is(err, authn.ErrRefused) {
		return authz.Identity{}, s.bindNobody(ctx, password)
	}
	if err != nil {
		return authz.Identity{}, err
	}
	if err := s.bindUser(ctx, found.DN, password); err != nil {
		return authz.Identity{}, err
	}
	return s.identity(ctx, found)
}

// Lookup implements authn.Directory. A user that Options.Filter leaves out isn't there.
func (s *Source) Lookup(ctx context.Context, user string) (authz.Identity, error) {
	if !isName(user) {
		return authz.Identity{}, authn.ErrRefused
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	found, err := s.find(ctx, user)
	if err != nil {
		return authz.Identity{}, err
	}
	return s.identity(ctx, found)
}

func (s *Source) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.opts.Limit, fmt.Errorf("the directory didn't answer within %v: %w", s.opts.Limit, errSlow))
}

func (s *Source) identity(ctx context.Context, u *user) (authz.Identity, error) {
	groups, err := s.groups(ctx, u)
	if err != nil {
		return authz.Identity{}, fmt.Errorf("groups of %s: %w", u.DN, err)
	}
	return authz.Identity{ID: u.id, Groups: groups, Provider: s.opts.Provider, Claims: map[string]any{"dn": u.DN}}, nil
}

// The longest name and password that a directory is asked for, in bytes. Tokens, which
// come as passwords too, are longer: they're none of its business.
const maxName, maxPassword = 256, 1 << 10

// isName reports whether a directory could know a user of the name. Servers leave
// control characters out when they compare, which would give a user many names.
func isName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// isPassword reports whether a password may be sent. An empty one would make a bind
// that asks for no authentication, and succeeds: RFC 4513, section 5.1.2.
func isPassword(password string) bool {
	return password != "" && len(password) <= maxPassword && !strings.ContainsRune(password, 0)
}

// bindUser returns nil if the password is that of the entry.
func (s *Source) bindUser(ctx context.Context, dn, password string) error {
	err := s.bind(ctx, dn, password)
	if isAnswer(err, refusals...) {
		return authn.ErrRefused
	}
	if err != nil {
		return fmt.Errorf("bind as %s: %w", dn, err)
	}
	return nil
}

// bindNobody does what a bind with a wrong password does, for a user that isn't there.
// It never returns nil.
func (s *Source) bindNobody(ctx context.Context, password string) error {
	if err := s.bind(ctx, s.nobody, password); err != nil && !isAnswer(err) {
		return fmt.Errorf("bind as nobody: %w", err)
	}
	return authn.ErrRefused
}

func (s *Source) bind(ctx context.Context, dn, password string) error {
	return s.logins.with(ctx, func(c *conn) error {
		return c.ask(ctx, func(l *ldap.Conn) error { return l.Bind(dn, password) })
	})
}
