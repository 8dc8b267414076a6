package filesystem

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
)

// How long the background work waits.
const (
	idleTime  = 500 * time.Millisecond // without a change, until index.json is brought up to date
	foldFrom  = 1 << 20                // bytes of log that may be folded however busy it is
	foldLimit = 64 << 20               // bytes of log that are folded however many names there are
	pullTime  = time.Minute            // between two writes of when manifests were pulled
	tickTime  = 250 * time.Millisecond // between two looks, while there's something to do
	retryTime = 10 * time.Second       // after a settling that failed, until it's tried again
	lockTime  = time.Second            // between two tries to become the writer
)

// background does what no request waits for. Store.Close waits for it.
type background struct {
	ctx    context.Context //nolint:containedctx // of the store's life, which no call brings along
	cancel context.CancelFunc
	done   sync.WaitGroup
	signal chan struct{} // something is to be done

	trouble string // what tend said last; only its goroutine looks at it

	mu      sync.Mutex
	changed map[*repo]bool // to be settled; each is in use by being in here
	pulls   map[*repo]bool
}

func newBackground() *background {
	b := &background{
		signal:  make(chan struct{}, 1),
		changed: make(map[*repo]bool),
		pulls:   make(map[*repo]bool),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *background) start(s *Store) {
	b.done.Go(func() { b.run(b.ctx, s) })
}

// stop ends the work, after bringing what's left of it to its end.
func (b *background) stop() {
	b.cancel()
	b.done.Wait()
	b.settle(true)
	b.writePulls()
	for r := range b.changed {
		r.store.repos.done(r) // what couldn't be folded stays in the log
	}
	for r := range b.pulls {
		r.store.repos.done(r)
	}
}

// do runs fn until it returns; its context ends with the store.
func (b *background) do(fn func(context.Context)) {
	b.done.Go(func() { fn(b.ctx) })
}

// wake asks for r to be settled once it is idle.
func (b *background) wake(r *repo) { b.add(&b.changed, r) }

// pulled asks for r's pulls to be written down.
func (b *background) pulled(r *repo) { b.add(&b.pulls, r) }

// add adds r, which the caller uses, to one of the maps that mu guards.
func (b *background) add(to *map[*repo]bool, r *repo) {
	b.mu.Lock()
	known := (*to)[r]
	if !known {
		(*to)[r.store.repos.use(r.name)] = true
	}
	b.mu.Unlock()
	if !known {
		b.poke()
	}
}

// poke makes the background look at what there's to do.
func (b *background) poke() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

func (b *background) run(ctx context.Context, s *Store) {
	b.tend(s)
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	ticking := true
	lock, pulls := time.Now(), time.Now()
	for {
		needed := !b.idle() || !s.lock.held() || s.space.full.Load() || s.sessions.unsaved.Load() > 0
		if ticking && !needed {
			tick.Stop()
		} else if needed && !ticking { // a Reset at every signal could put off the tick for ever
			tick.Reset(tickTime)
		}
		ticking = needed
		select {
		case <-ctx.Done():
			return
		case <-b.signal:
			continue
		case <-tick.C:
		}
		if time.Since(lock) > lockTime {
			lock = time.Now()
			b.tend(s)
		}
		b.settle(false)
		s.sessions.saveRested()
		if time.Since(pulls) > pullTime {
			pulls = time.Now()
			b.writePulls()
		}
	}
}

func (b *background) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.changed) == 0 && len(b.pulls) == 0
}

// tend tries to become the writer, and keeps the reserve.
func (b *background) tend(s *Store) {
	err := s.lock.try()
	if err == nil {
		err = s.space.keep()
	}
	if errors.Is(err, storage.ErrStandby) && !errors.Is(err, vfs.ErrMoved) {
		err = nil
	}
	was := b.trouble
	b.trouble = ""
	if err != nil {
		b.trouble = full(err).Error()
	}
	if b.trouble != "" && b.trouble != was {
		s.log().Warn("the store can't be written", "error", b.trouble)
	}
}

// settle brings index.json of the repositories up to date that are idle.
func (b *background) settle(all bool) {
	b.mu.Lock()
	var due []*repo
	for r := range b.changed {
		if all || r.due() {
			due = append(due, r)
		}
	}
	b.mu.Unlock()
	for _, r := range due {
		if err := r.settle(); err != nil {
			r.store.log().Error("index.json isn't up to date", "repository", r.name.String(), "error", full(err))
			continue // it's tried again
		}
		b.mu.Lock()
		delete(b.changed, r)
		b.mu.Unlock()
		if r.isChanged() {
			b.wake(r)
		}
		r.store.repos.done(r)
	}
}

// writePulls writes down the pulls of all repositories. Those of one where that
// fails are kept in memory, and so is the repository.
func (b *background) writePulls() {
	b.mu.Lock()
	due := b.pulls
	b.pulls = make(map[*repo]bool)
	b.mu.Unlock()
	for r := range due {
		err := r.writePulls()
		if err != nil && !errors.Is(err, storage.ErrStandby) {
			r.store.log().Error("last pulls aren't written down", "repository", r.name.String(), "error", full(err))
		}
		if err != nil {
			b.pulled(r)
		}
		r.store.repos.done(r)
	}
}
