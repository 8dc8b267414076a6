// Package token makes a registry its own Docker token server: clients show their
// credentials once, and what they get for them is a small token that's good for some
// minutes and for what they asked. So anonymous pulls and pushes by users work side by
// side with every client.
//
// It follows distribution's "Token Authentication Specification" and "OAuth2 Token
// Authentication".
package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Options configure a Service. State, Credentials and Authorizer are required.
type Options struct {
	// State is where the keys that sign are, and what was revoked. All replicas share it.
	State keep.Store

	// Admit returns an error, which the client is told, for a request that isn't served,
	// whatever it's for. Default: all are.
	Admit func(*http.Request) error

	// AdmitUser is Admit for who has sent the request, once that's known. Default: all are.
	AdmitUser func(who authz.Identity) error

	// Credentials are what tokens are given for. A token isn't.
	Credentials authn.Method

	// Authorizer says which of the scopes that were asked for are granted. It's asked
	// again when a token is used, so a token has at most what the policy of then gives.
	Authorizer authz.Authorizer

	// Realm returns the URL of the token server, as the client reaches it. Default:
	// https, the request's host and /v2/token.
	Realm func(*http.Request) string

	// Service returns the name of the registry that tokens are good for. Default: the
	// request's host.
	Service func(*http.Request) string

	// Prompt is what a person is told whom the token server asks for a password: the
	// realm of its challenge. Default: Service.
	Prompt string

	// Client says where a request came from. Default: its RemoteAddr.
	Client func(*http.Request) netip.Addr

	// Directory returns the accounts of a provider; nil if it has none. Refresh tokens
	// are for users with an account in one that is Generational. Default: there are none.
	Directory func(provider string) authn.Directory

	// Standing says whether what a token was given for is good still, and returns who
	// it is as of now. ErrRefused if it isn't. With another error, after which it isn't
	// asked for 30 s, and of what it returns errors.ErrUnsupported for, the token is
	// good until it expires.
	// Default: what Directory has, or had up to half of Recheck ago.
	Standing func(ctx context.Context, who authz.Identity) (authz.Identity, error)

	// Recheck is how often Standing is asked for a token in use, and the Directory for its
	// user's Generation, which may be as of half of that ago. Default: 2 s.
	Recheck time.Duration

	// Groups says which groups are put into a token: those that a policy names. Each
	// can only allow more, so those that don't fit are left out, and the log says so.
	// Default: all, and who is in too many for the headers that a client can send gets
	// no token.
	Groups func(group string) bool

	// Claims says which claims of an Identity are put into a token. A condition may be
	// one that's met without a claim, so who has more than fit gets no token.
	// Default: none, but which API key it was.
	Claims func(name string) bool

	// Life is how long a token is good. Default: 5 minutes; 60 s at least, since old
	// clients count on that.
	Life time.Duration

	// RefreshLife is how long a refresh token is good, MaxRefreshLife at most. One that
	// was given when it was longer is good no longer. Default: 30 days; negative: there
	// are none.
	RefreshLife time.Duration

	// UncheckedRefreshLife is RefreshLife for users of whom nobody can say whether the
	// password is still the one that the token was got with. Default: 24 hours, or
	// RefreshLife if that's less.
	UncheckedRefreshLife time.Duration

	// RotateEvery is how old a key becomes that signs. Default: 30 days.
	RotateEvery time.Duration

	// Observe is told what came of each request for a token. Default: nobody is.
	Observe func(*http.Request, Event)

	// Log gets what went wrong on our side. Default: discarded.
	Log *slog.Logger
}

// MaxRefreshLife is the most that RefreshLife may be, and how long it's kept that a
// user's refresh tokens were revoked.
const MaxRefreshLife = 365 * 24 * time.Hour

// Event is a request for a token.
type Event struct {
	Who    authz.Identity // zero if that isn't known
	Grant  string         // "password", "refresh_token", or empty
	Client string         // what the client calls itself
	Scope  string         // what was granted
	Err    error          // why there's no token; nil if there's one
}

func (o Options) withDefaults() (Options, error) {
	if o.State == nil || o.Credentials == nil || o.Authorizer == nil {
		return o, errors.New("token: State, Credentials and Authorizer are required")
	}
	setDefault(&o.Life, 5*time.Minute)
	setDefault(&o.RefreshLife, 30*24*time.Hour)
	setDefault(&o.UncheckedRefreshLife, 24*time.Hour)
	setDefault(&o.RotateEvery, 30*24*time.Hour)
	setDefault(&o.Recheck, 2*time.Second)
	if o.Life < time.Minute {
		return o, fmt.Errorf("token: a life of %v is shorter than a minute, which clients count on", o.Life)
	}
	if o.RefreshLife > MaxRefreshLife {
		return o, fmt.Errorf("token: refresh tokens that are good for %v: want %v at most", o.RefreshLife, MaxRefreshLife)
	}
	if o.RotateEvery < 4*lead {
		return o, fmt.Errorf("token: to rotate every %v is more often than every %v", o.RotateEvery, 4*lead)
	}
	if o.Service == nil {
		o.Service = func(r *http.Request) string { return strings.ToLower(r.Host) }
	}
	if o.Realm == nil {
		o.Realm = func(r *http.Request) string { return "https://" + r.Host + "/v2/token" }
	}
	if o.Client == nil {
		o.Client = remoteAddr
	}
	if o.Directory == nil {
		o.Directory = func(string) authn.Directory { return nil }
	}
	if o.Admit == nil {
		o.Admit = func(*http.Request) error { return nil }
	}
	if o.AdmitUser == nil {
		o.AdmitUser = func(authz.Identity) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

func remoteAddr(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
}

// Service is a token server and the Method of its tokens. Only New makes one. It is
// safe for concurrent use.
type Service struct {
	opts     Options
	ring     *keyring
	verified *lru.Cache[string, *verified]
	checks   singleflight.Group // by token
	revoked  *lru.Cache[string, *revocations]

	accounts    *recent[authz.Identity]
	generations *recent[string]
}

var (
	_ http.Handler = (*Service)(nil)
	_ authn.Method = (*Service)(nil)
)

// remembered is how many tokens, and of how many users what, are remembered.
const remembered = 4096

// New returns a Service. It asks State for nothing yet.
func New(opts Options) (*Service, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Service{opts: opts, ring: newKeyring(opts)}
	s.verified, _ = lru.New[string, *verified](remembered) // it fails for a size that isn't positive
	s.revoked, _ = lru.New[string, *revocations](remembered)
	s.accounts, s.generations = newRecent[authz.Identity](opts.Recheck/2), newRecent[string](opts.Recheck/2)
	if opts.Standing == nil {
		s.opts.Standing = s.lookUp
	}
	return s, nil
}

// lookUp is the Standing of accounts in directories.
func (s *Service) lookUp(ctx context.Context, who authz.Identity) (authz.Identity, error) {
	d := s.opts.Directory(who.Provider)
	if d == nil {
		return authz.Identity{}, errors.ErrUnsupported
	}
	return s.accounts.get(ctx, of(who.Provider, who.ID), func(ctx context.Context) (authz.Identity, error) {
		return d.Lookup(ctx, who.ID)
	})
}
