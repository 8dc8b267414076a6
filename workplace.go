package ociregistry

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/internal/state"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/tasks/gc"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// workplace is an open store, and what is done on it in the background. Like the
// store it outlives configurations; the newest one says what is to be done.
type workplace struct {
	storage.Store

	runner   *tasks.Runner // nil if nothing can be done on the store
	pace     *tasks.Pace   // of what isn't done for a client
	requests atomic.Int64  // that are being answered
	plan     atomic.Pointer[plan]
	findings findings[gc.Finding]

	scrubPace *tasks.Pace // of its reads, in bytes
	damage    findings[scrub.Finding]
}

// Unwrap is for storage.As.
func (w *workplace) Unwrap() any { return w.Store }

// Close stops what is being done before it closes the store.
func (w *workplace) Close() error {
	var err error
	if w.runner != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		err = w.runner.Stop(ctx)
	}
	return errors.Join(err, w.Store.Close())
}

// stopTimeout is how long a round may take to notice that it's over.
const stopTimeout = 10 * time.Second

// plan is how one configuration wants a store to be opened, and what is to be done
// on it.
type plan struct {
	*Registry

	home home // where this store is
}

var _ state.Backend = plan{}

// Open implements state.Backend.
func (p plan) Open(ctx context.Context) (storage.Store, error) {
	store, err := p.home.backend.Open(ctx)
	if err != nil {
		return nil, err
	}
	w := &workplace{Store: store}
	w.plan.Store(&p)
	busy := func() int { return int(w.requests.Load()) }
	w.pace, w.scrubPace = tasks.NewPace(0, busy), tasks.NewPace(0, busy)
	if at, ok := storage.As[storage.Maintainable](store); ok {
		w.runner = tasks.New(tasks.Options{Memory: notes{at}, Lease: claims{at}, Log: slog.New(newestLog{w}), Uptime: uptime()})
	}
	return w, nil
}

// Tune implements state.Backend.
func (p plan) Tune(store storage.Store) {
	p.home.backend.Tune(store)
	if w, ok := store.(*workplace); ok && w.runner != nil {
		w.plan.Store(&p)
		w.schedule()
	}
}

// mayChange returns why the newest plan lets a round that's under way change nothing.
func (w *workplace) mayChange() error {
	if w.plan.Load().ReadOnly {
		return errors.New("the registry is read-only now")
	}
	return nil
}

// schedule has the newest plan carried out.
func (w *workplace) schedule() {
	p := w.plan.Load()
	w.pace.SetRate(float64(p.GC.Rate))
	w.scrubPace.SetRate(float64(p.Scrub.Rate))
	if p.ReadOnly {
		w.runner.Unschedule(adminapi.GC)
		w.runner.Unschedule(adminapi.Scrub)
		p.log.Info("read-only: no garbage is collected, and nothing is scrubbed")
		return
	}
	if err := w.runner.Schedule(p.GC.task(w.collectGarbage)); err != nil {
		p.log.Error("garbage isn't collected", slog.Any("error", err))
	}
	if err := w.runner.Schedule(p.scrubTask(w.scrub)); err != nil {
		p.log.Error("nothing is scrubbed", slog.Any("error", err))
	}
}

// scrubTask is the scrubbing of this store. Reading a bucket costs money, so that is
// for who asks for it.
func (p plan) scrubTask(run func(context.Context, *tasks.Round) error) tasks.Task {
	t := p.Scrub.task(run)
	if p.scrubDisks && p.home.module != "filesystem" {
		t.Every = 0
	}
	return t
}

// notes keep what a Runner remembers beside the content.
type notes struct{ storage.Maintainable }

// Load implements tasks.Memory.
func (n notes) Load(ctx context.Context, name string) ([]byte, error) { return n.LoadNote(ctx, name) }

// Save implements tasks.Memory.
func (n notes) Save(ctx context.Context, name string, data []byte) error {
	return n.SaveNote(ctx, name, data)
}

// claims lets one process of several work.
type claims struct{ storage.Maintainable }

// Acquire implements tasks.Lease.
func (c claims) Acquire(ctx context.Context, name string) (release func(), ok bool, err error) {
	return c.Claim(ctx, name)
}

// newestLog is the log of the newest plan: that of an older one may be closed.
type newestLog struct{ *workplace }

func (l newestLog) handler() slog.Handler { return l.plan.Load().log.Handler() }

// Enabled implements slog.Handler.
func (l newestLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.handler().Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l newestLog) Handle(ctx context.Context, rec slog.Record) error {
	return l.handler().Handle(ctx, rec)
}

// WithAttrs implements slog.Handler.
func (l newestLog) WithAttrs(attrs []slog.Attr) slog.Handler { return l.handler().WithAttrs(attrs) }

// WithGroup implements slog.Handler.
func (l newestLog) WithGroup(name string) slog.Handler { return l.handler().WithGroup(name) }
