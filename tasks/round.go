package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// cursorEvery is the least time between two times that a cursor is saved.
	cursorEvery = 5 * time.Second

	// maxDrift is how much the wall clock and the monotonic clock may differ in a
	// round. NTP slews by 43 s a day at most.
	maxDrift = time.Minute
)

// A Round is one run of a Task. Its methods are safe for concurrent use until
// Run returns, and change nothing afterwards. The zero Round belongs to no Runner
// and saves nothing; tests of a Task use it.
type Round struct {
	job        *job   // nil of the zero Round
	began      clocks // when it did
	clockMoved bool   // before that

	mu      sync.Mutex // guards what follows
	report  Report
	savedAt time.Time // the cursor, by the monotonic clock
}

// Add adds n to a counter. Names are few and chosen by the Task: they are
// in logs and the admin API, for example "blobs_deleted".
func (r *Round) Add(counter string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over() {
		return
	}
	if r.report.Counts == nil {
		r.report.Counts = make(map[string]int64)
	}
	r.report.Counts[counter] += n
}

// Params returns what Trigger was given, or nil: an ordinary round.
func (r *Round) Params() json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.report.Params)
}

// Cursor returns what SetCursor was given last, in this round or in the one
// before if that was stopped or failed. It is empty if that was complete,
// and when a round with Params begins.
func (r *Round) Cursor() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.Cursor
}

// SetCursor notes how far the round has come. The cursor is saved every 5
// seconds at most, and when the round ends without being complete, so work that's done
// after the one saved may be done twice. That of a round with Params is not saved.
func (r *Round) SetCursor(ctx context.Context, cursor string) {
	if r.setCursor(cursor) {
		r.job.saveCursor(ctx, r, cursor)
	}
}

// setCursor reports whether the cursor is to be saved now.
func (r *Round) setCursor(cursor string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over() {
		return false
	}
	r.report.Cursor = cursor
	if r.job == nil || !r.report.ordinary() || time.Since(r.savedAt) < cursorEvery {
		return false
	}
	r.savedAt = time.Now()
	return true
}

// ClockMoved reports whether the wall clock has moved a minute more or less than
// Uptime since the round began. If so ages can't be relied on, and a Task deletes
// nothing because of one.
func (r *Round) ClockMoved() bool {
	if r.job == nil {
		return false
	}
	return r.job.runner.clocks().apart(r.began) > maxDrift
}

// ClockMovedBefore reports whether the wall clock has moved like that before the
// round: since the last ordinary one began that was complete, or since the Task was
// first scheduled in this process. Times that were written down then say nothing
// about ages. What the clock did while no process ran isn't seen.
func (r *Round) ClockMovedBefore() bool { return r.clockMoved }

// Report returns what the round has done so far.
func (r *Round) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.clone()
}

// end closes the round and returns its last Report.
func (r *Round) end(now time.Time, err error) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Ended = now
	if err != nil {
		r.report.Error = err.Error()
	} else {
		r.report.Cursor = ""
	}
	return r.report.clone()
}

// over reports whether Run has returned. The caller holds mu.
func (r *Round) over() bool { return !r.report.Ended.IsZero() }

// run calls Run, and makes a panic an error.
func run(ctx context.Context, log *slog.Logger, task Task, round *Round) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
			log.LogAttrs(ctx, slog.LevelError, "task panicked",
				slog.String("task", task.Name), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
	}()
	return task.Run(ctx, round)
}
