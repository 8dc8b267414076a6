package gc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

func TestBlobsGoAGraceAfterTheyAreMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	m := w.push(r, w.image("m", x), "v1")
	w.wait(1000 * time.Hour) // nobody has looked yet
	w.collect(gc.Options{})
	w.wantContents(r, x, y, m)
	w.wait(grace - time.Second)
	w.collect(gc.Options{})
	w.wantContents(r, x, y, m)
	for range 2 {
		w.wait(time.Second)
		w.collect(gc.Options{DryRun: true})
		w.wantContents(r, x, y, m)
		if len(w.found) != 1 || w.found[0] != (gc.Finding{Kind: gc.Blob, Repository: "a", Name: y.String(), Size: 1, Due: w.time()}) {
			t.Fatalf("a dry run found %v", w.found)
		}
	}
	w.collect(gc.Options{})
	w.wantContents(r, x, m)
	if len(w.found) != 1 || w.found[0].Size != 1 {
		t.Fatalf("found %v", w.found)
	}
}

// A dry run also says what is going to go, and when at the soonest.
func TestDryRunForetells(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	old := w.push(r, w.image("old", w.blob(r, "x")), "v1")
	w.push(r, w.image("new"), "v1")
	w.collect(gc.Options{DryRun: true})
	if len(w.found) != 2 {
		t.Fatalf("a dry run found %v, want a manifest and its blob", w.found)
	}
	for _, f := range w.found {
		want := w.time().Add(grace)
		if f.Name == old.String() {
			want = w.time().Add(untagged)
		}
		if !f.Due.Equal(want) {
			t.Errorf("%v is due at %v, want %v", f, f.Due, want)
		}
	}
	w.wait(untagged + grace)
	w.collect(gc.Options{})
	w.wantContents(r, old, w.image("new").Digest, digest.FromString("x")) // the dry run has marked nothing
}

// Who deletes a subject doesn't mean its signatures to stay.
func TestReferrersFollowADeletedSubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = time.Now() // when storage marks
	r := w.repo("a")
	subject := w.push(r, w.image("subject"), "v1")
	early := w.push(r, w.referrer("early", digest.FromString("is going to come")))
	late := w.push(r, w.referrer("late", subject))
	check(t, storage.DeleteManifest(t.Context(), r, oci.DigestRef(subject), ""))
	for range 3 {
		w.collect(gc.Options{})
		w.wait(2 * untagged)
	}
	if _, err := r.Resolve(t.Context(), oci.DigestRef(late)); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("what refers to a subject that was deleted: %v", err)
	}
	if _, err := r.Resolve(t.Context(), oci.DigestRef(early)); err != nil {
		t.Errorf("what has come before its subject: %v", err)
	}
}

// A round that has seen the subject doesn't take the mark off that its deletion
// relies on.
func TestReferrersFollowASubjectDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = time.Now() // when storage marks
	r := w.repo("a")
	subject := w.push(r, w.image("subject"), "v1")
	signature := w.push(r, w.referrer("signature", subject))
	check(t, r.Update(t.Context(), func(e *storage.Edit) error { // as a round that hasn't seen it come
		e.Mark(signature, w.now)
		return nil
	}))
	deleted := false
	w.collect(gc.Options{Stop: func() error { // it's between looking and doing
		if deleted {
			return nil
		}
		deleted = true
		return storage.DeleteManifest(t.Context(), r, oci.DigestRef(subject), "")
	}})
	for range 3 {
		w.collect(gc.Options{})
		w.wait(2 * untagged)
	}
	w.wantContents(r)
}

// What comes while a round is at it is left to the next one: it isn't read, or a round
// would be behind all the time where much is pushed, and it gets no mark.
func TestWhatComesMeanwhileIsLeftAlone(t *testing.T) {
	t.Parallel()
	units := make(map[bool]int64)
	for _, busy := range []bool{false, true} {
		w := newWorld(t)
		r := w.repo("a")
		w.push(r, w.image("old", w.blob(r, "x")), "old")
		w.blob(r, "garbage")
		w.collect(gc.Options{})
		w.wait(grace)
		pushed := 0
		var read atomic.Int64
		w.collect(gc.Options{
			Stop: func() error {
				if pushed++; busy {
					w.push(r, w.image("new", w.blob(r, fmt.Sprint("layer ", pushed))), fmt.Sprint("tag-", pushed))
				}
				return nil
			},
			Wait: func(_ context.Context, n int) error {
				read.Add(int64(n))
				return nil
			},
		})
		units[busy] = read.Load()
		if _, err := r.StatBlob(t.Context(), digest.FromString("garbage")); err == nil {
			t.Error("what was due is there still")
		}
		for c, err := range r.(storage.Collectable).Contents(t.Context()) {
			check(t, err)
			if !c.Marked.IsZero() {
				t.Errorf("%s has a mark", c.Digest)
			}
		}
	}
	if units[true] != units[false] {
		t.Errorf("%d units of I/O beside pushes, %d without", units[true], units[false])
	}
}

// However much comes to be due while a round is at it, the round ends.
func TestRoundEndsWhereGarbageComesAllTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	for i := range 10 {
		w.blob(r, fmt.Sprint("garbage ", i))
		w.collect(gc.Options{})
		w.wait(grace / 10)
	}
	w.collect(gc.Options{Stop: func() error {
		w.wait(grace / 10)
		return nil
	}})
	if got := len(w.contents(r)); got != 9 {
		t.Errorf("%d blobs are left, want the 9 that weren't due when the round began", got)
	}
}

