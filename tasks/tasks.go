// Package tasks runs a registry's background work: garbage collection, retention,
// scrubbing, mirroring. It knows none of them.
//
// A Runner belongs to an open store and outlives the configuration that gave it
// its Tasks. Each Task is done in rounds, one after another. When the next round
// is due is remembered, so neither a reload nor a restart puts it off. A Pace
// keeps background work out of the way of requests.
//
// A process measures the time to the next round by the monotonic clock, and the
// wall clock is read to remember it, and for Windows. So a wall clock that jumps
// doesn't make a round come sooner in a process that runs, and nowhere later
// than if the Task had never run. Time in which the machine is suspended doesn't
// count.
package tasks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

var (
	// ErrRunning says that a round of the Task runs already, here or on another replica.
	ErrRunning = errors.New("a round is running")

	// ErrUnknown says that no Task of that name is scheduled.
	ErrUnknown = errors.New("no such task")

	// ErrStopped says that the Runner, or the round, was stopped.
	ErrStopped = errors.New("stopped")
)

// A Task is one kind of background work, and when to do it.
type Task struct {
	// Name is stable: it's in logs and the admin API, and what is remembered is
	// found by it.
	Name string

	// Every is the time from the beginning of a round to that of the next. A
	// round that takes longer is followed by the next one soon. Default: 0, rounds
	// only when asked for.
	Every time.Duration

	// Jitter is the most that chance adds to a due time, so that the rounds of
	// many Tasks, or of many registries, don't begin at once. Default: a tenth of
	// Every, but at most 10 minutes. Negative: none.
	Jitter time.Duration

	// Window is the part of the day in which rounds begin, unless they are asked
	// for. They end when they end. Default: the whole day.
	Window Window

	// Run does one round. It returns nil only if the round is complete, and else
	// returns soon after ctx ends, with all it changed whole. It may be called again
	// after a crash at any point. A panic is an error of the round.
	Run func(ctx context.Context, r *Round) error
}

// Memory keeps what a Runner remembers of each Task: less than a kilobyte, and
// the round's cursor. It is called for one name by one goroutine at a time.
type Memory interface {
	// Load returns what Save was given last, or fs.ErrNotExist.
	Load(ctx context.Context, name string) ([]byte, error)

	// Save replaces what is remembered of a name, all or nothing.
	Save(ctx context.Context, name string, data []byte) error
}

// A Lease lets one replica of several do a round. It saves work and guards
// nothing: a Task is safe if two replicas run it at once.
type Lease interface {
	// Acquire returns at once, with ok if no other replica has the lease of that
	// name. Whoever got it calls release once.
	Acquire(ctx context.Context, name string) (release func(), ok bool, err error)
}

// Options are what a Runner needs. Only Memory has no default.
type Options struct {
	Memory Memory

	// Lease is asked before each round. If another replica has it, the round is
	// tried again every minute, and left out if the other one did it meanwhile.
	// Replicas share their Memory. Default: nil, no other replica.
	Lease Lease

	// Log gets a line for each round that ends. Default: none.
	Log *slog.Logger

	// Now tells the wall clock, in the time zone of the Windows. Default: time.Now.
	Now func() time.Time

	// Uptime tells a clock that nobody can set, and that goes on while the machine is
	// suspended. Default: the monotonic clock, which doesn't everywhere.
	Uptime func() time.Duration
}

// timing is when a Task's rounds are due, with the defaults filled in.
type timing struct {
	Every  time.Duration `json:"every"`
	Jitter time.Duration `json:"jitter"`
	Window Window        `json:"window"`
}

// maxJitter is the most that Jitter is by default.
const maxJitter = 10 * time.Minute

func (t Task) timing() timing {
	switch {
	case t.Jitter < 0:
		t.Jitter = 0
	case t.Jitter == 0:
		t.Jitter = min(t.Every/10, maxJitter)
	}
	return timing{t.Every, t.Jitter, t.Window}
}

func (t Task) check() error {
	switch {
	case t.Name == "":
		return errors.New("a task needs a name")
	case t.Run == nil:
		return fmt.Errorf("task %s has nothing to run", t.Name)
	case t.Every < 0:
		return fmt.Errorf("task %s is due every %v: that must not be negative", t.Name, t.Every)
	}
	return nil
}
