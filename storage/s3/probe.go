package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
)

// probe finds out whether a store keeps what this package rests on. It runs
// beside serving; who wants to write waits for it.
type probe struct {
	store *Store
	begin func()        // has it write, unless it has begun to
	done  chan struct{} // closed once the store may be written to, or it's known that it never may

	mu       sync.Mutex
	checks   map[string]storage.Check
	failed   error         // what the store doesn't keep
	hitherto error         // why it isn't done, as far as that's known
	changed  chan struct{} // closed when that changes
}

// racers is how many writes race. A store that looks before it writes is found
// by few.
const racers = 16

var (
	// errUntrue is a promise that the store hasn't kept.
	errUntrue = errors.New("not kept")

	// errExpires is how a bucket is set up that removes what is in it.
	errExpires = errors.New("the bucket removes objects by itself")
)

// settle finds out whether the bucket may be written to. Until it can be reached,
// and is set up well, it's tried again.
func (p *probe) settle(ctx context.Context) {
	defer close(p.done)
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := p.attempt(ctx)
		p.conclude(ctx, err)
		if err == nil || errors.Is(err, errUntrue) {
			return
		}
		if sleep(ctx, pause) != nil {
			return
		}
		if errors.Is(err, errExpires) {
			p.look(ctx, true)
		}
	}
}

// attempt returns nil if the bucket may be written to. How it's set up is looked at
// again once it's known to answer, if it didn't before.
func (p *probe) attempt(ctx context.Context) error {
	err := p.expires()
	switch {
	case err != nil:
		return err
	case p.store.options().SingleWriter:
		err = p.store.answers(ctx)
	default:
		err = p.run(ctx)
	}
	if err != nil || p.looked() {
		return err
	}
	p.look(ctx, true)
	return p.expires()
}

// conclude notes what has come of an attempt.
func (p *probe) conclude(ctx context.Context, err error) {
	c := storage.Check{Name: checkConditions, Verdict: storage.Good, Says: "the store keeps the conditions of writes, and reads and lists see the last one"}
	switch {
	case errors.Is(err, errUntrue):
		c.Verdict, c.Says = storage.Bad, err.Error()
	case err != nil:
		c.Verdict, c.Says = storage.Pending, err.Error()
	case p.store.options().SingleWriter:
		c.Verdict, c.Says = storage.Unknown, "they aren't looked at, since no other process writes: single_writer"
	}
	if !errors.Is(err, errExpires) { // which is another check's
		p.found(ctx, c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hitherto = err
	close(p.changed)
	p.changed = make(chan struct{})
	if errors.Is(err, errUntrue) {
		p.failed = err
	}
}

// outcome returns nil if the store may be written to, or why it mayn't yet or at all.
func (p *probe) outcome() error {
	if p.store.options().ReadOnly {
		return fmt.Errorf("%w: the bucket was opened to be read only", storage.ErrStandby)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		if p.failed == nil {
			return nil
		}
		return fmt.Errorf("%w: the store can't be written to by several processes, since it fails a check (%w); "+
			"if no other process ever writes to this bucket, say single_writer", storage.ErrStandby, p.failed)
	default:
	}
	if p.hitherto != nil {
		return fmt.Errorf("%w: nothing is written to the bucket: %w", storage.ErrStandby, p.hitherto)
	}
	return fmt.Errorf("%w: the bucket is still being probed", storage.ErrStandby)
}

// wait is outcome once there's one, which isn't waited for for ever, nor where
// somebody has to do something first.
func (p *probe) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.store.options().RetryFor)
	defer cancel()
	for {
		stuck, changed := p.stuck()
		if stuck {
			return p.outcome()
		}
		select {
		case <-changed:
		case <-p.done:
			return p.outcome()
		case <-ctx.Done():
			return p.outcome()
		}
	}
}

func (p *probe) stuck() (stuck bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store.options().ReadOnly || p.hitherto != nil && !passing(p.hitherto), p.changed
}

func (p *probe) run(ctx context.Context) (err error) {
	var used []string
	key := func() string {
		k := p.store.keys.probe(newID())
		used = append(used, k)
		return k
	}
	for _, check := range []func(context.Context, string) error{p.swaps, p.createRace, p.swapRace} {
		_, err = retry(ctx, p.store.patience, func() (none, error) { return none{}, check(ctx, key()) })
		if err != nil {
			break
		}
	}
	return errors.Join(err, p.store.bucket.remove(ctx, used...))
}

