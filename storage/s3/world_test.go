package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// world is a bucket whose calls take effect in an order that a seed decides: each
// waits until it's picked, and only then goes on what waited for it. It runs in a
// synctest bubble, so that all is known to wait when one is picked.
type world struct {
	*fake

	random *rand.Rand
	faults float64 // how many of the calls fail, from 0 to 1

	mu      sync.Mutex
	waiting []*step
	late    []func() // writes that their callers have given up, and that come yet
	clients int      // that haven't finished
	clock   int64    // counts calls and answers of clients
	trace   []string
}

// step is a call that waits to be picked.
type step struct {
	label  string
	serial int
	picked chan fate
}

// fate is what becomes of a call.
type fate uint8

const (
	answered fate = iota
	refused
	unanswered // it's done, and nobody hears of it
	belated    // nobody hears of it, and it's done later
)

func newWorld(seed uint64, faults float64) *world {
	w := &world{fake: smallParts(), random: rand.New(rand.NewPCG(seed, 1)), faults: faults}
	w.page = 3
	return w
}

// run picks calls until the clients have finished. What's late comes before that, or at the end.
func (w *world) run() {
	for {
		synctest.Wait()
		w.mu.Lock()
		if w.clients == 0 {
			w.mu.Unlock()
			break
		}
		if len(w.waiting) == 0 { // all sleep
			w.mu.Unlock()
			time.Sleep(time.Millisecond)
			continue
		}
		if n := len(w.late); n > 0 && w.random.IntN(4) == 0 {
			w.comeLate(w.random.IntN(n))
			w.mu.Unlock()
			continue
		}
		slices.SortStableFunc(w.waiting, func(a, b *step) int {
			return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.serial, b.serial))
		})
		i := w.random.IntN(len(w.waiting))
		s := w.waiting[i]
		w.waiting = slices.Delete(w.waiting, i, i+1)
		f := answered
		if w.random.Float64() < w.faults {
			f = refused + fate(w.random.IntN(3))
		}
		w.trace = append(w.trace, fmt.Sprint(s.label, " ", f))
		w.mu.Unlock()
		s.picked <- f
	}
	for len(w.late) > 0 {
		w.comeLate(0)
	}
}

func (w *world) comeLate(i int) {
	do := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	w.trace = append(w.trace, "something comes late")
	do()
}

func (w *world) tick() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	return w.clock
}

// wait waits to be picked.
func (w *world) wait(label string) fate {
	s := &step{label: label, picked: make(chan fate)}
	w.mu.Lock()
	s.serial = len(w.waiting)
	w.waiting = append(w.waiting, s)
	w.mu.Unlock()
	return <-s.picked
}

// replica is the bucket as one process sees it, which may die.
type replica struct {
	*world

	name string
	mu   sync.Mutex
	dead bool
}

var errDead = errors.New("this process has died")

func (r *replica) die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead = true
}

func (r *replica) died() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead
}

type clientKey struct{}

// play makes a call of the bucket when it's picked.
func play[T any](ctx context.Context, r *replica, what string, call func() (T, error)) (T, error) {
	var zero T
	if r.died() {
		return zero, errDead
	}
	f := r.wait(fmt.Sprint(ctx.Value(clientKey{}), " at ", r.name, ": ", what))
	if r.died() {
		return zero, errDead
	}
	switch f {
	case refused:
		return zero, fmt.Errorf("%w: 503", errSlowDown)
	case unanswered:
		_, _ = call()
		return zero, fmt.Errorf("%w: no answer", errTemporary)
	case belated:
		r.world.mu.Lock()
		r.late = append(r.late, func() { _, _ = call() })
		r.world.mu.Unlock()
		return zero, fmt.Errorf("%w: no answer yet", errTemporary)
	default:
		return call()
	}
}

func (r *replica) get(ctx context.Context, what getRequest) (*gotten, error) {
	return play(ctx, r, "get", func() (*gotten, error) { return r.fake.get(ctx, what) })
}

func (r *replica) stat(ctx context.Context, key string) (listed, error) {
	return play(ctx, r, "stat", func() (listed, error) { return r.fake.stat(ctx, key) })
}

func (r *replica) list(ctx context.Context, prefix, after string) (page []listed, more bool, err error) {
	page, err = play(ctx, r, "list", func() (p []listed, err error) {
		p, more, err = r.fake.list(ctx, prefix, after)
		return p, err
	})
	return page, more, err
}

func (r *replica) put(ctx context.Context, what putRequest) (string, error) {
	what.Body = slices.Clone(what.Body)
	return play(ctx, r, "put", func() (string, error) { return r.fake.put(ctx, what) })
}

func (r *replica) remove(ctx context.Context, keys ...string) error {
	_, err := play(ctx, r, "remove", func() (none, error) { return none{}, r.fake.remove(ctx, keys...) })
	return err
}

func (r *replica) begin(ctx context.Context, key string) (string, error) {
	return play(ctx, r, "begin", func() (string, error) { return r.fake.begin(ctx, key) })
}

func (r *replica) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	body = slices.Clone(body)
	return play(ctx, r, "part", func() (string, error) { return r.fake.part(ctx, key, upload, n, body) })
}

func (r *replica) complete(ctx context.Context, key, upload string, parts []part) error {
	_, err := play(ctx, r, "complete", func() (none, error) { return none{}, r.fake.complete(ctx, key, upload, parts) })
	return err
}

func (r *replica) abort(ctx context.Context, key, upload string) error {
	_, err := play(ctx, r, "abort", func() (none, error) { return none{}, r.fake.abort(ctx, key, upload) })
	return err
}

func (r *replica) begun(ctx context.Context, prefix string, after begun) (page []begun, more bool, err error) {
	page, err = play(ctx, r, "begun", func() (p []begun, err error) {
		p, more, err = r.fake.begun(ctx, prefix, after)
		return p, err
	})
	return page, more, err
}
