package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestTrigger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		d.takes = minute
		schedule(t, r, d.task("gc", hour))
		pass(30 * minute)
		ctx, cancel := context.WithCancel(t.Context())
		first, err := r.Trigger(ctx, "gc", nil)
		cancel() // the round goes on
		if err != nil || first.ID == "" || !first.Ended.IsZero() {
			t.Fatalf("%+v, %v", first, err)
		}
		if s := status(t, r, "gc"); s.Current == nil || s.Current.ID != first.ID {
			t.Fatalf("%+v runs, want %s", s.Current, first.ID)
		}
		for _, params := range []string{"", "{}"} {
			if _, err := r.Trigger(t.Context(), "gc", []byte(params)); !errors.Is(err, tasks.ErrRunning) {
				t.Fatalf("Trigger while one runs: %v, want %v", err, tasks.ErrRunning)
			}
		}
		pass(minute)
		if s := status(t, r, "gc"); s.Current != nil || s.Last.ID != first.ID || s.Last.Error != "" {
			t.Fatalf("%+v, want the round complete", s)
		}
		if second := trigger(t, r, "gc", ""); second.ID == first.ID {
			t.Fatal("two rounds of one ID")
		}
		pass(hour) // the schedule counts from here
		d.want(t, 30*minute, 31*minute, 91*minute)
	})
}

func TestTriggerWithParams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		var params []string
		task := d.task("gc", hour)
		task.Run = func(ctx context.Context, r *tasks.Round) error {
			params = append(params, string(r.Params()))
			return d.run(ctx, r)
		}
		schedule(t, r, task)
		pass(30 * minute)
		report := trigger(t, r, "gc", `{"dry_run":true}`)
		if s := status(t, r, "gc"); string(report.Params) != `{"dry_run":true}` || string(s.Last.Params) != string(report.Params) {
			t.Fatalf("reports %s and %s", report.Params, s.Last.Params)
		}
		pass(hour)
		d.want(t, 30*minute, hour) // the schedule didn't move
		if want := []string{`{"dry_run":true}`, ""}; !slices.Equal(params, want) {
			t.Fatalf("params %q, want %q", params, want)
		}
	})
}

func TestTriggerRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d, r := newDiary(), runner(t, tasks.Options{})
		schedule(t, r, d.task("gc", hour))
		if _, err := r.Trigger(t.Context(), "scrub", nil); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("an unknown task: %v, want %v", err, tasks.ErrUnknown)
		}
		if _, err := r.Trigger(t.Context(), "gc", []byte("{")); err == nil || !strings.Contains(err.Error(), "JSON") {
			t.Errorf("params that aren't JSON: %v", err)
		}
		stop(t, r)
		if _, err := r.Trigger(t.Context(), "gc", nil); !errors.Is(err, tasks.ErrStopped) {
			t.Errorf("after Stop: %v, want %v", err, tasks.ErrStopped)
		}
		d.want(t)
	})
}

// Whoever asks doesn't wait longer than it wants, and then there's no round.
func TestTriggerWhileLoading(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &memory{loading: make(chan struct{})}
		d, r := newDiary(), runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Trigger(ctx, "gc", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v, want %v", err, context.DeadlineExceeded)
		}
		for _, end := range []struct {
			by   func()
			want error
		}{{func() { r.Unschedule("gc") }, tasks.ErrUnknown}, {func() { stop(t, r) }, tasks.ErrStopped}} {
			schedule(t, r, d.task("gc", hour))
			got := make(chan error, 1)
			go func() {
				_, err := r.Trigger(t.Context(), "gc", nil)
				got <- err
			}()
			synctest.Wait()
			if _, err := r.Trigger(t.Context(), "gc", nil); !errors.Is(err, tasks.ErrRunning) {
				t.Fatalf("while another one asks: %v, want %v", err, tasks.ErrRunning)
			}
			end.by()
			if err := <-got; !errors.Is(err, end.want) {
				t.Fatalf("%v, want %v", err, end.want)
			}
		}
		close(m.loading)
		d.want(t)
	})
}

// Of a round that's due and one that's asked for at the same moment there's one.
func TestTriggerWhenDue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, d := new(memory), newDiary()
		before := runner(t, tasks.Options{Memory: m})
		schedule(t, before, d.task("gc", hour))
		stop(t, before)
		pass(day)
		m.loading = make(chan struct{})
		r := runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", hour))
		time.AfterFunc(minute, func() { close(m.loading) })
		trigger(t, r, "gc", "")
		pass(minute)
		d.want(t, day+minute)
	})
}

func TestPanic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		d, r := newDiary(), runner(t, tasks.Options{Log: log.logger()})
		task := d.task("gc", hour)
		task.Run = func(ctx context.Context, r *tasks.Round) error {
			_ = d.run(ctx, r)
			panic("out of cheese")
		}
		schedule(t, r, task)
		pass(2 * hour)
		d.want(t, hour, 2*hour)
		if s := status(t, r, "gc"); s.Last.Error != "panic: out of cheese" {
			t.Fatalf("%+v", s.Last)
		}
		if log.count("runner_test.go") != 2 || log.count("round failed") != 2 {
			t.Fatalf("the stack isn't logged: %s", log.buf.String())
		}
	})
}

