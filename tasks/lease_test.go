package tasks_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

// lease is a Lease of one process.
type lease struct {
	mu    sync.Mutex
	held  map[string]bool
	fails error
	takes time.Duration // to be acquired
}

func (l *lease) Acquire(ctx context.Context, name string) (func(), bool, error) {
	if err := sleep(ctx, l.takes); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails != nil || l.held[name] {
		return nil, false, l.fails
	}
	if l.held == nil {
		l.held = make(map[string]bool)
	}
	l.held[name] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.held[name] {
			panic("released twice")
		}
		l.held[name] = false
	}, true, nil
}

func (l *lease) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fails = err
}

func TestOneReplicaDoesARound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, o := newDiary(), tasks.Options{Memory: new(memory), Lease: new(lease)}
		d.takes = 10 * minute
		for range 3 {
			schedule(t, runner(t, o), tasks.Task{Name: "gc", Every: hour, Run: d.run})
			pass(time.Second)
		}
		pass(day)
		if got := len(d.rounds()); d.overlaps != 0 || got < 20 || got > 24 {
			t.Fatalf("%d rounds in a day with %d overlaps, want nearly 24: %v", got, d.overlaps, d.rounds())
		}
	})
}

// The round of a replica that stops goes on at another one.
func TestAnotherReplicaTakesOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		first, second, o := newDiary(), newDiary(), tasks.Options{Memory: new(memory), Lease: new(lease)}
		a, b := runner(t, o), runner(t, o)
		task := first.task("gc", day)
		task.Run = func(ctx context.Context, r *tasks.Round) error {
			r.SetCursor(ctx, "half")
			first.takes = hour
			return first.run(ctx, r)
		}
		schedule(t, a, task)
		schedule(t, b, second.task("gc", day))
		trigger(t, a, "gc", "")
		pass(30 * minute)
		if _, err := b.Trigger(t.Context(), "gc", nil); !errors.Is(err, tasks.ErrRunning) {
			t.Fatalf("Trigger while another replica has the lease: %v, want %v", err, tasks.ErrRunning)
		}
		stop(t, a)
		trigger(t, b, "gc", "")
		second.want(t, 30*minute)
		if second.found()[0] != "half" {
			t.Fatalf("it went on from %q, want where the other replica was", second.found()[0])
		}
	})
}

func TestDueRoundIsTriedAgainWhileAnotherReplicaHasTheLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := new(lease)
		d, r := newDiary(), runner(t, tasks.Options{Lease: l})
		release, _, _ := l.Acquire(t.Context(), "gc")
		schedule(t, r, d.task("gc", hour))
		pass(hour + 10*minute + time.Second)
		d.want(t)
		release() // its holder died and remembered nothing
		pass(minute)
		d.want(t, hour+11*minute)
	})
}

func TestLeaseThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		l := &lease{fails: errors.New("no such host")}
		d, r := newDiary(), runner(t, tasks.Options{Lease: l, Log: log.logger()})
		schedule(t, r, d.task("gc", hour))
		pass(2*hour + time.Second)
		if _, err := r.Trigger(t.Context(), "gc", nil); !errors.Is(err, l.fails) {
			t.Fatalf("Trigger: %v, want %v", err, l.fails)
		}
		d.want(t)
		if got := log.count("no lease"); got != 1 {
			t.Fatalf("logged %d times, want once", got)
		}
		l.set(nil)
		pass(minute)
		d.want(t, 2*hour+minute)
		l.set(errors.New("no such host"))
		pass(2 * hour)
		if got := log.count("no lease"); got != 2 {
			t.Fatalf("logged %d times, want twice", got)
		}
	})
}

func TestUnscheduleWhileTheLeaseIsAcquired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		l := &lease{takes: time.Second}
		d, r := newDiary(), runner(t, tasks.Options{Lease: l, Log: log.logger()})
		schedule(t, r, d.task("gc", hour))
		pass(hour + time.Second/2)
		r.Unschedule("gc")
		pass(minute)
		d.want(t)
		if l.held["gc"] || log.count("round") != 0 {
			t.Fatalf("the lease is held: %v; the log: %s", l.held, log.buf.String())
		}
		if _, ok := r.Status("gc"); ok {
			t.Fatal("the task is still known")
		}
	})
}

func TestScheduleWhileTheLeaseIsAcquired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := new(lease)
		release, _, _ := l.Acquire(t.Context(), "gc")
		l.takes = time.Second
		d, r := newDiary(), runner(t, tasks.Options{Lease: l})
		schedule(t, r, d.task("gc", hour))
		pass(hour + time.Second/2)
		schedule(t, r, d.task("gc", 0))
		pass(time.Second)
		release()
		pass(day)
		d.want(t) // only when asked
	})
}

func TestStopWhileTheLeaseIsAcquired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		d, r := newDiary(), runner(t, tasks.Options{Lease: &lease{takes: hour}, Log: log.logger()})
		schedule(t, r, d.task("gc", hour))
		pass(hour + minute)
		stop(t, r)
		d.want(t)
		if log.count("lease") != 0 {
			t.Fatal(log.buf.String())
		}
	})
}

// Whoever asks gets a round, though another replica has just done one.
func TestTriggerAfterAnotherReplica(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, o := newDiary(), tasks.Options{Memory: new(memory), Lease: new(lease)}
		a, b := runner(t, o), runner(t, o)
		schedule(t, a, d.task("gc", day))
		schedule(t, b, d.task("gc", day))
		for _, r := range []*tasks.Runner{a, b, b, a} {
			pass(minute)
			trigger(t, r, "gc", "")
		}
		d.want(t, minute, 2*minute, 3*minute, 4*minute)
		pass(day)
		d.want(t, minute, 2*minute, 3*minute, 4*minute, day+4*minute)
	})
}

// What can't be saved isn't forgotten because of what Memory has from before.
func TestLeaseBesideAMemoryThatCannotSave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		d, r := newDiary(), runner(t, tasks.Options{Memory: m, Lease: new(lease)})
		task := d.task("gc", hour)
		task.Run = func(ctx context.Context, r *tasks.Round) error {
			defer r.SetCursor(ctx, "here")
			return errors.Join(d.run(ctx, r), errors.New("no such disk"))
		}
		schedule(t, r, task)
		m.mu.Lock()
		m.saveErr = errors.New("no space")
		m.mu.Unlock()
		pass(3 * hour)
		d.want(t, hour, 2*hour, 3*hour)
		if got, want := d.found(), []string{"", "here", "here"}; !slices.Equal(got, want) {
			t.Fatalf("the rounds began at the cursors %q, want %q", got, want)
		}
	})
}
