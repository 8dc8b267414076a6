package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/caddy-oci/oci-registry/authz"
)

// VerifiedOptions configure a Verified. All have defaults.
type VerifiedOptions struct {
	// TTL is how long an answer of the source counts. Default: 5 minutes.
	TTL time.Duration

	// Max is how many right passwords are remembered, and how many wrong ones.
	// Default: 4096.
	Max int

	// Concurrency is how many passwords the source is asked about at once; others
	// wait. Default: GOMAXPROCS, for a source whose work is to hash.
	Concurrency int
}

const (
	defaultTTL = 5 * time.Minute
	defaultMax = 4096

	// refusedTTL is how long a refusal counts of a source that doesn't say when it
	// would answer otherwise.
	refusedTTL = 3 * time.Second
)

// A Versioned source says when what it knows of a user has changed, so that nothing is
// remembered beyond that.
type Versioned interface {
	// Version returns a number for what is known of the user: 0 if there's no such
	// user, else another one as soon as it changes, and never one that it had before.
	// It is asked with every request.
	Version(user string) uint64
}

// Verified is a Source that remembers what another one says: clients send a password
// with every request, and to hash one takes from 80 ms to a second.
//
// It remembers no password, only a keyed hash of name and password, with a key that is
// random and never leaves the process. If the source is Versioned, what it has changed
// counts at once; of one that isn't, refusals are remembered for 3 s only. That the
// source couldn't say is never remembered. Requests with the same credentials that come
// at the same time ask the source once. Verified is safe for concurrent use.
//
// The Identity that it returns is shared: its Groups, Claims and Limit must not be changed.
type Verified struct {
	source          Source
	version         func(user string) uint64
	versioned       bool
	ttl, refusedTTL time.Duration
	slots           chan struct{} // each that asks the source has one
	macs            sync.Pool     // of *mac
	secret          [sha256.Size]byte

	mu      sync.Mutex // guards the rest
	right   *simplelru.LRU[credential, verified]
	wrong   *simplelru.LRU[credential, time.Time] // until when; apart, since anybody can add to it
	flights map[credential]*flight
}

var (
	_ Source    = (*Verified)(nil)
	_ Directory = (*Verified)(nil)
)

// NewVerified returns a Verified that remembers what source says.
func NewVerified(source Source, opts VerifiedOptions) *Verified {
	if opts.TTL <= 0 {
		opts.TTL = defaultTTL
	}
	if opts.Max <= 0 {
		opts.Max = defaultMax
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = runtime.GOMAXPROCS(0)
	}
	v := &Verified{
		source:     source,
		version:    func(string) uint64 { return 0 },
		ttl:        opts.TTL,
		refusedTTL: min(opts.TTL, refusedTTL),
		slots:      make(chan struct{}, opts.Concurrency),
		flights:    make(map[credential]*flight),
	}
	if versioned, ok := source.(Versioned); ok {
		v.version, v.versioned, v.refusedTTL = versioned.Version, true, opts.TTL
	}
	v.right, _ = simplelru.NewLRU[credential, verified](opts.Max, nil) // Max is positive
	v.wrong, _ = simplelru.NewLRU[credential, time.Time](opts.Max, nil)
	_, _ = rand.Read(v.secret[:]) // it never fails
	return v
}

// Authenticate implements Source. While it waits for its turn, or for the answer to
// somebody else's question, it ends with ctx.
func (v *Verified) Authenticate(ctx context.Context, user, password string) (authz.Identity, error) {
	if password == "" {
		return authz.Identity{}, errNoPassword
	}
	c := v.credential(user, password)
	for {
		a, f, leads := v.board(c)
		if f == nil {
			if a.err != nil {
				named(ctx, user).note(a.err)
			}
			return a.who, a.err
		}
		if leads {
			return v.ask(ctx, f, user, password)
		}
		select {
		case <-f.done:
			if !f.broken {
				named(ctx, user).note(f.err)
				return f.who, f.err
			}
		case <-ctx.Done():
			return authz.Identity{}, ctx.Err()
		}
	}
}

var errNoPassword = fmt.Errorf("%w: no password", ErrRefused)

// Lookup implements Directory. It remembers nothing. If the source is no Directory,
// the error is errors.ErrUnsupported.
func (v *Verified) Lookup(ctx context.Context, user string) (authz.Identity, error) {
	if d, ok := v.source.(Directory); ok {
		return d.Lookup(ctx, user)
	}
	return authz.Identity{}, fmt.Errorf("look up a user without a password: %w", errors.ErrUnsupported)
}

// Generation is that of the source: what changes with the user's password. It remembers
// nothing. Of a source that has none it's empty.
func (v *Verified) Generation(ctx context.Context, user string) (string, error) {
	if g, ok := v.source.(generational); ok {
		return g.Generation(ctx, user)
	}
	return "", nil
}

// generational is a source that knows which of a user's passwords is the present one.
type generational interface {
	Generation(ctx context.Context, user string) (string, error)
}