// put makes a conditional put, and reports whether it was done.
func (p *probe) put(ctx context.Context, key, body, match string) (etag string, done bool, err error) {
	what := putRequest{Key: key, Body: []byte(body), IfMatch: match, IfAbsent: match == ""}
	etag, err = p.store.bucket.put(ctx, what)
	if errors.Is(err, errConflict) {
		return "", false, nil
	}
	return etag, err == nil, err
}

// swaps writes one object after another's condition, and reads each.
func (p *probe) swaps(ctx context.Context, key string) error {
	first, done, err := p.put(ctx, key, "first", "")
	if err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("%w: an object that isn't there can't be created with If-None-Match: *", errUntrue)
	}
	if _, done, err = p.put(ctx, key, "again", ""); err != nil || done {
		return untrue(err, "If-None-Match: * overwrites an object")
	}
	second, done, err := p.put(ctx, key, "second", first)
	if err != nil || !done {
		return untrue(err, "an object can't be replaced with If-Match and its ETag")
	}
	if _, done, err = p.put(ctx, key, "third", first); err != nil || done {
		return untrue(err, "If-Match and an old ETag overwrites an object")
	}
	return p.reads(ctx, key, second)
}

func untrue(err error, what string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errUntrue, what)
}

// reads looks at an object that was just written.
func (p *probe) reads(ctx context.Context, key, etag string) error {
	body, now, err := p.store.bucket.fetch(ctx, getRequest{Key: key})
	if err != nil || string(body) != "second" || now != etag {
		return untrue(err, "a read after a write sees something else")
	}
	got, err := p.store.bucket.get(ctx, getRequest{Key: key, IfNoneMatch: etag})
	if err == nil {
		return untrue(got.Close(), "If-None-Match isn't kept by reads")
	}
	if !errors.Is(err, errNotModified) {
		return err
	}
	page, _, err := p.store.bucket.list(ctx, key, "")
	if err != nil || len(page) != 1 || page[0].Key != key {
		return untrue(err, "a list after a write doesn't have it")
	}
	return nil
}

func (p *probe) createRace(ctx context.Context, key string) error {
	return p.race(ctx, key, "", "If-None-Match: *")
}

func (p *probe) swapRace(ctx context.Context, key string) error {
	etag, done, err := p.put(ctx, key, "before", "")
	if err != nil || !done {
		return untrue(err, "an object that isn't there can't be created with If-None-Match: *")
	}
	return p.race(ctx, key, etag, "If-Match")
}

// race lets many write on one condition, of whom one may. Of those that get no
// answer any may have been the one.
func (p *probe) race(ctx context.Context, key, match, condition string) error {
	var done [racers]bool
	var errs [racers]error
	var racing sync.WaitGroup
	for i := range racers {
		racing.Go(func() { _, done[i], errs[i] = p.put(ctx, key, racer(i), match) })
	}
	racing.Wait()
	body, _, err := p.store.bucket.fetch(ctx, getRequest{Key: key})
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	return raced(string(body), done, errs, condition)
}

// raced judges a race by what is there after it. If nobody is known to have won and
// nothing is there, those without an answer needn't have written anything.
func raced(body string, done [racers]bool, errs [racers]error, condition string) error {
	winners, right := 0, false
	var unanswered error
	for i, err := range errs {
		if err != nil && !passing(err) {
			return err
		}
		if err != nil {
			unanswered = err
		}
		if done[i] {
			winners++
		}
		if body == racer(i) {
			right = done[i] || err != nil
		}
	}
	switch {
	case winners > 1:
		return untrue(nil, "of several writers with one "+condition+" not exactly one succeeds")
	case winners == 0 && !isRacer(body) && unanswered != nil:
		return unanswered
	case !right:
		return untrue(nil, "of several writers with one "+condition+" the content isn't the winner's")
	}
	return nil
}

func racer(i int) string { return fmt.Sprint("racer ", i) }

func isRacer(body string) bool { return strings.HasPrefix(body, "racer ") }
