package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // not every machine has it

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestRoundsComeEvery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = 10 * minute
		schedule(t, r, d.task("gc", hour))
		pass(3*hour + minute)
		d.want(t, hour, 2*hour, 3*hour)
	})
}

func TestNeverTwoRounds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = 150 * minute
		for range 24 * 4 {
			task := d.task("gc", hour)
			task.Jitter = 2 * minute
			schedule(t, r, task)
			_, _ = r.Trigger(t.Context(), "gc", nil)
			_, _ = r.Trigger(t.Context(), "gc", []byte("{}"))
			pass(15 * minute)
		}
		if d.overlaps != 0 || len(d.rounds()) < 8 {
			t.Fatalf("%d overlaps in %d rounds", d.overlaps, len(d.rounds()))
		}
	})
}

// One that takes longer is followed by the next one soon.
func TestLongRounds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = 150 * minute
		task := d.task("gc", hour)
		task.Jitter = 5 * minute
		schedule(t, r, task)
		pass(2 * day)
		pauses := make(map[time.Duration]bool)
		for i, began := range d.rounds()[1:] {
			pause := began - d.rounds()[i] - d.takes
			pauses[pause] = true
			if pause < 0 || pause >= minute {
				t.Fatalf("%v between two rounds, want less than a minute", pause)
			}
		}
		if len(pauses) < 2 {
			t.Fatalf("always %v between two rounds, want chance in it", pauses)
		}
	})
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ every, jitter, most time.Duration }{
		{hour, 0, 6 * minute},
		{10 * day, 0, 10 * minute},
		{hour, 20 * minute, 20 * minute},
		{hour, -1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, r := newDiary(), runner(t, tasks.Options{})
			schedule(t, r, tasks.Task{Name: "gc", Every: c.every, Jitter: c.jitter, Run: d.run})
			pass(100 * c.every)
			var last, most time.Duration
			for _, began := range d.rounds() {
				if more := began - last - c.every; more < 0 || more > c.most {
					t.Fatalf("every %v: a round %v after the one before", c.every, began-last)
				}
				most = max(most, began-last-c.every)
				last = began
			}
			if most < c.most/2 || len(d.rounds()) < 50 {
				t.Fatalf("every %v: %d rounds, jitter up to %v, want nearly %v", c.every, len(d.rounds()), most, c.most)
			}
		})
	}
}

func TestOnlyWhenAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		schedule(t, r, tasks.Task{Name: "gc", Run: d.run})
		pass(365 * day)
		d.want(t)
		trigger(t, r, "gc", "")
		d.want(t, 365*day)
		if s := status(t, r, "gc"); !s.Due.IsZero() {
			t.Fatalf("due %v, want never", s.Due)
		}
		pass(365 * day)
		d.want(t, 365*day)
	})
}

// A configuration that's reloaded all the time must not put rounds off.
func TestReloadsKeepDueTimes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		for range 3 * 360 {
			schedule(t, r, d.task("gc", hour))
			pass(10 * time.Second)
		}
		d.want(t, hour, 2*hour, 3*hour)
	})
}

func TestReloadsKeepDueTimesWithJitter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		task := tasks.Task{Name: "gc", Every: hour, Run: d.run}
		schedule(t, r, task)
		due := status(t, r, "gc").Due
		for range 100 {
			schedule(t, r, task)
			if got := status(t, r, "gc").Due; !got.Equal(due) {
				t.Fatalf("due %v after a reload, %v before", got, due)
			}
		}
	})
}

func TestScheduleWithAnotherEvery(t *testing.T) {
	for name, c := range map[string]struct{ every, next time.Duration }{
		"longer":  {2 * hour, 3 * hour},
		"shorter": {45 * minute, hour + 45*minute},
		"passed":  {20 * minute, hour + 30*minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d, r := newDiary(), runner(t, tasks.Options{})
				schedule(t, r, d.task("gc", hour))
				pass(hour + 30*minute)
				schedule(t, r, d.task("gc", c.every))
				pass(c.next - hour - 30*minute)
				d.want(t, hour, c.next)
				pass(c.every)
				d.want(t, hour, c.next, c.next+c.every)
			})
		})
	}
}

