package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// pushTo pushes content to a repository, whatever others have.
func pushTo(t *testing.T, s *Store, name oci.Name, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	if _, err := storage.PutBlob(t.Context(), s.Repository(name), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// entryIn is where a blob of a repository is.
func entryIn(t *testing.T, s *Store, name oci.Name, d digest.Digest) blob {
	t.Helper()
	r := s.cache.acquire(s, name)
	defer s.cache.release(r)
	now, err := r.refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := now.find(d)
	if b == nil {
		t.Fatalf("%s has no %s", name, d)
	}
	return *b
}

// Sharing waits as other work in the background does: before each object it looks at,
// reads or changes, and while it reads.
func TestDedupeWaits(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, _ *fake) {
		content, names := text(3*perYield), []oci.Name{app, other, mustName("third")}
		d := digest.FromString(content)
		for _, name := range names {
			pushTo(t, s, name, content)
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * day)
		own := entryIn(t, s, other, d).ID
		units, gaveWay, errOver := 0, 0, errors.New("over")
		sweep := func(most int) {
			units, gaveWay = 0, 0
			opts := storage.SweepOptions{Before: time.Now().Add(-day), Wait: func(_ context.Context, n int) error {
				if units += n; units > most {
					return errOver
				}
				if n == 0 {
					gaveWay++
				}
				return nil
			}}
			for what, err := range s.Sweep(t.Context(), opts) {
				t.Fatalf("%v, %v", what, err)
			}
		}
		for most := range 5 { // looks at three, begins a move, reads what it moves to
			if sweep(most); entryIn(t, s, other, d).ID != own {
				t.Fatalf("after %d units it has moved a blob", most)
			}
		}
		sweep(100)
		if units != 6 || gaveWay < len(names)+3 {
			t.Errorf("it waits for %d units, and gives way %d times", units, gaveWay)
		}
		if entryIn(t, s, other, d).ID == own {
			t.Error("nothing is shared")
		}
	})
}

// atOnce is for who doesn't wait.
func atOnce(ctx context.Context, _ int) error { return ctx.Err() }

// Of several objects with one content a round leaves the oldest, and the others
// go when nothing has named them for a grace.
func TestDedupe(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(50_000)
		var names []oci.Name
		for i := range 7 {
			name := mustName(fmt.Sprint("team/app", 6-i)) // the oldest isn't the first
			names = append(names, name)
			pushTo(t, s, name, content)
			time.Sleep(time.Minute)
		}
		pushTo(t, s, app, text(40_000)) // it has its own
		d := digest.FromString(content)
		oldest := entryIn(t, s, names[0], d).ID
		marked := time.Now().UTC().Truncate(time.Second)
		if err := s.Repository(names[3]).Update(t.Context(), func(e *storage.Edit) error { e.Mark(d, marked); return nil }); err != nil {
			t.Fatal(err)
		}
		if n := f.count("data/"); n != 8 {
			t.Fatalf("there are %d objects", n)
		}
		time.Sleep(2 * day)
		if found := sweeping(t, s, true); found != nil || entryIn(t, s, names[1], d).ID == oldest {
			t.Fatalf("a dry round finds %v, and changes something", found)
		}
		sweeping(t, s, false)
		for i, name := range names {
			b := entryIn(t, s, name, d)
			if b.ID != oldest || b.Also != "" {
				t.Errorf("%s has %+v, want %s", name, b, oldest)
			}
			if i == 3 && !b.marked.Equal(marked) || i != 3 && !b.marked.IsZero() {
				t.Errorf("%s is marked since %v", name, b.marked)
			}
		}
		writes, calls, _ := f.counted(func() { sweeping(t, s, false) }) // condemns
		if calls["stat"] > 0 {
			t.Errorf("when all is one, a round does %d calls: %v", writes, calls)
		}
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); len(found) != 6 || f.count("data/") != 2 {
			t.Fatalf("found %v, %d objects are left", found, f.count("data/"))
		}
		for _, name := range append(names, app) {
			if err := whole(t.Context(), s, name); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// interrupted lets somebody do something before a write of a record.
type interrupted struct {
	*fake

	before func(n int) error // of the n-th
	writes int
}

func (i *interrupted) put(ctx context.Context, what putRequest) (string, error) {
	if strings.HasPrefix(what.Key, "repositories/") && i.before != nil {
		i.writes++
		if err := i.before(i.writes); err != nil {
			return "", err
		}
	}
	return i.fake.put(ctx, what)
}

// interruption is something that happens while a record is moved.
type interruption struct {
	name   string
	before func(t *testing.T, s *Store, keep string) func(n int) error
	moved  bool // after the first round
}

func interruptions() []interruption {
	return []interruption{
		{"dies", func(*testing.T, *Store, string) func(int) error {
			return func(n int) error {
				if n == 2 {
					return errDead
				}
				return nil
			}
		}, false},
		{"the other one is condemned", func(t *testing.T, s *Store, keep string) func(int) error {
			return func(n int) error {
				if n == 1 {
					return s.condemn(t.Context(), keep, func(ids map[string]time.Time) { ids[keep] = time.Now() })
				}
				return nil
			}
		}, false},
		{"the other one is gone", func(t *testing.T, s *Store, keep string) func(int) error {
			return func(n int) error {
				if n == 1 {
					return s.bucket.remove(t.Context(), s.keys.data(keep))
				}
				return nil
			}
		}, false},
		{"nothing happens", func(*testing.T, *Store, string) func(int) error { return nil }, true},
	}
}

// Whoever moves a record may die or find that the other object goes: the record
// names what is there, at each moment.
func TestDedupeInterrupted(t *testing.T) {
	t.Parallel()
	for _, c := range interruptions() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, s *Store, f *fake) { c.interrupts(t, s, f) })
		})
	}
}

