package tasks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// A job is the goroutine of one Task: it waits until a round is due or asked
// for, and does it. Being one, it can't do two at once.
type job struct {
	runner *Runner
	name   string
	cancel context.CancelFunc
	wake   chan struct{} // has room for one
	saving chan struct{} // held by who saves
	done   chan struct{}

	// What follows is guarded by the Runner's mu.
	task     Task // without a Run it isn't scheduled
	record   record
	recalled bool      // record is what Memory had
	at       time.Time // when the next round is due, by the monotonic clock; zero: when asked
	asked    *request  // waits to be taken
	taken    *request  // its round runs, or is about to
	round    *Round
	clocks   clocks // when the last ordinary round that is complete began, or the job did
	unsaved  bool   // the last Save failed, and that's logged
	unleased bool   // the last Acquire failed, and that's logged
}

// A request is for one round. It is answered once, when that has begun.
type request struct {
	params json.RawMessage
	answer chan answer // nil if it's the schedule that asks
}

type answer struct {
	report Report
	err    error
}

func (q *request) reply(report Report, err error) {
	if q.answer != nil {
		q.answer <- answer{report, err}
	}
}

func (j *job) loop(ctx context.Context) {
	defer j.leave()
	j.recall(ctx)
	for ctx.Err() == nil {
		req, ok := j.take()
		switch {
		case !ok:
			return
		case req != nil:
			j.attend(ctx, req)
		default:
			j.sleep(ctx)
		}
	}
}

// take returns the request to attend to, if any. It reports false when the job
// isn't needed any more, and is forgotten.
func (j *job) take() (*request, bool) {
	r := j.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if !j.scheduled() {
		delete(r.jobs, j.name)
		return nil, false
	}
	req := j.asked
	if req == nil && j.isDue() {
		req = new(request)
	}
	j.asked, j.taken = nil, req
	return req, true
}

// leave answers who asked in vain.
func (j *job) leave() {
	j.runner.mu.Lock()
	defer j.runner.mu.Unlock()
	j.refuse(ErrStopped)
}

// sleep waits until there may be something to take.
func (j *job) sleep(ctx context.Context) {
	j.runner.mu.Lock()
	at := j.at
	j.runner.mu.Unlock()
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-j.wake:
	case <-ctx.Done():
	}
}

// attend does the round that was asked for, if it may.
func (j *job) attend(ctx context.Context, req *request) {
	release, err := j.acquire(ctx, req)
	if err != nil {
		j.putOff(req, err)
		return
	}
	defer release()
	round, task, ok := j.begin(req)
	if !ok {
		j.putOff(req, ErrUnknown)
		return
	}
	j.save(ctx)
	req.reply(round.Report(), nil)
	err = run(ctx, j.runner.log, task, round)
	j.end(ctx, round, err)
}

// begin makes the Round, unless the Task was unscheduled meanwhile.
func (j *job) begin(req *request) (*Round, Task, bool) {
	r := j.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if !j.scheduled() {
		return nil, Task{}, false
	}
	began := r.clocks()
	wall := began.wall
	round := &Round{job: j, began: began, savedAt: time.Now(), clockMoved: began.apart(j.clocks) > maxDrift}
	round.report = Report{ID: rand.Text(), Began: wall, Params: req.params}
	if round.report.ordinary() {
		round.report.Cursor = j.record.Cursor
		j.began(wall)
	}
	j.round = round
	return round, j.task, true
}

// end notes what came of a round.
func (j *job) end(ctx context.Context, round *Round, err error) {
	stopped := err != nil && ctx.Err() != nil
	if stopped {
		err = ErrStopped
	}
	r := j.runner
	r.mu.Lock()
	report := round.end(r.wall(), err)
	j.record.note(report)
	if report.ordinary() {
		j.record.Cursor = report.Cursor
		j.ended(stopped)
		if err == nil {
			j.clocks = round.began
		}
	}
	j.round, j.taken = nil, nil
	r.mu.Unlock()
	j.save(ctx)
	j.logEnd(ctx, report, err)
}

func (j *job) logEnd(ctx context.Context, report Report, err error) {
	attrs := []slog.Attr{
		slog.String("task", j.name),
		slog.String("round", report.ID),
		slog.Duration("took", report.Ended.Sub(report.Began)),
		slog.Any("counts", report.Counts),
	}
	level, msg := slog.LevelInfo, "round complete"
	switch {
	case errors.Is(err, ErrStopped):
		msg = "round stopped"
	case err != nil:
		level, msg = slog.LevelError, "round failed"
		attrs = append(attrs, slog.Any("error", err))
	}
	j.runner.log.LogAttrs(ctx, level, msg, attrs...)
}

// status is called with the Runner's mu held.
func (j *job) status() Status {
	s := Status{Name: j.name, Due: j.record.Due}
	if !j.scheduled() {
		s.Due = time.Time{}
	}
	if j.round != nil {
		report := j.round.Report()
		s.Current = &report
	}
	if j.record.Last != nil {
		report := j.record.Last.clone()
		s.Last = &report
	}
	if j.record.Complete != nil {
		report := j.record.Complete.clone()
		s.Complete = &report
	}
	return s
}
