package filesystem_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// line is a line of a history or of pulls.
type line struct {
	Time   time.Time     `json:"time"`
	By     string        `json:"by"`
	Tag    string        `json:"tag"`
	Was    digest.Digest `json:"was"`
	Now    digest.Digest `json:"now"`
	Digest digest.Digest `json:"digest"`
}

// lines are the lines of a file that are whole.
func lines(t testing.TB, elem ...string) []line {
	t.Helper()
	var found []line
	for text := range strings.Lines(read(t, elem...)) {
		var l line
		if json.Unmarshal([]byte(text), &l) == nil {
			found = append(found, l)
		}
	}
	return found
}

func TestHistoryTellsWhatHappenedToNames(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				s := open(t, root, opts)
				r := repository(t, s, "a/b")
				m, n := image(t, "m"), image(t, "n")
				begin := time.Now()
				r.push(m, "v1")
				r.push(m, "v1") // nothing new
				time.Sleep(time.Hour)
				r.push(n, "v1")
				r.push(n, "v2")
				r.delete("v1")
				r.delete(n.Digest.String())
				want := []line{
					{Now: m.Digest},
					{Tag: "v1", Now: m.Digest},
					{Now: n.Digest},
					{Tag: "v1", Was: m.Digest, Now: n.Digest},
					{Tag: "v2", Now: n.Digest},
					{Tag: "v1", Was: n.Digest},
					{Tag: "v2", Was: n.Digest},
					{Was: n.Digest},
				}
				for i := range want {
					want[i].By, want[i].Time = "somebody", begin.UTC()
					if i >= 2 {
						want[i].Time = begin.Add(time.Hour).UTC()
					}
				}
				if got := lines(t, root, "_repos/a,b/history"); !slices.Equal(got, want) {
					t.Fatalf("history is %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestHistoryIsWrittenBeforeTheIndex(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			rec := new(recorder)
			s := openFaulty(t, root, opts, rec.step)
			r := repository(t, s, "a")
			r.push(image(t, "m"), "v1")
			rec.reset()
			r.push(image(t, "n"), "v1")
			history, index := rec.first("write", "_repos/a/history"), rec.first("rename", "a/index.json")
			if opts.LogFrom == 1 {
				index = rec.first("write", "_repos/a/log")
			}
			if history < 0 || index < 0 || history > index {
				t.Fatalf("history is step %d, index %d", history, index)
			}
		})
	}
}

func TestHistorySurvivesATornLine(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	repository(t, s, "a").push(image(t, "m"), "v1")
	shut(t, s)
	const name = "_repos/a/history"
	whole := read(t, root, name)
	write(t, whole+`{"time":"20`, root, name)
	repository(t, open(t, root, filesystem.Options{}), "a").push(image(t, "n"), "v1")
	if got := lines(t, root, name); len(got) != 4 || got[3].Was != image(t, "m").Digest {
		t.Fatalf("history is %+v, want four lines", got)
	}
}

func recordPull(r repo, d digest.Digest) {
	if p, ok := storage.As[storage.PullRecorder](r.Repository); ok {
		p.RecordPull(r.t.Context(), d)
	}
}

func TestPullsAreWrittenDown(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		s := open(t, root, filesystem.Options{})
		r := repository(t, s, "a")
		m, n := r.push(image(t, "m"), "v1"), r.push(image(t, "n"), "v2")
		begin := time.Now()
		recordPull(r, m)
		recordPull(r, n)
		time.Sleep(time.Second)
		recordPull(r, n)
		if exists(t, root, "_repos/a/pulls") {
			t.Fatal("written at once")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantPulls(t, root, map[digest.Digest]time.Time{m: begin, n: begin.Add(time.Second)}, 2)
		later := time.Now()
		recordPull(r, m)
		shut(t, s)
		wantPulls(t, root, map[digest.Digest]time.Time{m: later, n: begin.Add(time.Second)}, 3)
	})
}

// wantPulls fails unless the last lines of the pulls of a are these.
func wantPulls(t *testing.T, root string, want map[digest.Digest]time.Time, count int) {
	t.Helper()
	all := lines(t, root, "_repos/a/pulls")
	got := make(map[digest.Digest]time.Time)
	for _, l := range all {
		got[l.Digest] = l.Time
	}
	for d, at := range want {
		if !got[d].Equal(at) {
			t.Fatalf("%s was pulled at %v, want %v", d, got[d], at)
		}
	}
	if len(got) != len(want) || len(all) != count {
		t.Fatalf("pulls are %v, in %d lines; want %d", got, len(all), count)
	}
}

func TestPullsAreCompacted(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		s := open(t, root, filesystem.Options{})
		r := repository(t, s, "a")
		m := r.push(image(t, "m"), "v1")
		old := digest.FromString("pulled long ago")
		at := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		var text strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&text, `{"digest":%q,"time":%q}`+"\n", old, at.Add(time.Duration(i)*time.Second).Format(time.RFC3339))
			if i == 10_000 {
				text.WriteString("{\"digest\":\n") // a line that was cut off hides none of those behind it
			}
		}
		text.WriteString(`{"dig`)
		write(t, text.String(), root, "_repos/a/pulls")
		recordPull(r, m)
		now := time.Now()
		shut(t, s)
		wantPulls(t, root, map[digest.Digest]time.Time{m: now, old: at.Add(19_999 * time.Second)}, 2)
	})
}