func TestScheduleBeginsToBeDue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		schedule(t, r, d.task("gc", 0))
		pass(10 * hour)
		trigger(t, r, "gc", "")
		schedule(t, r, d.task("gc", hour))
		pass(hour)
		schedule(t, r, d.task("gc", 0))
		pass(day)
		d.want(t, 10*hour, 11*hour)
	})
}

func TestScheduleLeavesARoundAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		before, after, r := newDiary(), newDiary(), runner(t, tasks.Options{})
		before.takes = 30 * minute
		schedule(t, r, before.task("gc", hour))
		pass(hour + minute)
		schedule(t, r, after.task("gc", 2*hour))
		pass(hour)
		if s := status(t, r, "gc"); s.Last == nil || s.Last.Error != "" {
			t.Fatalf("the round was disturbed: %+v", s.Last)
		}
		pass(hour)
		before.want(t, hour)
		after.want(t, 3*hour)
	})
}

func TestUnschedule(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = 10 * minute
		r.Unschedule("gc")
		schedule(t, r, d.task("gc", hour))
		pass(hour + minute)
		r.Unschedule("gc")
		if s := status(t, r, "gc"); s.Current == nil || !s.Due.IsZero() {
			t.Fatalf("%+v, want a round that runs and none that's due", s)
		}
		if _, err := r.Trigger(t.Context(), "gc", nil); !errors.Is(err, tasks.ErrUnknown) {
			t.Fatalf("Trigger: %v, want %v", err, tasks.ErrUnknown)
		}
		pass(20 * minute)
		if s, ok := r.Status("gc"); ok {
			t.Fatalf("%+v is still known", s)
		}
		if d.running != 0 {
			t.Fatal("the round still runs")
		}
		schedule(t, r, d.task("gc", hour)) // due when it was
		if s := status(t, r, "gc"); s.Last == nil || s.Last.Error != "" {
			t.Fatalf("the round was disturbed: %+v", s.Last)
		}
		pass(hour)
		d.want(t, hour, 2*hour)
		pass(20 * minute)
		r.Unschedule("gc")
		synctest.Wait()
		if s, ok := r.Status("gc"); ok {
			t.Fatalf("%+v is still known", s)
		}
		pass(10 * hour)
		d.want(t, hour, 2*hour)
	})
}

func TestUnscheduleAndBackWhileARoundRuns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = 10 * minute
		schedule(t, r, d.task("gc", hour))
		pass(hour + minute)
		r.Unschedule("gc")
		schedule(t, r, d.task("gc", hour))
		pass(hour)
		d.want(t, hour, 2*hour)
		if d.overlaps != 0 {
			t.Fatal("two rounds at once")
		}
	})
}

func TestScheduleRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := runner(t, tasks.Options{})
		run := func(context.Context, *tasks.Round) error { return nil }
		for name, task := range map[string]tasks.Task{
			"no name":  {Every: hour, Run: run},
			"no run":   {Name: "gc", Every: hour},
			"negative": {Name: "gc", Every: -hour, Run: run},
		} {
			if err := r.Schedule(task); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if all := r.Statuses(); len(all) != 0 {
			t.Errorf("%v is scheduled", all)
		}
	})
}

func TestScheduleDoesNoIO(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{loading: make(chan struct{})}
		d, r := newDiary(), runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", hour)) // returns
		schedule(t, r, d.task("gc", 2*hour))
		if s := status(t, r, "gc"); !s.Due.IsZero() {
			t.Fatalf("due %v before that's known", s.Due)
		}
		close(m.loading)
		pass(2 * hour)
		d.want(t, 2*hour)
	})
}

