package tasks_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/caddy-oci/oci-registry/tasks"
)

// wantComplete fails unless that round is known to be the last complete one.
func wantComplete(t *testing.T, r *tasks.Runner, id string) {
	t.Helper()
	s := status(t, r, "gc")
	switch {
	case s.Complete == nil:
		t.Fatalf("no round is complete, want %s", id)
	case s.Complete.ID != id || s.Complete.Ended.IsZero():
		t.Fatalf("%+v is complete, want %s", s.Complete, id)
	}
}

// Which round was complete last is known whatever comes after it: one that was asked
// for with params, one that failed, another process.
func TestCompleteRoundIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		d, r := newDiary(), runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", day))
		trigger(t, r, "gc", `{"dry_run":true}`)
		pass(minute)
		if s := status(t, r, "gc"); s.Complete != nil || s.Last == nil {
			t.Fatalf("%+v, want a last round, which isn't complete", s)
		}
		complete := trigger(t, r, "gc", "").ID
		pass(minute)
		wantComplete(t, r, complete)
		trigger(t, r, "gc", `{"dry_run":true}`)
		pass(minute)
		wantComplete(t, r, complete)
		d.fails = errors.New("no such disk")
		trigger(t, r, "gc", "")
		pass(minute)
		wantComplete(t, r, complete)
		stop(t, r)

		r = runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", day))
		pass(minute)
		wantComplete(t, r, complete)
	})
}

// What a release has remembered that knew of the last round only.
func TestCompleteRoundOfAnOlderRelease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := new(memory)
		d, r := newDiary(), runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", day))
		complete := trigger(t, r, "gc", "").ID
		pass(minute)
		stop(t, r)
		var rec map[string]json.RawMessage
		if err := json.Unmarshal(m.data["gc"], &rec); err != nil || rec["complete"] == nil {
			t.Fatalf("%s, %v", m.data["gc"], err)
		}
		delete(rec, "complete")
		data, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		m.data["gc"] = data
		r = runner(t, tasks.Options{Memory: m})
		schedule(t, r, d.task("gc", day))
		pass(minute)
		wantComplete(t, r, complete)
	})
}