// A clock that was set makes nothing old.
func TestRenewedMarks(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]time.Duration{"a year forward": 365 * 24 * time.Hour, "a year back": -365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.repo("a")
			x := w.blob(r, "x")
			m := w.push(r, w.image("untagged", w.blob(r, "y")))
			w.collect(gc.Options{})
			w.wait(set)
			w.collect(gc.Options{Renew: set > 0}) // marks of the future are renewed anyway
			w.wait(grace - time.Second)
			w.collect(gc.Options{})
			w.wantContents(r, x, m, digest.FromString("y"))
			w.wait(time.Second)
			w.collect(gc.Options{})
			w.wantContents(r, m, digest.FromString("y"))
			w.wait(untagged - grace)
			w.collect(gc.Options{})
			w.wantContents(r)
		})
	}
}

func TestUntaggedManifestsMayBeKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	untaggedImage := w.push(r, w.image("old", x))
	for range 3 {
		w.collect(gc.Options{KeepUntagged: true})
		w.wait(2 * untagged)
	}
	w.wantContents(r, x, untaggedImage)
	if len(w.found) != 0 {
		t.Fatalf("found %v, but %v should have gone before", w.found, y)
	}
}

func TestUntaggedManifestsGoAfterTheirGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x := w.blob(r, "x")
	old := w.push(r, w.image("old", x), "v1")
	w.push(r, w.image("new"), "v1")
	w.collect(gc.Options{})
	w.wait(untagged - time.Second)
	w.collect(gc.Options{})
	if _, err := r.Resolve(t.Context(), oci.DigestRef(old)); err != nil {
		t.Fatal(err) // and now it has been asked for, which begins the grace anew
	}
	w.wait(time.Hour)
	w.collect(gc.Options{})
	w.wait(untagged - time.Hour)
	w.collect(gc.Options{})
	w.wantContents(r, x, old, w.image("new").Digest)
	w.wait(time.Hour)
	w.collect(gc.Options{})
	w.wantContents(r, w.image("new").Digest)
}

func TestWhatCannotBeReadKeepsItsRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, other := w.repo("a"), w.repo("b")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	lost := w.push(r, w.image("lost", x), "v1")
	gone := w.blob(other, "z")
	check(t, os.Remove(filepath.Join(w.root, "a", "blobs", "sha256", lost.Encoded())))
	problems := 0
	for range 3 {
		w.collect(gc.Options{})
		for _, f := range w.found {
			if f.Problem != "" && f.Name == lost.String() {
				problems++
			}
		}
		w.wait(100 * time.Hour)
	}
	w.wantContents(r, x, y)
	if problems != 3 {
		t.Fatalf("told %d times of it in 3 rounds", problems)
	}
	if slices.Contains(w.contents(other), gone.String()) {
		t.Fatal("another repository isn't collected for it")
	}
}

func TestMissingBlobsAreToldOfAndStopNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	m := w.push(r, w.image("m", x), "v1")
	check(t, os.Remove(filepath.Join(w.root, "a", "blobs", "sha256", x.Encoded())))
	w.collect(gc.Options{})
	if len(w.found) != 1 || w.found[0].Name != x.String() || w.found[0].Problem == "" {
		t.Fatalf("found %v", w.found)
	}
	w.wait(grace)
	w.collect(gc.Options{})
	w.wantContents(r, m)
	_ = y
}

func TestEmptyRepositoriesGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	w.push(r, w.image("m", w.blob(r, "x")), "v1")
	check(t, storage.DeleteManifest(t.Context(), r, mustTag(t, "v1"), ""))
	for range 3 {
		w.collect(gc.Options{})
		w.wait(untagged)
	}
	w.collect(gc.Options{})
	for name, err := range w.Repositories(t.Context(), oci.Name{}) {
		t.Fatalf("%s is there, %v", name, err)
	}
}

func mustTag(t *testing.T, s string) oci.Reference {
	t.Helper()
	tag, err := oci.ParseTag(s)
	check(t, err)
	return oci.TagRef(tag)
}

func TestARoundMayBeStoppedAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.blob(w.repo(fmt.Sprint("r", i)), "x")
	}
	w.collect(gc.Options{})
	w.wait(grace)
	var done []string
	boom := errors.New("the clock has moved")
	opts := gc.Options{Grace: grace, Now: w.time, Stop: func() error {
		if len(done) == 2 {
			return boom
		}
		return nil
	}}
	err := gc.Collect(t.Context(), w, oci.Name{}, func(n oci.Name) { done = append(done, n.String()) }, opts)
	if !errors.Is(err, boom) || !slices.Equal(done, []string{"r0", "r1"}) {
		t.Fatalf("error %v, done %v", err, done)
	}
	last, err := oci.ParseName("r1")
	check(t, err)
	opts.Stop = nil
	check(t, gc.Collect(t.Context(), w, last, func(n oci.Name) { done = append(done, n.String()) }, opts))
	if !slices.Equal(done, []string{"r0", "r1", "r2", "r3", "r4"}) {
		t.Fatalf("done %v", done)
	}
}

func TestGraceIsNotTooShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := gc.Collect(t.Context(), w, oci.Name{}, func(oci.Name) {}, gc.Options{Grace: 59 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "1m0s") {
		t.Fatalf("error %v", err)
	}
}
