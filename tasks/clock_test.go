package tasks_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestWallClockJumpsInAProcess(t *testing.T) {
	for name, by := range map[string]time.Duration{
		"a year forward": 365 * day, "a year back": -365 * day, "a second back": -time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				clock := new(wallClock)
				d, r := newDiary(), runner(t, tasks.Options{Now: clock.now})
				schedule(t, r, d.task("gc", hour))
				pass(90 * minute)
				clock.turn(by)
				schedule(t, r, d.task("gc", hour))
				pass(2 * hour)
				d.want(t, hour, 2*hour, 3*hour)
			})
		})
	}
}

// Between two processes nobody knows what the clock did.
func TestWallClockJumpsBetweenProcesses(t *testing.T) {
	for name, c := range map[string]struct {
		by   time.Duration
		want []time.Duration
	}{
		"a year forward":  {365 * day, []time.Duration{hour, 90 * minute, 150 * minute}}, // soon is now without jitter
		"a year back":     {-365 * day, []time.Duration{hour, 150 * minute}},
		"10 minutes back": {-10 * minute, []time.Duration{hour, 130 * minute, 190 * minute}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				clock, m, d := new(wallClock), new(memory), newDiary()
				before := runner(t, tasks.Options{Memory: m, Now: clock.now})
				schedule(t, before, d.task("gc", hour))
				pass(90 * minute)
				stop(t, before)
				clock.turn(c.by)
				schedule(t, runner(t, tasks.Options{Memory: m, Now: clock.now}), d.task("gc", hour))
				pass(2*hour - minute)
				d.want(t, c.want...)
			})
		})
	}
}

func TestClockMoved(t *testing.T) {
	for name, c := range map[string]struct {
		by   time.Duration
		want bool
	}{
		"not":                   {0, false},
		"a minute forward":      {minute, false},
		"a minute back":         {-minute, false},
		"more than that":        {minute + time.Second, true},
		"more than that back":   {-minute - time.Second, true},
		"a year back":           {-365 * day, true},
		"before the round only": {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				clock := new(wallClock)
				r := runner(t, tasks.Options{Now: clock.now})
				var at []bool
				schedule(t, r, tasks.Task{Name: "gc", Run: func(ctx context.Context, r *tasks.Round) error {
					at = append(at, r.ClockMoved())
					clock.turn(c.by)
					time.Sleep(hour)
					at = append(at, r.ClockMoved())
					return nil
				}})
				clock.turn(day)
				trigger(t, r, "gc", "")
				pass(2 * hour)
				if len(at) != 2 || at[0] || at[1] != c.want {
					t.Fatalf("moved %v, want false and %v", at, c.want)
				}
			})
		})
	}
}

// What was written down before the clock was set says nothing, until a round is
// complete that knows of it.
func TestClockMovedBefore(t *testing.T) {
	for name, c := range map[string]struct {
		by   time.Duration
		want bool
	}{
		"not": {0, false}, "a minute": {minute, false}, "a day forward": {day, true}, "a day back": {-day, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				clock := new(wallClock)
				r := runner(t, tasks.Options{Now: clock.now})
				var moved []bool
				fail := true
				schedule(t, r, tasks.Task{Name: "gc", Run: func(_ context.Context, r *tasks.Round) error {
					moved = append(moved, r.ClockMovedBefore())
					if fail {
						return errors.New("not complete")
					}
					return nil
				}})
				pass(day)
				clock.turn(c.by)
				round := func(params string) {
					trigger(t, r, "gc", params)
					status(t, r, "gc") // once it's over
				}
				round("")
				round(`{"dry_run":true}`)
				fail = false
				round(`{"dry_run":true}`)
				round("")
				round("")
				if want := []bool{c.want, c.want, c.want, c.want, false}; !slices.Equal(moved, want) {
					t.Fatalf("moved %v, want %v", moved, want)
				}
			})
		})
	}
}

// A machine that was suspended isn't one whose clock was set.
func TestUptimeCountsSuspension(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		clock, asleep := new(wallClock), time.Duration(0)
		began := time.Now()
		r := runner(t, tasks.Options{Now: clock.now, Uptime: func() time.Duration { return time.Since(began) + asleep }})
		moved := true
		schedule(t, r, tasks.Task{Name: "gc", Run: func(_ context.Context, r *tasks.Round) error {
			moved = r.ClockMovedBefore()
			return nil
		}})
		asleep = day
		clock.turn(day)
		trigger(t, r, "gc", "")
		status(t, r, "gc") // once it's over
		if moved {
			t.Fatal("the clock seems to have been set")
		}
	})
}

// The monotonic clock would take the place of the wall clock in each difference.
func TestTimesAreWallClockTimes(t *testing.T) {
	t.Parallel() // on the real clock: that of a bubble has no monotonic one
	r := runner(t, tasks.Options{})
	if err := r.Schedule(newDiary().task("gc", hour)); err != nil {
		t.Fatal(err)
	}
	report := trigger(t, r, "gc", "")
	s, _ := r.Status("gc")
	for _, at := range []time.Time{report.Began, s.Due} {
		if at.IsZero() || at != at.Round(0) { // == looks at the monotonic clock too
			t.Errorf("%v has a monotonic clock", at)
		}
	}
}

func TestDueIsShown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		schedule(t, r, d.task("gc", hour))
		trigger(t, r, "gc", "")
		if s := status(t, r, "gc"); !s.Due.Equal(time.Now().Add(hour)) {
			t.Errorf("due %v, want in an hour", s.Due)
		}
	})
}
