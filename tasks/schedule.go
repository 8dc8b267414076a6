package tasks

import (
	"math/rand/v2"
	"time"
)

// soon is the most that jitter is where a round should have begun already.
const soon = time.Minute

// The methods of job in this file are called with the Runner's mu held.

func (j *job) scheduled() bool { return j.task.Run != nil }

func (j *job) schedule(t Task) {
	j.task = t
	if j.recalled {
		j.plan()
	}
	j.poke()
}

func (j *job) unschedule() {
	j.task = Task{}
	j.refuse(ErrUnknown)
	j.poke()
}

// poke wakes the goroutine up to look at what has changed.
func (j *job) poke() {
	select {
	case j.wake <- struct{}{}:
	default: // it hasn't looked since the last time
	}
}

// refuse answers the request that waits, if any.
func (j *job) refuse(err error) {
	if j.asked != nil {
		j.asked.reply(Report{}, err)
		j.asked = nil
	}
}

// plan says when the next round is due: when it was, if that's still what the
// Task wants, but at last Every from now, or when the Window opens after that.
func (j *job) plan() {
	rec, now, want := &j.record, j.runner.wall(), j.task.timing()
	if rec.Timing == want && !j.at.IsZero() {
		return
	}
	if rec.Since.IsZero() {
		rec.Since = now
	}
	if want.Every == 0 {
		rec.Timing, rec.Due, j.at = want, time.Time{}, time.Time{}
		return
	}
	due := rec.Due
	if rec.Timing != want || due.IsZero() {
		due = want.next(rec.Since)
	}
	if due.After(now.Add(want.Every + want.Jitter)) {
		due = want.next(now)
	}
	rec.Timing = want
	j.dueAt(due, now)
}

// dueAt has the next round begin at due, or soon if that has passed.
func (j *job) dueAt(due, now time.Time) {
	if !due.After(now) {
		want := j.record.Timing
		due = want.into(now.Add(upTo(min(want.Jitter, soon))))
	}
	j.record.Due = due
	j.at = time.Now().Add(due.Sub(now))
}

// isDue reports whether it's time for a round. It is asked by the monotonic
// clock; the wall clock has its say in the Window.
func (j *job) isDue() bool {
	if j.at.IsZero() || time.Now().Before(j.at) {
		return false
	}
	now, want := j.runner.wall(), j.record.Timing
	if !want.Window.contains(now) {
		j.dueAt(want.into(now), now)
		return false
	}
	return true
}

// began notes that a round has begun. That the next one is due later is saved
// before this one runs: a round that kills its process isn't begun again at once.
func (j *job) began(now time.Time) {
	j.record.Since = now
	if j.record.Timing.Every > 0 {
		j.dueAt(j.record.Timing.next(now), now)
	}
}

// ended notes that a round has ended, maybe late, maybe too soon.
func (j *job) ended(stopped bool) {
	now := j.runner.wall()
	switch {
	case j.record.Timing.Every == 0:
	case stopped:
		j.record.Due = now
	case !time.Now().Before(j.at):
		j.dueAt(now, now)
	}
}

// next returns when a round is due after one that began at t.
func (t timing) next(from time.Time) time.Time {
	return t.into(from.Add(t.Every + upTo(t.Jitter)))
}

// into returns due, or if that's outside of the Window a time soon after it opens.
func (t timing) into(due time.Time) time.Time {
	if t.Window.contains(due) {
		return due
	}
	return t.Window.opens(due).Add(upTo(min(t.Jitter, t.Window.length())))
}

// upTo returns a random time less than d.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) //nolint:gosec // it spreads load and keeps no secret
}
