package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Runner runs Tasks, and never two rounds of one Task at once. It is safe for
// concurrent use. Whoever made it stops it.
type Runner struct {
	memory Memory
	lease  Lease
	log    *slog.Logger
	now    func() time.Time
	uptime func() time.Duration

	mu      sync.Mutex // guards what follows, and the jobs
	stopped bool
	jobs    map[string]*job
}

// New returns a Runner without Tasks. It starts nothing yet.
func New(o Options) *Runner {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Uptime == nil {
		began := time.Now()
		o.Uptime = func() time.Duration { return time.Since(began) }
	}
	return &Runner{memory: o.Memory, lease: o.Lease, log: o.Log, now: o.Now, uptime: o.Uptime, jobs: make(map[string]*job)}
}

// Schedule has a Task run from now on, in the place of the one of the same name. It
// does no I/O. A round that runs goes on as it began. If Every, Jitter and
// Window are as they were, the next round stays due when it was; otherwise it is
// due Every after the last one began, or soon if that has passed.
//
// A Task that never ran, or of which nothing can be remembered, is due Every
// from now. One that came due while no process ran it is due soon: within
// Jitter, but at most a minute.
func (r *Runner) Schedule(t Task) error {
	if err := t.check(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return ErrStopped
	}
	j, ok := r.jobs[t.Name]
	if !ok {
		j = r.newJob(t.Name)
		r.jobs[t.Name] = j
	}
	j.schedule(t)
	return nil
}

// newJob starts the goroutine that Stop waits for.
func (r *Runner) newJob(name string) *job {
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{
		runner: r,
		name:   name,
		cancel: cancel,
		wake:   make(chan struct{}, 1),
		saving: make(chan struct{}, 1),
		done:   make(chan struct{}),
		clocks: r.clocks(),
	}
	go func() {
		defer close(j.done)
		defer cancel()
		j.loop(ctx)
	}()
	return j
}

// Unschedule begins no more rounds of a Task. A round that runs goes on, and the
// Task is known until it ends. What is remembered stays for the next Schedule. A
// name that isn't known is fine.
func (r *Runner) Unschedule(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j, ok := r.jobs[name]; ok {
		j.unschedule()
	}
}

// Trigger begins a round now and returns its first Report; the round goes on when
// ctx ends. If one runs already, here or on another replica, it is ErrRunning.
// Params are JSON that the Task understands, for example {"dry_run":true}.
//
// Without params it is an ordinary round: it goes on at the Cursor, and the next one is due
// Every from now. With params it neither uses nor changes what is remembered,
// but for the last Report.
func (r *Runner) Trigger(ctx context.Context, name string, params json.RawMessage) (Report, error) {
	if len(params) > 0 && !json.Valid(params) {
		return Report{}, fmt.Errorf("the parameters of task %s are not JSON", name)
	}
	req := &request{params: append(json.RawMessage(nil), params...), answer: make(chan answer, 1)}
	if err := r.ask(name, req); err != nil {
		return Report{}, fmt.Errorf("task %s: %w", name, err)
	}
	var a answer
	select {
	case a = <-req.answer:
	case <-ctx.Done():
		r.withdraw(name, req, ctx.Err())
		a = <-req.answer
	}
	if a.err != nil {
		return Report{}, fmt.Errorf("task %s: %w", name, a.err)
	}
	return a.report, nil
}

func (r *Runner) ask(name string, req *request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	j, ok := r.jobs[name]
	switch {
	case r.stopped:
		return ErrStopped
	case !ok || !j.scheduled():
		return ErrUnknown
	case j.taken != nil || j.asked != nil:
		return ErrRunning
	}
	j.asked = req
	j.poke()
	return nil
}

// withdraw answers a request that no job has taken yet.
func (r *Runner) withdraw(name string, req *request, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j, ok := r.jobs[name]; ok && j.asked == req {
		j.refuse(err)
	}
}

// Status returns what is known of a Task, or false if it isn't scheduled.
func (r *Runner) Status(name string) (Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j, ok := r.jobs[name]
	if !ok {
		return Status{}, false
	}
	return j.status(), true
}

// Statuses returns the Status of each Task, by name.
func (r *Runner) Statuses() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Status, 0, len(r.jobs))
	for _, name := range slices.Sorted(maps.Keys(r.jobs)) {
		all = append(all, r.jobs[name].status())
	}
	return all
}

// Stop ends the Runner for good: it cancels all rounds and waits for them, but
// not longer than ctx. A round that was cut short is due as soon as a process
// schedules the Task again. Further calls wait too. A Run must not call it.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	r.stopped = true
	jobs := maps.Clone(r.jobs)
	for _, j := range jobs {
		j.cancel()
	}
	r.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		select {
		case <-jobs[name].done:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("stop task %s: %w", name, ctx.Err()))
		}
	}
	return errors.Join(errs...)
}

// clocks are what both clocks show at a moment.
type clocks struct {
	wall   time.Time
	uptime time.Duration
}

func (r *Runner) clocks() clocks { return clocks{r.wall(), r.uptime()} }

// apart is how much more one clock has gone than the other since an earlier moment.
func (c clocks) apart(since clocks) time.Duration {
	return (c.wall.Sub(since.wall) - (c.uptime - since.uptime)).Abs()
}

// wall returns the wall clock's time without the monotonic one, which would take
// its place in a Sub.
func (r *Runner) wall() time.Time { return r.now().Round(0) }