func (c interruption) interrupts(t *testing.T, s *Store, f *fake) {
	t.Helper()
	content := text(50_000)
	d := digest.FromString(content)
	pushTo(t, s, other, content)
	time.Sleep(time.Minute)
	pushTo(t, s, app, content)
	keep, own := entryIn(t, s, other, d).ID, entryIn(t, s, app, d).ID
	time.Sleep(2 * day)
	b := &interrupted{fake: f, before: c.before(t, s, keep)}
	sweeper := openOn(t, b, Options{DigestsFreshFor: -1})
	for _, err := range sweeper.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
		if err != nil && !errors.Is(err, errDead) {
			t.Fatal(err)
		}
	}
	now := entryIn(t, s, app, d)
	if want := map[bool]string{true: keep, false: own}[c.moved]; now.ID != want {
		t.Fatalf("it's at %+v, want %s", now, want)
	}
	if died := c.name == "dies"; died != (now.Also != "") {
		t.Fatalf("it's also at %q", now.Also)
	}
	wantBlob(t, s, content)
	if c.name != "dies" {
		return
	}
	if _, err := s.Repository(mustName("third")).MountBlob(t.Context(), d, app); err != nil {
		t.Fatal(err)
	}
	if third := entryIn(t, s, mustName("third"), d); third.Also != "" {
		t.Errorf("a mount takes along that it's also at %q", third.Also)
	}
	sweeping(t, s, false)
	if now = entryIn(t, s, app, d); now.ID != keep || now.Also != "" {
		t.Errorf("after the next round it's at %+v, want %s", now, keep)
	}
}

// Data to which a move has begun is named, whoever else drops it.
func TestDedupeNamesBoth(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(50_000)
		d := pushTo(t, s, other, content)
		time.Sleep(time.Minute)
		pushTo(t, s, app, content)
		keep := entryIn(t, s, other, d).ID
		b := &interrupted{fake: f, before: func(n int) error {
			if n == 2 {
				return errDead
			}
			return nil
		}}
		if err := openOn(t, b, Options{}).move(t.Context(), app, map[string]string{entryIn(t, s, app, d).ID: keep}, make(proofs), atOnce); !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		if err := storage.DeleteBlob(t.Context(), s.Repository(other), d, ""); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(2 * day)
			sweeping(t, s, false)
			list, _, err := s.condemned(t.Context(), keep)
			if _, ok := list.IDs[keep]; ok || err != nil {
				t.Fatalf("it's condemned: %v, %v", list, err)
			}
		}
		if now := entryIn(t, s, app, d); now.ID != keep || f.count("data/") != 1 {
			t.Fatalf("it's at %+v of %d", now, f.count("data/"))
		}
		wantBlob(t, s, content)
	})
}

// What is condemned while somebody comes to name it stays, and a round moves to
// something else what names it.
func TestDedupeFromTheCondemned(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(50_000)
		d := pushTo(t, s, app, content)
		old := entryIn(t, s, app, d).ID
		if err := s.condemn(t.Context(), old, func(ids map[string]time.Time) { ids[old] = time.Now() }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); found != nil {
			t.Fatalf("found %v", found)
		}
		pushTo(t, s, other, content)
		sweeping(t, s, false)
		if now := entryIn(t, s, app, d).ID; now == old || now != entryIn(t, s, other, d).ID {
			t.Fatalf("it's at %s", now)
		}
		time.Sleep(2 * day)
		sweeping(t, s, false) // finds that nothing names it any more, which begins its grace
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); len(found) != 1 || f.count("data/") != 1 {
			t.Fatalf("found %v, and %d are left", found, f.count("data/"))
		}
		wantBlob(t, s, content)
	})
}

// Nothing is moved to bytes that have rotted: that's said, and all go to the oldest
// that are right, also from the rotten ones.
func TestDedupeReads(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(50_000)
		d := digest.FromString(content)
		names := []oci.Name{other, mustName("second"), app, mustName("fourth")}
		for _, name := range names {
			pushTo(t, s, name, content)
			time.Sleep(time.Minute)
		}
		var rotten []string
		for _, name := range names[:2] {
			key := s.keys.data(entryIn(t, s, name, d).ID)
			f.objects[key].body[17]++
			rotten = append(rotten, key)
		}
		time.Sleep(2 * day)
		keep := entryIn(t, s, app, d).ID
		var said []string
		for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
			if err == nil {
				t.Fatalf("found %v", what)
			}
			said = append(said, err.Error())
		}
		for i, key := range rotten {
			if len(said) != 2 || !strings.Contains(said[i], key) || !strings.Contains(said[i], d.String()) {
				t.Errorf("it says %q, want a line of %s", said, key)
			}
		}
		for _, name := range names {
			if now := entryIn(t, s, name, d); now.ID != keep || now.Also != "" {
				t.Errorf("%s has %+v, want %s", name, now, keep)
			}
		}
		sweeping(t, s, false)
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); len(found) != 3 || f.count("data/") != 1 {
			t.Errorf("found %v, and %d are left", found, f.count("data/"))
		}
		wantBlob(t, s, content)
	})
}

// What is packed with other things stays there.
func TestDedupeLeavesPacks(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(4000)
		for _, name := range []oci.Name{app, other} {
			s.limits.tail = 256 << 10
			pushTo(t, s, name, content)
			s.limits.tail = 1
			pushTo(t, s, name, text(3000))
		}
		time.Sleep(2 * day)
		before := entryIn(t, s, app, digest.FromString(content))
		sweeping(t, s, false)
		if after := entryIn(t, s, app, digest.FromString(content)); before.inline() || after.ID != before.ID {
			t.Errorf("it was at %+v, and is at %+v", before, after)
		}
	})
}
