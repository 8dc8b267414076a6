package authn

import (
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// Rate is how often something may be done: Burst times at once, and then one time
// more every Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// LimitOptions configure Limits. All have defaults.
type LimitOptions struct {
	// Delay is how long the answer to wrong credentials is held back. Default: 1 s;
	// less than zero: not at all.
	Delay time.Duration

	// PerUser is how often credentials may be wrong from one address for one name.
	// Default: 10, and one every 10 s.
	PerUser Rate

	// PerAddress is how often they may be wrong from one address, whatever the
	// name. Default: 100, and one every second.
	PerAddress Rate

	// Max is how many addresses, and how many pairs of a name and an address, are
	// counted; the ones that were longest quiet are forgotten. Default: 16,384.
	Max int

	// Client says where a request came from. Default: its RemoteAddr.
	Client func(*http.Request) netip.Addr
}

// Limits count wrong passwords, and slow down who guesses them.
//
// They count by address, and by name at one address. They don't count by name alone:
// whoever knows a user's name could lock that user out. So a wrong password here takes
// nothing from the user elsewhere, and guesses from many addresses are held up by what
// it costs to verify them. An IPv6 address counts as its /64, which is one customer's;
// requests whose address isn't known count as one address.
//
// A password that Verified remembers isn't counted and never refused, whatever was
// wrong before; nor are credentials that can't be guessed, unless they are made up and
// it costs something to find that out (LookUp). Once there were too many, the error is an *oci.Error with
// oci.TooManyRequests and RetryAfter, and the source isn't asked. It is the same
// whether the user exists or not. Limits are safe for concurrent use.
type Limits struct {
	delay  time.Duration
	client func(*http.Request) netip.Addr
	seed   maphash.Seed

	mu        sync.Mutex // guards the records, too
	pairs     *buckets[pair]
	addresses *buckets[netip.Addr]
}

// pair is a name at an address. A hash stands for the name, which may be long.
type pair struct {
	address netip.Addr
	name    uint64 // never 0
}

// NewLimits returns Limits that have counted nothing yet.
func NewLimits(opts LimitOptions) *Limits {
	if opts.Delay == 0 {
		opts.Delay = time.Second
	}
	if opts.PerUser == (Rate{}) {
		opts.PerUser = Rate{Burst: 10, Every: 10 * time.Second}
	}
	if opts.PerAddress == (Rate{}) {
		opts.PerAddress = Rate{Burst: 100, Every: time.Second}
	}
	if opts.Max <= 0 {
		opts.Max = maxBuckets
	}
	if opts.Client == nil {
		opts.Client = remoteAddr
	}
	return &Limits{
		delay:     opts.Delay,
		client:    opts.Client,
		seed:      maphash.MakeSeed(),
		pairs:     newBuckets[pair](opts.PerUser, opts.Max),
		addresses: newBuckets[netip.Addr](opts.PerAddress, opts.Max),
	}
}

// Around returns m within the limits. Around a Chain they count what all its methods
// have refused; around one of its methods they would punish the users of the others.
func (l *Limits) Around(m Method) Method { return limited{l, m} }

type limited struct {
	limits *Limits
	Method
}

var _ Challenger = limited{}

// Identify implements Method.
func (m limited) Identify(r *http.Request) (who authz.Identity, found bool, err error) {
	if r.Header.Get("Authorization") == "" {
		return m.Method.Identify(r)
	}
	err = m.limits.Try(r.Context(), m.limits.client(r), func(ctx context.Context) error {
		who, found, err = m.Method.Identify(r.WithContext(ctx))
		return err
	})
	return who, found, err
}

// Challenge implements Challenger.
func (m limited) Challenge(r *http.Request) string { return challenge(m.Method, r) }

// Try calls fn, which may ask Verified about one name and its passwords, Guess, or LookUp, with
// the context that it's given. Its error is fn's, later if that is ErrRefused or if one
// of them refused the password and fn didn't find out more, and sooner if ctx ends.
func (l *Limits) Try(ctx context.Context, client netip.Addr, fn func(context.Context) error) error {
	a := &attempt{limits: l, address: customer(client)}
	defer l.end(a, false) // if fn panics
	err := fn(context.WithValue(ctx, attemptKey{}, a))
	wrong := a.wrong(err)
	l.end(a, wrong)
	if wrong && l.delay > 0 {
		sleep(ctx, l.delay)
	}
	return err
}

// attempt is one request with a password. Only one goroutine uses it.
type attempt struct {
	limits  *Limits
	address netip.Addr
	pair    pair // zero until a name was sent
	counts  bool // if it turns out to be wrong
	asked   bool // for a permit
	open    bool // it's counted as going on
	begun   pair // as what; zero for the address alone
	refused bool // by one that was asked
	err     error
}

// wrong reports whether an attempt that ended with err had a wrong password. One that a
// source refused counts even if another couldn't say: else an outage of that would be
// the time to guess. One that wasn't let doesn't.
func (a *attempt) wrong(err error) bool {
	return a.counts && (errors.Is(err, ErrRefused) || err != nil && a.refused && a.err == nil)
}

// note keeps what one that was asked has said.
func (a *attempt) note(err error) {
	if a != nil && errors.Is(err, ErrRefused) {
		a.refused = true
	}
}

type attemptKey struct{}

// named notes that the request of ctx has a password of the user, which counts if it
// turns out to be wrong.
func named(ctx context.Context, user string) *attempt {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if ok && a.pair == (pair{}) {
		a.pair, a.counts = pair{a.address, maphash.String(a.limits.seed, user) | 1}, true
	}
	return a
}

// permit returns nil if a password of the user may be verified for who sent the
// request of ctx. Without Limits it may.
func permit(ctx context.Context, user string) error {
	return named(ctx, user).permit(ctx)
}

func (a *attempt) permit(ctx context.Context) error {
	if a == nil {
		return nil
	}
	if !a.asked {
		a.asked = true
		a.err = a.limits.begin(ctx, a)
	}
	return a.err
}

// Guess calls verify, which finds out whether a password of the user is right without
// asking a Verified, if Limits let who sent the request of ctx try one. Its error is
// verify's, which counts if it's ErrRefused, or that of Limits. Without Limits it may.
func Guess(ctx context.Context, user string, verify func() error) error {
	if err := permit(ctx, user); err != nil {
		return err
	}
	err := verify()
	named(ctx, user).note(err)
	return err
}

// LookUp is Guess for credentials that nobody guesses, such as API keys, and that it costs
// something to look up: who makes them up is counted by the address alone.
func LookUp(ctx context.Context, verify func() error) error {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return verify()
	}
	if err := a.permit(ctx); err != nil {
		return err
	}
	a.counts = true
	err := verify()
	a.note(err)
	return err
}

