package tasks

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// tryAgain is when a round is tried again that another replica seems to do.
const tryAgain = time.Minute

// errDone says that another replica did the round that was due.
var errDone = errors.New("done by another replica")

// acquire takes the lease for a round. With an error there's no round: another
// replica does it, or has done it since, or nobody knows.
func (j *job) acquire(ctx context.Context, req *request) (release func(), err error) {
	lease := j.runner.lease
	if lease == nil {
		return func() {}, nil
	}
	release, ok, err := lease.Acquire(ctx, j.name)
	j.noteLease(ctx, err)
	if err == nil && !ok {
		err = ErrRunning
	}
	if err != nil {
		return nil, err
	}
	if j.adopt(ctx) && req.answer == nil {
		release()
		return nil, errDone
	}
	return release, nil
}

// adopt loads the record again, since replicas share it, and reports whether
// another one has begun a round since. Then the next one is due later, or soon.
func (j *job) adopt(ctx context.Context) bool {
	rec, err := j.load(ctx)
	if err != nil {
		return false
	}
	j.runner.mu.Lock()
	defer j.runner.mu.Unlock()
	if rec.Since.Before(j.record.Since) {
		return false // what this replica knows couldn't be saved
	}
	done := rec.Since.After(j.record.Since)
	j.record = rec
	if done {
		j.at = time.Time{}
		j.plan()
	}
	return done
}

// noteLease logs that leases can't be had, once until they can.
func (j *job) noteLease(ctx context.Context, err error) {
	j.runner.mu.Lock()
	failed := err != nil && ctx.Err() == nil
	news := failed && !j.unleased
	j.unleased = failed
	j.runner.mu.Unlock()
	if news {
		j.runner.log.LogAttrs(ctx, slog.LevelWarn, "no lease for a round, trying again every minute",
			slog.String("task", j.name), slog.Any("error", err))
	}
}

// putOff answers a request that comes to nothing. What was due is tried again.
func (j *job) putOff(req *request, err error) {
	j.runner.mu.Lock()
	defer j.runner.mu.Unlock()
	j.taken = nil
	req.reply(Report{}, err)
	if req.answer == nil && !errors.Is(err, errDone) && !j.at.IsZero() {
		j.at = time.Now().Add(tryAgain)
	}
}