func TestWindow(t *testing.T) {
	night := tasks.Window{From: 22 * hour, To: 6 * hour}
	lunch := tasks.Window{From: 12 * hour, To: 13 * hour}
	for name, c := range map[string]struct {
		window        tasks.Window
		every, jitter time.Duration
		want          int // rounds in 10 days
	}{
		"every hour of the night": {night, hour, -1, 80},
		"every day at lunch":      {lunch, day, -1, 10},
		"every hour at lunch":     {lunch, hour, -1, 10},
		"wide jitter":             {lunch, hour, 10 * hour, 10},
		"every second lunch":      {lunch, day + 2*hour, -1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d, r := newDiary(), runner(t, tasks.Options{Now: utc})
				schedule(t, r, tasks.Task{Name: "gc", Every: c.every, Jitter: c.jitter, Window: c.window, Run: d.run})
				pass(10 * day)
				for _, began := range d.rounds() {
					from, at := c.window.From, began%day
					if at < from {
						at += day
					}
					if at-from >= 8*hour || c.window == lunch && at-from >= hour {
						t.Errorf("a round at %v", began)
					}
				}
				if got := len(d.rounds()); got < c.want-1 || got > c.want+1 {
					t.Errorf("%d rounds %v, want %d", got, d.rounds(), c.want)
				}
			})
		})
	}
}

func utc() time.Time { return time.Now().UTC() }

func TestTriggerOutsideOfTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{Now: utc})
		task := d.task("gc", hour)
		task.Window = tasks.Window{From: 22 * hour, To: 6 * hour}
		pass(12 * hour)
		schedule(t, r, task)
		trigger(t, r, "gc", "")
		d.want(t, 12*hour)
		if s := status(t, r, "gc"); s.Due.Hour() != 22 {
			t.Fatalf("due %v, want when the window opens", s.Due)
		}
		task.Window = tasks.Window{}
		schedule(t, r, task)
		pass(hour)
		d.want(t, 12*hour, 13*hour)
	})
}

// Many that wait for the window don't begin at once.
func TestWindowOpensWithJitter(t *testing.T) {
	for name, w := range map[string]tasks.Window{
		"by day": {From: 12 * hour, To: 18 * hour}, "over midnight": {From: 22 * hour, To: 6 * hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				pass(7 * hour)
				d, r := newDiary(), runner(t, tasks.Options{Now: utc})
				for i := range 20 {
					schedule(t, r, tasks.Task{
						Name: fmt.Sprint("task", i), Every: 30 * minute, Jitter: 20 * minute, Window: w, Run: d.run,
					})
				}
				opens := w.From - 7*hour
				pass(opens + 20*minute)
				began := d.rounds()
				if len(began) != 20 || began[0] < opens {
					t.Fatalf("%d rounds, the first after %v, want 20 after %v", len(began), began[0], opens)
				}
				if last := began[19] - opens; last < 10*minute {
					t.Fatalf("all began within %v of the opening", last)
				}
			})
		})
	}
}

// A wall clock that is turned while a round is waited for has its say in the window.
func TestWindowAfterTheClockWasTurned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		clock := new(wallClock)
		d, r := newDiary(), runner(t, tasks.Options{Now: func() time.Time { return clock.now().UTC() }})
		task := d.task("gc", hour)
		task.Window = tasks.Window{From: 22 * hour, To: 6 * hour}
		schedule(t, r, task)
		clock.turn(12 * hour)
		pass(9 * hour)
		d.want(t)
		pass(hour)
		d.want(t, 10*hour)
	})
}

func TestWindowThatClocksJumpOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		berlin, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Until(time.Date(2000, 3, 25, 12, 0, 0, 0, berlin)))
		d, r := newDiary(), runner(t, tasks.Options{Now: func() time.Time { return time.Now().In(berlin) }})
		task := d.task("gc", hour)
		task.Window = tasks.Window{From: 2*hour + 15*minute, To: 2*hour + 45*minute}
		schedule(t, r, task)
		pass(2 * day) // on the 26th it's never between 2 and 3
		began := d.rounds()
		if want := []time.Duration{37*hour + 15*minute}; !slices.Equal(began, want) {
			t.Fatalf("rounds began at %v, want %v", began, want)
		}
	})
}