func TestStop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logs
		d, r := newDiary(), runner(t, tasks.Options{Log: log.logger()})
		d.takes = hour
		for _, name := range []string{"gc", "scrub", "waits"} {
			schedule(t, r, d.task(name, hour))
		}
		schedule(t, r, d.task("asked", 0))
		trigger(t, r, "gc", "")
		trigger(t, r, "asked", "")
		begun := time.Now()
		stop(t, r)
		if took := time.Since(begun); took != 0 || d.running != 0 {
			t.Fatalf("Stop took %v, and %d rounds run", took, d.running)
		}
		if s := status(t, r, "gc"); s.Current != nil || s.Last.Error != tasks.ErrStopped.Error() {
			t.Fatalf("%+v, want a round that was stopped", s)
		}
		if s := status(t, r, "asked"); !s.Due.IsZero() {
			t.Fatalf("due %v, want only when asked", s.Due)
		}
		if log.count("round stopped") != 2 || log.count("ERROR") != 0 {
			t.Fatal(log.buf.String())
		}
		stop(t, r)
		if err := r.Schedule(d.task("late", hour)); !errors.Is(err, tasks.ErrStopped) {
			t.Fatalf("Schedule: %v, want %v", err, tasks.ErrStopped)
		}
		pass(day)
		d.want(t, 0, 0)
	})
}

func TestStopNoLongerThanItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := runner(t, tasks.Options{})
		deaf := make(chan struct{})
		schedule(t, r, tasks.Task{Name: "gc", Run: func(context.Context, *tasks.Round) error { <-deaf; return nil }})
		trigger(t, r, "gc", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "gc") {
			t.Fatalf("%v, want %v of gc", err, context.DeadlineExceeded)
		}
		waited := make(chan struct{})
		go func() {
			stop(t, r)
			close(waited)
		}()
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("the second Stop didn't wait")
		default:
		}
		close(deaf)
		<-waited
		if s := status(t, r, "gc"); s.Last.Error != "" {
			t.Fatalf("%+v, want complete, as Run said", s.Last)
		}
	})
}

func TestStatus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		r := runner(t, tasks.Options{Memory: m, Now: utc})
		var late *tasks.Round
		run := func(ctx context.Context, r *tasks.Round) error {
			late = r
			for range 3 {
				r.Add("blobs", 2)
				r.SetCursor(ctx, "b")
				time.Sleep(minute)
			}
			r.Add("bytes", 1)
			return nil
		}
		if _, ok := r.Status("gc"); ok {
			t.Fatal("a task is known that isn't scheduled")
		}
		schedule(t, r, tasks.Task{Name: "gc", Every: hour, Jitter: -1, Run: run})
		schedule(t, r, tasks.Task{Name: "a", Run: run})
		pass(hour + 30*time.Second)
		id := status(t, r, "gc").Current.ID
		wantJSON(t, status(t, r, "gc"), `{"name":"gc","due":"2000-01-01T02:00:00Z","current":{"id":"`+id+`",`+
			`"began":"2000-01-01T01:00:00Z","counts":{"blobs":2},"cursor":"b"}}`)
		pass(hour - minute)
		ended := `{"id":"` + id + `",` +
			`"began":"2000-01-01T01:00:00Z","ended":"2000-01-01T01:03:00Z","counts":{"blobs":6,"bytes":1}}`
		last := `"last":` + ended + `,"complete":` + ended
		wantJSON(t, status(t, r, "gc"), `{"name":"gc","due":"2000-01-01T02:00:00Z",`+last+`}`)
		wantJSON(t, r.Statuses(), `[{"name":"a"},{"name":"gc","due":"2000-01-01T02:00:00Z",`+last+`}]`)

		late.Add("bytes", 1)
		late.SetCursor(t.Context(), "c")
		if got := late.Report(); got.Counts["bytes"] != 1 || got.Cursor != "" {
			t.Fatalf("%+v changed after the round", got)
		}
		status(t, r, "gc").Last.Counts["blobs"] = 0 // a copy
		wantJSON(t, status(t, r, "gc"), `{"name":"gc","due":"2000-01-01T02:00:00Z",`+last+`}`)
		stop(t, r)
		after := runner(t, tasks.Options{Memory: m, Now: utc})
		schedule(t, after, tasks.Task{Name: "gc", Every: hour, Jitter: -1, Run: run})
		wantJSON(t, status(t, after, "gc"), `{"name":"gc","due":"2000-01-01T02:00:00Z",`+last+`}`)
	})
}

func wantJSON(t *testing.T, v any, want string) {
	t.Helper()
	if got, err := json.Marshal(v); err != nil || string(got) != want {
		t.Fatalf("got  %s, %v\nwant %s", got, err, want)
	}
}

// Who reads a Report while its round counts must not meet it, under -race.
func TestReportIsACopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := runner(t, tasks.Options{})
		schedule(t, r, tasks.Task{Name: "gc", Run: func(ctx context.Context, r *tasks.Round) error {
			for range 1000 {
				r.Add("blobs", 1)
				r.SetCursor(ctx, "x")
			}
			return nil
		}})
		first := trigger(t, r, "gc", "")
		first.Counts = nil
		for {
			s, _ := r.Status("gc")
			if s.Last != nil {
				break
			}
			if s.Current != nil {
				delete(s.Current.Counts, "blobs")
			}
		}
		if got := status(t, r, "gc").Last.Counts["blobs"]; got != 1000 {
			t.Fatalf("counted %d, want 1000", got)
		}
	})
}

func TestZeroRound(t *testing.T) {
	t.Parallel()
	r := new(tasks.Round)
	r.Add("blobs", 2)
	r.SetCursor(t.Context(), "x")
	if got := r.Report(); got.Counts["blobs"] != 2 || r.Cursor() != "x" || r.Params() != nil || r.ClockMoved() {
		t.Fatalf("%+v", got)
	}
}
