package storagetest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
)

// patience is how long a check waits for a store that got stuck. No check that
// passes waits for it.
const patience = 30 * time.Second

// together calls fn with 0 … n-1 at once, and returns what each returned.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// wantOne fails unless exactly one of errs is nil and the others are code. It
// returns which one.
func wantOne(t testing.TB, errs []error, code oci.Code) (winner int) {
	t.Helper()
	winner = -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("%d and %d both succeeded", winner, i)
		case err == nil:
			winner = i
		default:
			wantCode(t, err, code)
		}
	}
	if winner < 0 {
		t.Fatal("nobody succeeded")
	}
	return winner
}

func wantNoErrors(t testing.TB, errs []error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A latch stops a goroutine at a point until the test lets it go on.
type latch struct {
	t        testing.TB
	patient  context.Context //nolint:containedctx // the end of waiting, for both sides
	reached  chan struct{}
	released chan struct{}
	once     sync.Once
}

func newLatch(t testing.TB) *latch {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &latch{t: t, patient: ctx, reached: make(chan struct{}), released: make(chan struct{})}
}

var errStuck = errors.New("storagetest: the test has ended, or gave up waiting")

// stop is called where the goroutine is to stop; the second time it doesn't.
func (l *latch) stop() error {
	l.once.Do(func() { close(l.reached) })
	select {
	case <-l.released:
		return nil
	case <-l.patient.Done():
		return errStuck
	}
}

// wait returns when the goroutine has stopped.
func (l *latch) wait() {
	l.t.Helper()
	select {
	case <-l.reached:
	case <-l.patient.Done():
		l.t.Fatal("the store never got there")
	}
}

// release lets the goroutine go on.
func (l *latch) release() { close(l.released) }

// stall is a reader that gives something, then stops at its latch, then gives
// the rest.
type stall struct {
	io.Reader
	*latch
}

func newStall(t testing.TB, first, rest string) stall {
	l := newLatch(t)
	return stall{io.MultiReader(strings.NewReader(first), gate{l}, strings.NewReader(rest)), l}
}

// gate is an empty reader that stops at a latch.
type gate struct{ latch *latch }

func (g gate) Read([]byte) (int, error) {
	if err := g.latch.stop(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// giveWay lets other goroutines run for a while. No check needs it to pass; it
// gives a store that should wait, and doesn't, the time to show it.
func giveWay() {
	for range 1000 {
		runtime.Gosched()
	}
}

// background calls fn in a goroutine that the test waits for, and returns how
// to wait for what it returned.
func background(t testing.TB, fn func() error) (wait func() error) {
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- fn() })
	t.Cleanup(wg.Wait)
	return func() error { return <-done }
}
