package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
)

// patience says how long a call that fails is tried again. All calls of a store
// share one, so that a store that wants less load gets less from everybody.
type patience struct {
	first, most time.Duration // the pause after the first failure, and the longest

	mu      sync.Mutex
	budget  time.Duration // for all attempts of one call
	pace    time.Duration // between any two calls; 0 if the store wants none
	next    time.Time     // whose turn it is then
	adapted time.Time     // when the pace was last looked at

	calls, complaints int       // that were counted
	counted           time.Time // since when
}

func newPatience(budget time.Duration) *patience {
	return &patience{first: 25 * time.Millisecond, most: 2 * time.Second, budget: budget}
}

// attempts is the trying of one call.
type attempts struct {
	of  *patience
	n   int
	end time.Time
}

func (p *patience) begin() *attempts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &attempts{of: p, end: time.Now().Add(p.budget)}
}

func (p *patience) set(budget time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = budget
}

// again waits before the next attempt. It returns err if there's to be none.
func (a *attempts) again(ctx context.Context, err error) error {
	d := a.of.first << min(a.n, 16)
	if d <= 0 || d > a.of.most {
		d = a.of.most
	}
	return a.after(ctx, d, err)
}

// soon is again after an attempt that failed because another one succeeded: to wait
// for longer and longer would be to lose for longer.
func (a *attempts) soon(ctx context.Context, err error) error {
	return a.after(ctx, a.of.first, err)
}

func (a *attempts) after(ctx context.Context, d time.Duration, err error) error {
	a.n++
	d = d/2 + time.Duration(rand.Int64N(int64(d/2)+1)) //nolint:gosec // it spreads load, and is no secret
	if time.Now().Add(d).After(a.end) {
		return fmt.Errorf("%w: gave up after %d attempts: %w", storage.ErrUnavailable, a.n, err)
	}
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A pace is adapted when so many calls have ended, and so much time has passed. One
// that nobody complains of is much faster after recovery.
const (
	callsToTell = 20
	recovery    = 1500 * time.Millisecond
)

// note makes the pace twice as slow if the store complains of more than every third
// call. A few complaints are no reason: some stores always have some.
func (p *patience) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if errors.Is(err, errSlowDown) {
		p.complaints++
	}
	now := time.Now()
	if p.calls < callsToTell || now.Sub(p.counted) < 4*p.first {
		return
	}
	if 3*p.complaints > p.calls {
		p.pace = min(max(2*p.pace, p.first/64), 4*p.first)
		p.adapted = now
	}
	p.calls, p.complaints, p.counted = 0, 0, now
}

// wait waits for the caller's turn, in a line that's never too long.
func (p *patience) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	turn := now
	if p.pace > 0 {
		quiet := min(now.Sub(p.adapted), recovery)
		p.adapted = now
		if p.pace -= time.Duration(float64(p.pace) * float64(quiet) / float64(recovery)); p.pace < p.first/128 {
			p.pace = 0
		}
		if p.next.After(now) {
			turn = p.next
		}
		if last := now.Add(p.most); turn.After(last) {
			turn = last
		}
		p.next = turn.Add(p.pace)
	}
	p.mu.Unlock()
	return sleep(ctx, turn.Sub(now))
}

// once makes a call at the store's pace.
func once[T any](ctx context.Context, p *patience, call func() (T, error)) (T, error) {
	if err := p.wait(ctx); err != nil {
		var zero T
		return zero, err
	}
	v, err := call()
	p.note(err)
	return v, err
}

// retry makes a call that may be made twice until it succeeds or patience ends.
func retry[T any](ctx context.Context, p *patience, call func() (T, error)) (T, error) {
	for a := p.begin(); ; {
		v, err := once(ctx, p, call)
		if !passing(err) {
			return v, err
		}
		if err := a.again(ctx, err); err != nil {
			return v, err
		}
	}
}

var _ bucket = (*patient)(nil)

// patient is a bucket whose calls are tried again, all but conditional puts: what
// one of those has come to is for its caller to find out.
type patient struct {
	now      atomic.Pointer[bucket]
	patience *patience
}

