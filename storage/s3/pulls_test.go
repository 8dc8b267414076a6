package s3

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// record is a pull.
func record(t *testing.T, s *Store, name oci.Name, d digest.Digest) {
	t.Helper()
	s.Repository(name).(*Repository).RecordPull(t.Context(), d)
}

// recorded is what all objects say of when things were pulled.
func recorded(f *fake) map[pulled]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := make(map[pulled]time.Time)
	for key, o := range f.objects {
		if len(key) > 6 && key[:6] == "pulls/" {
			decodePulls(o.body, times)
		}
	}
	return times
}

// However often something is pulled, that's written once a minute, by each process
// to an object of its own, and while nothing is pulled nothing is written.
func TestRecordPulls(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, a *Store, f *fake) {
		b := openOn(t, f, Options{})
		x, y := digest.FromString("x"), digest.FromString("y")
		want := make(map[pulled]time.Time)
		puts := func() int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.calls["put"]
		}
		for minute := range 3 {
			for range 50 {
				record(t, a, app, x)
				record(t, b, other, x)
				time.Sleep(time.Second)
			}
			want[pulled{app, x}] = time.Now().Add(-time.Second).UTC().Truncate(time.Second)
			want[pulled{other, x}] = want[pulled{app, x}]
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := puts(); n != 2*(minute+1) {
				t.Fatalf("%d writes after minute %d", n, minute)
			}
			if got := recorded(f); !maps.EqualFunc(got, want, time.Time.Equal) {
				t.Fatalf("pulled: %v, want %v", got, want)
			}
		}
		time.Sleep(time.Hour)
		if n := puts(); n != 6 || f.count("pulls/") != 2 {
			t.Fatalf("%d writes of %d objects, while nothing was pulled", n, f.count("pulls/"))
		}
		record(t, b, app, y)
		want[pulled{app, y}] = time.Now().UTC().Truncate(time.Second)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if got := recorded(f); !maps.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("after the end: %v, want %v", got, want)
		}
		record(t, b, app, x) // it's closed, and nobody minds
	})
}

// What can't be written down is written down later.
func TestRecordPullsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := smallParts()
		s := open(dark{f, time.Now().Add(5 * time.Minute)}, Options{RetryFor: 10 * time.Second})
		x := digest.FromString("x")
		record(t, s, app, x)
		at := time.Now().UTC().Truncate(time.Second)
		time.Sleep(10 * time.Minute)
		if got := recorded(f)[pulled{app, x}]; !got.Equal(at) {
			t.Errorf("pulled %v, want %v", got, at)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Objects of long ago become one, which says what they said of what is still there.
func TestSweepPulls(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		there, gone := pushText(t, s, 10), digest.FromString("gone")
		for range mergePulls {
			process := openOn(t, f, Options{})
			record(t, process, app, there)
			record(t, process, app, gone)
			record(t, process, mustName("no/such"), there)
			if err := process.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		last := recorded(f)[pulled{app, there}]
		sweeping(t, s, false)
		if n := f.count("pulls/"); n != mergePulls {
			t.Fatalf("%d of %d young ones are left", n, mergePulls)
		}
		time.Sleep(2 * day)
		sweeping(t, s, true)
		if n := f.count("pulls/"); n != mergePulls {
			t.Fatalf("%d of %d are left by a dry round", n, mergePulls)
		}
		sweeping(t, s, false)
		want := map[pulled]time.Time{{app, there}: last}
		if got := recorded(f); f.count("pulls/") != 1 || !maps.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%d objects say %v, want %v", f.count("pulls/"), got, want)
		}
	})
}

// removing is a bucket that something happens to before objects are removed.
type removing struct {
	*fake
	before func()
}

func (r removing) remove(ctx context.Context, keys ...string) error {
	r.before()
	return r.fake.remove(ctx, keys...)
}

// A process that rested for long and goes on while old objects are made one writes
// to none of those.
func TestPullsAfterARest(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		d := pushText(t, s, 10)
		quiet := openOn(t, f, Options{})
		record(t, quiet, app, d)
		for range mergePulls {
			process := openOn(t, f, Options{})
			record(t, process, app, d)
			if err := process.Close(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * day)
		var at time.Time
		sweeper := open(removing{f, func() {
			at = time.Now().UTC().Truncate(time.Second)
			record(t, quiet, app, d)
			quiet.flushPulls(t.Context())
		}}, Options{})
		sweeping(t, sweeper, false)
		if got := recorded(f)[pulled{app, d}]; at.IsZero() || !got.Equal(at) {
			t.Errorf("pulled %v, want %v", got, at)
		}
		if err := sweeper.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// An object doesn't grow for ever.
func TestRecordManyPulls(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		const each = 1500
		for round := range 4 {
			for i := range each {
				record(t, s, app, digest.FromString(fmt.Sprint(round, i)))
			}
			time.Sleep(pullTime + time.Second)
		}
		if n := f.count("pulls/"); n != 2 {
			t.Errorf("there are %d objects", n)
		}
		if n := len(recorded(f)); n != 4*each {
			t.Errorf("%d pulls of %d are recorded", n, 4*each)
		}
		s.pulls.mu.Lock()
		defer s.pulls.mu.Unlock()
		if n := len(s.pulls.times); n > 2*each {
			t.Errorf("%d are in memory", n)
		}
	})
}