// begin counts an attempt as going on. Until it ends it may turn out to be wrong, so
// there must be a token for it: else a thousand guesses at once would be one. It waits
// for those that go on to end, as they will if a hundred users come at once.
func (l *Limits) begin(ctx context.Context, a *attempt) error {
	for {
		ended, err := l.tryBegin(a)
		if ended == nil || err != nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryBegin is begin, or returns what is closed once it's worth another try.
func (l *Limits) tryBegin(a *attempt) (ended <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	wait, named := l.addresses.wait(a.address, now), a.pair != pair{}
	if named {
		wait = max(wait, l.pairs.wait(a.pair, now))
	}
	if wait > 0 {
		return nil, tooMany(wait, "too many failed logins")
	}
	if named {
		if ended := l.pairs.busy(a.pair, now); ended != nil {
			return ended, nil
		}
	}
	if ended := l.addresses.busy(a.address, now); ended != nil {
		return ended, nil
	}
	if named {
		l.pairs.begin(a.pair)
	}
	l.addresses.begin(a.address)
	a.open, a.begun = true, a.pair
	return nil, nil
}

// end counts an attempt as over, and as wrong if it was.
func (l *Limits) end(a *attempt, wrong bool) {
	if !a.open && !wrong {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if wrong {
		if a.pair != (pair{}) {
			l.pairs.take(a.pair, now)
		}
		l.addresses.take(a.address, now)
	}
	if a.open {
		a.open = false
		if a.begun != (pair{}) {
			l.pairs.end(a.begun, now)
		}
		l.addresses.end(a.address, now)
	}
}

// tooMany is the error that tells a client to come back after wait.
func tooMany(wait time.Duration, text string) error {
	err := oci.Errorf(oci.TooManyRequests, "%s", text)
	if e, ok := errors.AsType[*oci.Error](err); ok {
		e.RetryAfter = int((wait + time.Second - 1) / time.Second)
	}
	return err
}

// customer is what an address is counted as.
func customer(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		p, _ := a.Prefix(64) // 64 fits; a zone is left out
		return p.Addr()
	}
	return a
}

func remoteAddr(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