func newPatient(b bucket, p *patience) *patient {
	patient := &patient{patience: p}
	patient.now.Store(&b)
	return patient
}

// bucket is what is asked from now on: how it's reached may change.
func (p *patient) bucket() bucket { return *p.now.Load() }

func (p *patient) get(ctx context.Context, what getRequest) (*gotten, error) {
	return retry(ctx, p.patience, func() (*gotten, error) { return p.bucket().get(ctx, what) })
}

// fetch reads an object whole.
func (p *patient) fetch(ctx context.Context, what getRequest) (body []byte, etag string, err error) {
	body, err = retry(ctx, p.patience, func() (all []byte, err error) {
		all, etag, err = p.fetchOnce(ctx, what)
		return all, err
	})
	return body, etag, err
}

func (p *patient) fetchOnce(ctx context.Context, what getRequest) (body []byte, etag string, err error) {
	got, err := p.bucket().get(ctx, what)
	if err != nil {
		return nil, "", err
	}
	body, err = io.ReadAll(got)
	if err = errors.Join(err, got.Close()); err != nil {
		err = fmt.Errorf("%w: read %s: %w", errTemporary, what.Key, err)
	}
	return body, got.ETag, err
}

func (p *patient) stat(ctx context.Context, key string) (listed, error) {
	return retry(ctx, p.patience, func() (listed, error) { return p.bucket().stat(ctx, key) })
}

func (p *patient) list(ctx context.Context, prefix, after string) (page []listed, more bool, err error) {
	page, err = retry(ctx, p.patience, func() (found []listed, err error) {
		found, more, err = p.bucket().list(ctx, prefix, after)
		return found, err
	})
	return page, more, err
}

func (p *patient) put(ctx context.Context, what putRequest) (string, error) {
	call := func() (string, error) { return p.bucket().put(ctx, what) }
	if what.conditional() {
		return once(ctx, p.patience, call)
	}
	return retry(ctx, p.patience, call)
}

func (p *patient) remove(ctx context.Context, keys ...string) error {
	_, err := retry(ctx, p.patience, func() (none, error) { return none{}, p.bucket().remove(ctx, keys...) })
	return err
}

func (p *patient) begin(ctx context.Context, key string) (string, error) {
	return retry(ctx, p.patience, func() (string, error) { return p.bucket().begin(ctx, key) })
}

func (p *patient) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	return retry(ctx, p.patience, func() (string, error) { return p.bucket().part(ctx, key, upload, n, body) })
}

// complete has no parts to find if an attempt before has succeeded, as has a
// Commit that was tried again. Then the object is there.
func (p *patient) complete(ctx context.Context, key, upload string, parts []part) error {
	_, err := retry(ctx, p.patience, func() (none, error) { return none{}, p.bucket().complete(ctx, key, upload, parts) })
	if errors.Is(err, errNotFound) {
		_, err = p.stat(ctx, key)
	}
	return err
}

func (p *patient) abort(ctx context.Context, key, upload string) error {
	_, err := retry(ctx, p.patience, func() (none, error) { return none{}, p.bucket().abort(ctx, key, upload) })
	if errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

func (p *patient) begun(ctx context.Context, prefix string, after begun) (page []begun, more bool, err error) {
	page, err = retry(ctx, p.patience, func() (found []begun, err error) {
		found, more, err = p.bucket().begun(ctx, prefix, after)
		return found, err
	})
	return page, more, err
}

func (p *patient) link(ctx context.Context, key string, life time.Duration) (string, error) {
	return p.bucket().link(ctx, key, life)
}

func (p *patient) versioning(ctx context.Context) (bool, error) { return p.bucket().versioning(ctx) }

func (p *patient) retention(ctx context.Context) (string, error) { return p.bucket().retention(ctx) }

func (p *patient) encryption(ctx context.Context) (string, error) { return p.bucket().encryption(ctx) }

func (p *patient) rules(ctx context.Context) ([]rule, error) { return p.bucket().rules(ctx) }

type none struct{}
