package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestRestartBeforeDue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		before := runner(t, tasks.Options{Memory: m})
		schedule(t, before, d.task("gc", hour))
		pass(90 * minute)
		stop(t, before)
		pass(10 * minute)
		saves := m.countSaves()
		after := runner(t, tasks.Options{Memory: m})
		schedule(t, after, d.task("gc", hour))
		if got := m.countSaves(); got != saves { // another replica may be at work
			t.Fatal("the start changed what's remembered")
		}
		pass(2 * hour)
		d.want(t, hour, 2*hour, 3*hour)
	})
}

func TestRestartsKeepDueTimesInAWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		task := d.task("gc", 26*hour)
		task.Window = tasks.Window{From: 12 * hour, To: 13 * hour}
		for range 17 {
			r := runner(t, tasks.Options{Memory: m, Now: utc})
			schedule(t, r, task)
			pass(7 * hour)
			stop(t, r)
		}
		d.want(t, 36*hour, 84*hour)
	})
}

// What is due is shown as it will be, not as it was.
func TestRestartOutsideOfTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		task := tasks.Task{Name: "gc", Every: hour, Window: tasks.Window{From: 22 * hour, To: 6 * hour}, Run: d.run}
		before := runner(t, tasks.Options{Memory: m, Now: utc})
		schedule(t, before, task)
		stop(t, before)
		pass(12 * hour)
		after := runner(t, tasks.Options{Memory: m, Now: utc})
		schedule(t, after, task)
		if s := status(t, after, "gc"); s.Due.Hour() != 22 {
			t.Fatalf("due %v, want when the window opens", s.Due)
		}
	})
}

// A registry that never runs for as long as Every still gets its rounds.
func TestManyRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		for range 3 * 6 {
			r := runner(t, tasks.Options{Memory: m})
			schedule(t, r, d.task("gc", hour))
			pass(10*minute - time.Second)
			stop(t, r)
			pass(time.Second)
		}
		d.want(t, hour, 2*hour)
	})
}

func TestRestartAfterDue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint("task", i))
		}
		start := func() *tasks.Runner {
			r := runner(t, tasks.Options{Memory: m})
			for _, name := range names {
				schedule(t, r, tasks.Task{Name: name, Every: hour, Run: d.run})
			}
			return r
		}
		stop(t, start())
		pass(day)
		start()
		pass(hour - minute)
		began := d.rounds()
		if len(began) != len(names) {
			t.Fatalf("%d rounds, want %d", len(began), len(names))
		}
		if last := began[len(began)-1]; last > day+minute {
			t.Errorf("the last one began %v after the start", last-day)
		}
		if slices.Sort(began); len(slices.Compact(began)) < len(names)/2 {
			t.Errorf("they began at once: %v", began)
		}
	})
}

func TestLostMemory(t *testing.T) {
	for name, c := range map[string]struct {
		memory *memory
		logged int
	}{
		"never ran": {new(memory), 0},
		"no due time": {&memory{data: map[string][]byte{"gc": []byte(
			`{"since":"2000-01-01T00:00:00Z","timing":{"every":3600000000000}}`)}}, 0},
		"can't be read": {&memory{loadErr: errors.New("no such disk")}, 1},
		"empty":         {&memory{data: map[string][]byte{"gc": {}}}, 1},
		"torn":          {&memory{data: map[string][]byte{"gc": []byte(`{"since":"2000-01-0`)}}, 1},
		"another's":     {&memory{data: map[string][]byte{"gc": []byte(`{"due":"1999-01-01T00:00:00Z"}`)}}, 1},
		"null":          {&memory{data: map[string][]byte{"gc": []byte(`null`)}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logs
				d, r := newDiary(), runner(t, tasks.Options{Memory: c.memory, Log: log.logger()})
				schedule(t, r, d.task("gc", hour))
				schedule(t, r, d.task("gc", hour))
				pass(2 * hour)
				d.want(t, hour, 2*hour)
				if got := log.count("is lost"); got != c.logged {
					t.Fatalf("logged %d times, want %d", got, c.logged)
				}
			})
		})
	}
}

func TestStopWhileLoading(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		m := &memory{loading: make(chan struct{})}
		d, r := newDiary(), runner(t, tasks.Options{Memory: m, Log: log.logger()})
		schedule(t, r, d.task("gc", hour))
		stop(t, r)
		if m.countSaves() != 0 || log.count("lost") != 0 {
			t.Fatalf("what couldn't be loaded in time counts as lost: %s", log.buf.String())
		}
	})
}

func TestMemoryIsNotCalledTwiceAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{saveTakes: 7 * time.Second}
		r := runner(t, tasks.Options{Memory: m})
		schedule(t, r, tasks.Task{Name: "scrub", Run: func(ctx context.Context, r *tasks.Round) error {
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for range 10 {
						r.SetCursor(ctx, "x")
						time.Sleep(cursorEvery)
					}
				})
			}
			wg.Wait()
			return nil
		}})
		trigger(t, r, "scrub", "")
		pass(hour)
		if m.overlaps != 0 || m.saves < 10 {
			t.Fatalf("%d of %d saves beside another", m.overlaps, m.saves)
		}
	})
}

func TestMemoryThatCannotSave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		m := &memory{saveErr: errors.New("no space")}
		d, r := newDiary(), runner(t, tasks.Options{Memory: m, Log: log.logger()})
		schedule(t, r, d.task("gc", hour))
		pass(10 * hour)
		if got := len(d.rounds()); got != 10 {
			t.Fatalf("%d rounds, want 10", got)
		}
		if got := log.count("not remembered"); got != 1 {
			t.Fatalf("logged %d times, want once", got)
		}
	})
}

