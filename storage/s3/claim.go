package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"
)

const (
	// renewEvery is how often who has a claim says that it goes on.
	renewEvery = 20 * time.Second

	// lapsesAfter is how long nothing may be heard of who has a claim.
	lapsesAfter = 4 * renewEvery

	// released is the body of a claim that nobody has.
	released = "released"
)

// claims are what is known of those that other processes have. They lapse by this
// process's own clock: it has seen the same etag for long enough. So the clocks of
// different machines need not agree.
type claims struct {
	mu   sync.Mutex
	seen map[string]sighting
}

// sighting is an etag, and since when it's been there.
type sighting struct {
	etag  string
	since time.Time
}

// lapsed notes the etag of a claim, and reports whether it's been there for long.
func (c *claims) lapsed(name, etag string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]sighting)
	}
	if was := c.seen[name]; was.etag == etag {
		return time.Since(was.since) >= lapsesAfter
	}
	c.seen[name] = sighting{etag, time.Now()}
	return false
}

// Claim implements storage.Maintainable. The claim of a process that died lapses
// for one that has asked twice, with 80 seconds in between.
func (s *Store) Claim(ctx context.Context, name string) (release func(), ok bool, err error) {
	done, err := s.begin()
	if err != nil {
		return nil, false, err
	}
	defer done()
	if err := s.writable(ctx); err != nil {
		return nil, false, err
	}
	c := &claim{store: s, key: s.keys.claim(name), holder: rand.Text()}
	body, etag, err := s.bucket.fetch(ctx, getRequest{Key: c.key})
	switch {
	case err != nil && !errors.Is(err, errNotFound):
		return nil, false, err
	case err == nil && string(body) != released && !s.claims.lapsed(name, etag):
		return nil, false, nil
	}
	c.etag = etag
	if ok, err = c.renew(ctx); !ok {
		return nil, false, err
	}
	return c.hold(context.WithoutCancel(ctx)), true, nil
}

// claim is one that this process has.
type claim struct {
	store  *Store
	key    string
	etag   string
	holder string // what all bodies begin with that this process writes
}

// write changes the claim if nobody has since.
func (c *claim) write(ctx context.Context, body string) error {
	etag, err := c.store.bucket.put(ctx, putRequest{Key: c.key, Body: []byte(body), IfMatch: c.etag, IfAbsent: c.etag == ""})
	if err == nil {
		c.etag = etag
	}
	return err
}

// renew says that the claim goes on, and reports whether it's this process's. With
// an error that isn't known.
func (c *claim) renew(ctx context.Context) (ok bool, err error) {
	err = c.write(ctx, c.holder+rand.Text())
	if err == nil {
		return true, nil
	}
	gone := errors.Is(err, errConflict) || errors.Is(err, errNotFound)
	if !gone && !passing(err) {
		return false, err
	}
	ours, ferr := c.find(ctx)
	switch {
	case ferr != nil:
		return false, ferr
	case ours, gone:
		return ours, nil
	}
	return false, err
}

// find finds out what has come of writes without an answer, one of which may be
// done long after.
func (c *claim) find(ctx context.Context) (ours bool, err error) {
	body, etag, err := c.store.bucket.fetch(ctx, getRequest{Key: c.key})
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	if ours = err == nil && strings.HasPrefix(string(body), c.holder); ours {
		c.etag = etag
	}
	return ours, err
}

// end has the claim be nobody's. Else it lapses.
func (c *claim) end(ctx context.Context) {
	if c.write(ctx, released) == nil {
		return
	}
	if ours, _ := c.find(ctx); ours {
		_ = c.write(ctx, released)
	}
}

// hold renews the claim until release is called, or it's lost.
func (c *claim) hold(ctx context.Context) (release func()) {
	renewed, stop := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-renewed.Done():
				return
			case <-tick.C:
			}
			if ok, err := c.renew(renewed); !ok && !passing(err) {
				return // it lapses; whoever takes it then does no harm
			}
		}
	})
	return sync.OnceFunc(func() {
		stop()
		renewing.Wait()
		last, cancel := context.WithTimeout(ctx, renewEvery)
		defer cancel()
		c.end(last)
	})
}
