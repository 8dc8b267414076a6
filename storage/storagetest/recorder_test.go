package storagetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
)

// recorder is a testing.TB that a check may fail without failing the test that
// watches it. What isn't about failing is the watching test's.
type recorder struct {
	testing.TB

	ctx context.Context //nolint:containedctx // testing.TB has it too

	mu       sync.Mutex
	why      []string
	failed   bool
	cleanups []func()
}

// stuck is how long a watched check may wait for a broken store.
const stuck = 2 * time.Second

// watch runs a check on s, and returns how it failed; nothing if it didn't.
func watch(t *testing.T, check func(testing.TB)) (why []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	r := &recorder{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.finish(cancel)
		check(r)
	}()
	<-done
	if r.failed && len(r.why) == 0 {
		return []string{"failed"}
	}
	return r.why
}

// finish runs the cleanups as testing does: the context ends before them, and
// the last comes first.
func (r *recorder) finish(cancel func()) {
	if p := recover(); p != nil {
		r.Errorf("panic: %v", p)
	}
	cancel()
	for _, fn := range slices.Backward(r.cleanups) {
		fn()
	}
}

func (r *recorder) record(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.why = append(r.why, why)
}

func (r *recorder) Context() context.Context     { return r.ctx }
func (r *recorder) Cleanup(fn func())            { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Helper()                      {}
func (r *recorder) Fail()                        { r.record("Fail") }
func (r *recorder) Error(args ...any)            { r.record(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any) { r.record(fmt.Sprintf(f, args...)) }
func (r *recorder) FailNow()                     { r.record("FailNow"); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)            { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any) { r.Errorf(f, args...); runtime.Goexit() }
func (r *recorder) Failed() bool                 { return r.failed }

// checksByName are all checks of the contract, as part and sentence.
func checksByName() map[string]check {
	all := make(map[string]check)
	for _, p := range contract() {
		for sentence, c := range p.checks {
			all[p.name+": "+sentence] = c
		}
	}
	return all
}

// failures runs a check on a store, which it closes.
func failures(t *testing.T, c check, s storage.Store) []string {
	t.Helper()
	return watch(t, func(tb testing.TB) {
		tb.Cleanup(func() { _ = s.Close() })
		c(tb, s)
	})
}
