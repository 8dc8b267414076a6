package state

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a Backend that notes what happens to its stores.
type place struct {
	fail error // of the next Open

	mu      sync.Mutex
	opened  int
	closed  int
	tunedBy []string

	onClose func()
}

// generation is the place as one configuration wants it.
type generation struct {
	*place
	name string
}

func (g generation) Open(ctx context.Context) (storage.Store, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := errors.Join(ctx.Err(), g.fail); err != nil {
		g.fail = nil
		return nil, err
	}
	g.opened++
	if g.opened-g.closed > 1 {
		panic("opened while it's open")
	}
	return &fakeStore{place: g.place}, nil
}

func (g generation) Tune(storage.Store) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tunedBy = append(g.tunedBy, g.name)
}

type fakeStore struct {
	storage.Store
	place  *place
	closed atomic.Bool
}

func (s *fakeStore) Ready(context.Context) error {
	if s.closed.Load() {
		return storage.ErrClosed
	}
	return nil
}

func (s *fakeStore) Close() error {
	if f := s.place.onClose; f != nil {
		f()
	}
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.closed++
	s.closed.Store(true)
	return nil
}

func mustOpen(t *testing.T, l *Lease) storage.Store {
	t.Helper()
	s, err := l.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func held(identity string) bool {
	pool.Lock()
	defer pool.Unlock()
	_, ok := pool.states[identity]
	return ok
}

func TestAcquireDoesNothingElse(t *testing.T) {
	t.Parallel()
	p := new(place)
	l := Acquire(t.Name(), generation{p, "a"})
	must(t, l.Release())
	if p.opened != 0 || p.closed != 0 || len(p.tunedBy) != 0 || held(t.Name()) {
		t.Fatalf("opened %d, closed %d, tuned %v, held %v; want nothing", p.opened, p.closed, p.tunedBy, held(t.Name()))
	}
}

func TestGenerationsShareOneStore(t *testing.T) {
	t.Parallel()
	p := new(place)
	a, b := Acquire(t.Name(), generation{p, "a"}), Acquire(t.Name(), generation{p, "b"})
	if mustOpen(t, a) != mustOpen(t, b) {
		t.Fatal("two stores for one place")
	}
	must(t, a.Release())
	must(t, a.Release()) // Caddy may clean up twice
	if p.closed != 0 {
		t.Fatal("closed while a generation holds it")
	}
	must(t, b.Release())
	if p.opened != 1 || p.closed != 1 || held(t.Name()) {
		t.Fatalf("opened %d, closed %d, held %v", p.opened, p.closed, held(t.Name()))
	}
}

func TestLastRequestCloses(t *testing.T) {
	t.Parallel()
	p := new(place)
	l := Acquire(t.Name(), generation{p, "a"})
	mustOpen(t, l)
	for range 2 {
		if !l.Enter() {
			t.Fatal("Enter refused a request of a live generation")
		}
	}
	must(t, l.Release())
	if !l.Enter() { // a third one of the old generation, late but in company
		t.Fatal("Enter refused while others are inside")
	}
	for range 2 {
		must(t, l.Exit())
	}
	if p.closed != 0 {
		t.Fatal("closed under a request")
	}
	must(t, l.Exit())
	if p.closed != 1 {
		t.Fatalf("closed %d times, want once", p.closed)
	}
	if l.Enter() {
		t.Fatal("Enter succeeded on a generation that's gone")
	}
}

// A server may accept a connection just before a reload and read its request
// just after.
func TestLateRequestOfAnOldGeneration(t *testing.T) {
	t.Parallel()
	p := new(place)
	before, after := Acquire(t.Name(), generation{p, "a"}), Acquire(t.Name(), generation{p, "b"})
	store := mustOpen(t, before)
	must(t, before.Release())
	for range 2 { // and another one, after the first was alone in the generation
		for range 2 {
			if !before.Enter() {
				t.Fatal("Enter refused, though the place is in use")
			}
		}
		if mustOpen(t, before) != store {
			t.Fatal("another store")
		}
		must(t, before.Exit())
		must(t, before.Exit())
	}
	if !before.Enter() {
		t.Fatal("Enter refused")
	}
	must(t, after.Release())
	if p.closed != 0 {
		t.Fatal("closed under a late request")
	}
	must(t, before.Exit())
	if p.closed != 1 || before.Enter() {
		t.Fatalf("closed %d times, want once and for all", p.closed)
	}
}

func TestOpenIsRetried(t *testing.T) {
	t.Parallel()
	want := errors.New("no such disk")
	p := &place{fail: want}
	l := Acquire(t.Name(), generation{p, "a"})
	if _, err := l.Open(t.Context()); !errors.Is(err, want) {
		t.Fatalf("Open: %v, want %v", err, want)
	}
	mustOpen(t, l)
	must(t, l.Release())
	if p.opened != 1 || p.closed != 1 {
		t.Fatalf("opened %d, closed %d, want 1 and 1", p.opened, p.closed)
	}
}

func TestOpenOutlivesTheRequestThatAsked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := Acquire(t.Name(), generation{new(place), "a"})
	if _, err := l.Open(ctx); err != nil {
		t.Fatalf("Open for a client that left: %v", err)
	}
	must(t, l.Release())
}