func TestRoundThatWasStopped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		before := runner(t, tasks.Options{Memory: m})
		task := d.task("scrub", day)
		task.Run = func(ctx context.Context, r *tasks.Round) error {
			r.SetCursor(ctx, "half")
			return errors.Join(sleep(ctx, hour), d.run(ctx, r))
		}
		schedule(t, before, task)
		pass(day + minute)
		stop(t, before)
		pass(minute)
		after := runner(t, tasks.Options{Memory: m})
		schedule(t, after, d.task("scrub", day)) // without jitter, soon is now
		if s := status(t, after, "scrub"); d.found()[1] != "half" || s.Last.Error != "" || s.Last.Cursor != "" {
			t.Fatalf("it went on from %q: %+v", d.found()[1], s.Last)
		}
		pass(day)
		if len(d.found()) != 3 || d.found()[2] != "" {
			t.Fatalf("the rounds began at the cursors %q, want none after one that's complete", d.found())
		}
	})
}

// What was stopped is due soon after a restart, though its Task was unscheduled before.
func TestRoundThatWasStoppedAfterUnschedule(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		d.takes = hour
		before := runner(t, tasks.Options{Memory: m})
		schedule(t, before, d.task("gc", day))
		pass(day + minute)
		before.Unschedule("gc")
		stop(t, before)
		schedule(t, runner(t, tasks.Options{Memory: m}), d.task("gc", day))
		d.want(t, day, day+minute)
	})
}

// A round that kills its process isn't begun again at once, over and over.
func TestRoundThatKillsTheProcess(t *testing.T) {
	for name, cursor := range map[string]string{"at once": "", "later": "here"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				m, d := new(memory), newDiary()
				var found *memory
				task := d.task("scrub", hour)
				task.Run = func(ctx context.Context, r *tasks.Round) error {
					if cursor != "" {
						time.Sleep(cursorEvery)
						r.SetCursor(ctx, cursor)
					}
					found = m.snapshot()
					<-ctx.Done()
					return ctx.Err()
				}
				schedule(t, runner(t, tasks.Options{Memory: m}), task)
				pass(hour + minute)
				schedule(t, runner(t, tasks.Options{Memory: found}), d.task("scrub", hour))
				pass(hour)
				d.want(t, 2*hour)
				if got := d.found()[0]; got != cursor {
					t.Fatalf("it went on from %q, want %q", got, cursor)
				}
			})
		})
	}
}

func TestRoundThatFailed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.fails = errors.New("no such disk")
		task := d.task("scrub", hour)
		task.Run = func(ctx context.Context, round *tasks.Round) error {
			defer round.SetCursor(ctx, "here")
			return d.run(ctx, round)
		}
		schedule(t, r, task)
		pass(2 * hour)
		d.want(t, hour, 2*hour)
		if want := []string{"", "here"}; !slices.Equal(d.found(), want) {
			t.Fatalf("the rounds began at the cursors %q, want %q", d.found(), want)
		}
		if s := status(t, r, "scrub"); s.Last.Error != "no such disk" || s.Last.Cursor != "here" {
			t.Fatalf("%+v", s.Last)
		}
	})
}

const cursorEvery = 5 * time.Second

func TestCursorIsSavedNowAndThen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		r := runner(t, tasks.Options{Memory: m})
		run := func(ctx context.Context, r *tasks.Round) error {
			for i := range 600 {
				r.SetCursor(ctx, fmt.Sprint(i))
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		}
		schedule(t, r, tasks.Task{Name: "scrub", Run: run})
		trigger(t, r, "scrub", "")
		before := m.countSaves()
		pass(30*time.Second + time.Millisecond)
		if got := m.countSaves() - before; got != 6 {
			t.Fatalf("saved %d times in 30 s, want 6", got)
		}
		var rec struct{ Cursor string }
		if err := json.Unmarshal(m.snapshot().data["scrub"], &rec); err != nil || rec.Cursor != "300" {
			t.Fatalf("the cursor saved is %q (%v), want 300", rec.Cursor, err)
		}
		pass(minute)
		rec.Cursor = ""
		if err := json.Unmarshal(m.snapshot().data["scrub"], &rec); err != nil || rec.Cursor != "" {
			t.Fatalf("the cursor saved is %q (%v), want none after the round", rec.Cursor, err)
		}
	})
}

// A round with params neither uses nor changes the cursor of the ordinary ones.
func TestCursorOfARoundWithParams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		r := runner(t, tasks.Options{Memory: m})
		var found []string
		run := func(ctx context.Context, r *tasks.Round) error {
			found = append(found, r.Cursor())
			r.SetCursor(ctx, "some")
			time.Sleep(cursorEvery)
			r.SetCursor(ctx, string(r.Params())+"more")
			if r.Params() == nil && len(found) < 3 {
				return errors.New("no such disk")
			}
			return nil
		}
		schedule(t, r, tasks.Task{Name: "scrub", Run: run})
		for _, params := range []string{"", "1", ""} {
			trigger(t, r, "scrub", params)
			pass(minute)
		}
		if want := []string{"", "", "more"}; !slices.Equal(found, want) {
			t.Fatalf("the rounds began at the cursors %q, want %q", found, want)
		}
	})
}
