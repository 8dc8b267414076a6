package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// down is a bucket that answers everything with an error.
type down struct {
	*fake

	err   error
	calls int
}

func (d *down) get(context.Context, getRequest) (*gotten, error) {
	d.calls++
	return nil, fmt.Errorf("%w: 503", d.err)
}

func (d *down) put(context.Context, putRequest) (string, error) {
	d.calls++
	return "", fmt.Errorf("%w: 503", d.err)
}

// A call is tried again for as long as it may take, less and less often, and what
// comes of it is that the store is unavailable. What is refused isn't tried again.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		err         error
		unavailable bool
	}{
		{"slow down", errSlowDown, true},
		{"no answer", errTemporary, true},
		{"refused", errRefused, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &down{smallParts(), c.err, 0}
				s := open(b, Options{RetryFor: 10 * time.Second})
				defer s.Close()
				begun := time.Now()
				_, err := s.Repository(app).StatBlob(t.Context(), digest.FromString("x"))
				took := time.Since(begun)
				if errors.Is(err, storage.ErrUnavailable) != c.unavailable || err == nil {
					t.Errorf("reading: %v", err)
				}
				if c.unavailable && (b.calls < 8 || b.calls > 20 || took < 7*time.Second || took > 10*time.Second) {
					t.Errorf("%d calls in %v", b.calls, took)
				}
				if !c.unavailable && (b.calls != 1 || took > 0) {
					t.Errorf("%d calls in %v", b.calls, took)
				}
				if err = push(t, s); errors.Is(err, storage.ErrUnavailable) != c.unavailable || err == nil {
					t.Errorf("writing: %v", err)
				}
			})
		})
	}
}

// crowded is a bucket that wants no more than so many calls at a moment.
type crowded struct {
	*fake

	mu               sync.Mutex
	now, most        int
	answered, failed int
}

func (c *crowded) get(ctx context.Context, what getRequest) (*gotten, error) {
	c.mu.Lock()
	c.now++
	refused := c.now > c.most
	if refused {
		c.failed++
	} else {
		c.answered++
	}
	c.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
	if refused {
		return nil, fmt.Errorf("%w: 503", errSlowDown)
	}
	return c.fake.get(ctx, what)
}

// A store that asks to slow down at every fifth call, however few there are, is asked hardly less often for that.
func TestPaceOfAShakyStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFaulty(smallParts(), 1)
		b.refused = 0.4 // half of them by asking to slow down
		s := open(b, Options{RetryFor: time.Minute})
		defer s.Close()
		slowest := time.Duration(0)
		for range 2000 {
			if _, _, err := s.bucket.list(t.Context(), "data/", ""); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, paceOf(s))
		}
		if slowest > 5*time.Millisecond {
			t.Errorf("calls were made every %v", slowest)
		}
	})
}

func paceOf(s *Store) time.Duration {
	s.patience.mu.Lock()
	defer s.patience.mu.Unlock()
	return s.patience.pace
}

// A store that asks all to slow down is asked less by all, and as before once it's well.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &crowded{fake: smallParts(), most: 20}
		s := open(b, Options{})
		defer s.Close()
		if err := push(t, s); err != nil {
			t.Fatal(err)
		}
		var asking sync.WaitGroup
		for i := range 100 {
			asking.Go(func() {
				for range 20 {
					_, err := s.bucket.get(t.Context(), getRequest{Key: s.keys.record(app)})
					if err != nil {
						t.Errorf("client %d: %v", i, err)
					}
				}
			})
		}
		asking.Wait()
		if b.failed > b.answered/2 {
			t.Errorf("%d calls were refused for %d that weren't", b.failed, b.answered)
		}
		slow := paceOf(s)
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			if _, err := s.bucket.get(t.Context(), getRequest{Key: s.keys.record(app)}); err != nil {
				t.Fatal(err)
			}
		}
		if slow == 0 || paceOf(s) != 0 {
			t.Errorf("calls were made every %v, and then every %v", slow, paceOf(s))
		}
		t.Logf("%d calls were refused for %d that weren't, one every %v", b.failed, 2000, slow)
	})
}