func TestNewestStartedGenerationTunes(t *testing.T) {
	t.Parallel()
	p := new(place)
	a := Acquire(t.Name(), generation{p, "a"})
	a.Start()
	mustOpen(t, a)                             // tunes a
	b := Acquire(t.Name(), generation{p, "b"}) // a reload that fails
	b.Start()
	must(t, b.Release()) // without Stop: Caddy cleans up without it if it fails late
	c := Acquire(t.Name(), generation{p, "c"})
	c.Start()
	a.Stop()
	must(t, a.Release())
	c.Stop()
	must(t, c.Release())
	want := []string{"a", "b", "a", "c", "c"}
	if !slices.Equal(p.tunedBy, want) {
		t.Fatalf("tuned by %v, want %v", p.tunedBy, want)
	}
}

// seen is a generation that is asked before it tunes.
type seen struct {
	generation
	before func()
}

func (s seen) Tune(store storage.Store) {
	s.before()
	s.generation.Tune(store)
}

// Nobody finds a store that has the tunables of whoever opened it.
func TestStoreIsTunedBeforeItIsFound(t *testing.T) {
	t.Parallel()
	var l *Lease
	l = Acquire(t.Name(), seen{generation{new(place), "a"}, func() {
		if l.state.opened.Load() != nil {
			t.Error("the store is found already")
		}
	}})
	l.Start()
	mustOpen(t, l)
	must(t, l.Release())
}

// A successor that comes while the store is being closed must neither use the
// store nor open a second one beside it.
func TestAcquireWhileClosing(t *testing.T) {
	t.Parallel()
	p := new(place)
	first := Acquire(t.Name(), generation{p, "a"})
	mustOpen(t, first)
	var second *Lease
	p.onClose = func() {
		p.onClose = nil
		second = Acquire(t.Name(), generation{p, "b"})
		if second.state.opened.Load() != nil {
			t.Error("the successor finds the store open that is being closed")
		}
	}
	must(t, first.Release())
	if second.state != first.state {
		t.Fatal("the successor got another State: it could open the place before it's closed")
	}
	mustOpen(t, second) // place.Open panics if it's open already
	third := Acquire(t.Name(), generation{p, "c"})
	mustOpen(t, third)
	must(t, second.Release())
	must(t, third.Release())
	if p.opened != 2 || p.closed != 2 || held(t.Name()) {
		t.Fatalf("opened %d, closed %d, held %v", p.opened, p.closed, held(t.Name()))
	}
}

// A successor that comes before the store is being closed finds it open.
func TestAcquireBeforeClosing(t *testing.T) {
	t.Parallel()
	p := new(place)
	first := Acquire(t.Name(), generation{p, "a"})
	store := mustOpen(t, first)
	if !first.Enter() {
		t.Fatal("Enter refused")
	}
	must(t, first.Release())
	first.state.mu.Lock()
	exited := make(chan error)
	go func() { exited <- first.Exit() }()
	for isLeased(first.state) { // until Exit waits for mu
		runtime.Gosched()
	}
	second := Acquire(t.Name(), generation{p, "b"})
	first.state.mu.Unlock()
	must(t, <-exited)
	if mustOpen(t, second) != store || p.closed != 0 {
		t.Fatalf("the store was closed, %d times", p.closed)
	}
	must(t, second.Release())
}

func isLeased(s *State) bool {
	pool.Lock()
	defer pool.Unlock()
	return s.leases > 0
}

// place.Open panics if the place is open already.
func TestManyGenerationsAtOnce(t *testing.T) {
	t.Parallel()
	p := new(place)
	var underRequest atomic.Int64 // stores that closed under a request
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l := Acquire(t.Name(), generation{p, "x"})
				l.Start()
				var requests sync.WaitGroup
				for range 3 {
					requests.Go(func() {
						if !l.Enter() {
							return
						}
						if s, err := l.Open(t.Context()); err != nil || s.Ready(t.Context()) != nil {
							underRequest.Add(1)
						}
						_ = l.Exit()
					})
				}
				_, _ = l.Open(t.Context())
				l.Stop()
				_ = l.Release()
				requests.Wait()
			}
		})
	}
	wg.Wait()
	if p.opened != p.closed || p.opened == 0 || underRequest.Load() != 0 || held(t.Name()) {
		t.Fatalf("opened %d, closed %d, %d closed under a request, held %v", p.opened, p.closed, underRequest.Load(), held(t.Name()))
	}
}
