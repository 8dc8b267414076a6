package scrub_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("a", "v1", "x", large("y"))
	w.image("b/c", "v1", large("y"))
	w.scrub(scrub.Options{})
	w.wantFound()
	if w.checked != 4 { // what both have is read once
		t.Fatalf("%d objects were read, want 4", w.checked)
	}
}

func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.image("a", "v1", "x", large("y"))
	w.tag("a", "v2", m)
	w.image("a", "other", "z")
	for _, d := range []digest.Digest{m.Digest, m.Blobs[0].Digest, m.Blobs[1].Digest} {
		w.rot("a", d)
	}
	want := []scrub.Finding{
		{Kind: scrub.Manifest, Name: m.Digest.String(), Tags: []string{"v1", "v2"}},
		{Kind: scrub.Blob, Name: m.Blobs[0].Digest.String()}, // whose manifest can't be read
		{Kind: scrub.Blob, Name: m.Blobs[1].Digest.String()},
	}
	for i := range want {
		want[i].Repository, want[i].Fault = "a", scrub.Damaged
	}
	before := w.files()
	w.scrub(scrub.Options{DryRun: true})
	w.wantFound(want...)
	if after := w.files(); !slices.Equal(before, after) {
		t.Fatalf("a dry run made of\n%v\nthis:\n%v", before, after)
	}
	for i := range want {
		want[i].Done = scrub.Quarantined
	}
	w.scrub(scrub.Options{})
	w.wantFound(want...)
	r := w.repository("a")
	for _, b := range m.Blobs {
		if _, err := r.StatBlob(t.Context(), b.Digest); !errors.Is(err, oci.BlobUnknown) {
			t.Fatalf("%s: %v, want BLOB_UNKNOWN", b.Digest, err)
		}
	}
	if _, err := r.Resolve(t.Context(), oci.TagRef(tag(t, "v1"))); !errors.Is(err, oci.ManifestUnknown) {
		t.Fatalf("v1: %v, want MANIFEST_UNKNOWN", err)
	}

	w.scrub(scrub.Options{}) // from now on only the manifest is missed: nobody knows what it named
	w.wantFound(scrub.Finding{
		Kind: scrub.Manifest, Repository: "a", Name: m.Digest.String(), Tags: []string{"v1", "v2"},
		Fault: scrub.Missing, Done: scrub.Quarantined,
	})
	w.image("a", "v1", "x", large("y"))
	w.scrub(scrub.Options{})
	w.wantFound()
	w.wantImage("a", "v2", m)
}

func TestTagsThatLeadToABlob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.image("a", "one", "x", "shared")
	n := w.image("a", "two", "y", "shared")
	w.index("a", "all", m, n)
	w.image("a", "none", "z")
	w.rot("a", m.Blobs[1].Digest)
	w.scrub(scrub.Options{})
	w.wantFound(scrub.Finding{
		Kind: scrub.Blob, Repository: "a", Name: m.Blobs[1].Digest.String(), Tags: []string{"all", "one", "two"},
		Fault: scrub.Damaged, Done: scrub.Quarantined,
	})
	for i := range 150 {
		w.tag("a", fmt.Sprintf("z%03d", i), n)
	}
	w.rot("a", n.Blobs[0].Digest)
	w.scrub(scrub.Options{DryRun: true})
	if f := w.found[len(w.found)-2]; len(f.Tags) != 100 || f.MoreTags != 52 {
		t.Fatalf("%d tags and %d more, want 100 and 52", len(f.Tags), f.MoreTags)
	}
}

// damaged is what is found of a layer, and repaired from another repository unless
// that's empty.
func damaged(in string, d digest.Digest, from string) scrub.Finding {
	f := scrub.Finding{
		Kind: scrub.Blob, Repository: in, Name: d.String(), Tags: []string{"v1"}, Fault: scrub.Damaged, Done: scrub.Quarantined,
	}
	if from != "" {
		f.Done, f.From = scrub.Repaired, from
	}
	return f
}

func TestRepairFromAnotherRepository(t *testing.T) {
	t.Parallel()
	for size, content := range map[string]string{"small": "x", "large": large("x")} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			for _, bad := range []string{"a", "b", "c"} { // with one before it, one behind it, and both
				w := newWorld(t)
				var d digest.Digest
				for _, name := range []string{"a", "b", "c"} {
					d = w.image(name, "v1", content).Blobs[0].Digest
					w.unshare(name, d)
				}
				w.losePool()
				w.rot(bad, d)
				want := damaged(bad, d, "a")
				switch {
				case bad == "a":
					want.From = "b"
				case size == "large": // by now the pool has a's
					want.From = ""
				}
				w.scrub(scrub.Options{})
				w.wantFound(want)
				w.wantBlob(bad, d)
				w.scrub(scrub.Options{})
				w.wantFound()
			}
		})
	}
}

// One file is bad in each repository that has it, and all are repaired from one
// that has another.
func TestRepairOfWhatIsShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := large("x")
	var d digest.Digest
	for _, name := range []string{"a", "b", "c", "d"} {
		d = w.image(name, "v1", content).Blobs[0].Digest
	}
	w.unshare("c", d)
	w.rot("a", d)
	w.scrub(scrub.Options{})
	w.wantFound(damaged("a", d, "c"), damaged("b", d, "a"), damaged("d", d, "a"))
	for _, name := range []string{"a", "b", "c", "d"} {
		w.wantBlob(name, d)
	}
}

// One file has two names, of which one is wrong: that it's right as the other says
// nothing of it, nor does it make the right one bad.
func TestFileUnderAnotherName(t *testing.T) {
	t.Parallel()
	for size, contents := range map[string][2]string{"small": {"x", "y"}, "large": {large("x"), large("y")}} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			for wrong := range 2 { // whichever digest comes first
				w := newWorld(t)
				m := w.image("a", "v1", contents[0], contents[1])
				right, d := m.Blobs[1-wrong].Digest, m.Blobs[wrong].Digest
				w.image("z", "v1", contents[wrong])
				w.unshare("z", d)
				w.losePool()
				w.remove("a", d)
				check(t, os.Link(w.blobFile("a", right), w.blobFile("a", d)))
				w.rot("z", d)
				w.scrub(scrub.Options{})
				w.wantFound(damaged("a", d, ""), damaged("z", d, ""))
				w.wantBlob("a", right)
			}
		})
	}
}

// What was right when it was checked is read again before others get it.
func TestNothingIsRepairedFromWhatHasRottedSince(t *testing.T) {
	t.Parallel()
	for size, content := range map[string]string{"small": "x", "large": large("x")} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			d := w.image("a", "v1", content).Blobs[0].Digest
			w.image("b", "v1", content)
			w.unshare("b", d)
			w.losePool()
			w.rot("b", d)
			over := w.scrubFrom(scrub.Place{}, func(p scrub.Place) {
				if p.String() == "a" {
					check(t, os.RemoveAll(filepath.Join(w.root, "_pool")))
					w.rot("a", d)
				}
			}, scrub.Options{})
			if !over {
				t.Fatal("the round was stopped")
			}
			w.wantFound(damaged("b", d, ""))
		})
	}
}

func TestRepairFromThePool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.image("a", "v1", large("x")).Blobs[0].Digest
	w.image("b", "v1", large("x"))
	w.unshare("a", d)
	w.rot("a", d)
	w.scrub(scrub.Options{})
	f := damaged("a", d, "")
	f.Done = scrub.Repaired
	w.wantFound(f)
	w.wantBlob("a", d)
}

// What is too much to be looked for at once is repaired at the end.
func TestRepairOfMuch(t *testing.T) {
	t.Parallel()
	const n = 40
	w := newWorld(t)
	contents := make([]string, n)
	for i := range contents {
		contents[i] = fmt.Sprint("layer ", i)
	}
	m := w.image("a", "v1", contents...)
	w.image("b", "v1", contents...)
	for _, b := range m.Blobs {
		w.rot("a", b.Digest)
	}
	w.scrub(scrub.Options{})
	done := make(map[scrub.Done]int)
	for _, f := range w.found {
		done[f.Done]++
		if f.Done == scrub.Repaired && f.From != "b" || f.Fault != scrub.Damaged {
			t.Fatalf("found %+v", f)
		}
	}
	if done[scrub.Repaired] != n || done[scrub.Quarantined] == 0 || done[scrub.Quarantined] >= n {
		t.Fatalf("done: %v", done)
	}
	w.wantImage("a", "v1", m)
	w.scrub(scrub.Options{})
	w.wantFound()
}

// What was in quarantine before is repaired as soon as somebody has pushed it elsewhere.
func TestRepairInALaterRound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.image("a", "v1", "x").Blobs[0].Digest
	w.rot("a", d)
	w.scrub(scrub.Options{})
	w.wantFound(damaged("a", d, ""))
	w.image("b", "v1", "x")
	w.scrub(scrub.Options{})
	missed := damaged("a", d, "")
	missed.Fault = scrub.Missing
	w.wantFound(missed, damaged("a", d, "b"))
	w.wantBlob("a", d)
}

// A repository never gets bytes that it hasn't had.
func TestMissingIsNotRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.image("private", "v1", "secret").Blobs[0].Digest
	w.put("public", "v1", imageOf(t, d))
	w.scrub(scrub.Options{})
	w.wantFound(scrub.Finding{Kind: scrub.Blob, Repository: "public", Name: d.String(), Tags: []string{"v1"}, Fault: scrub.Missing})
	if _, err := w.repository("public").StatBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
		t.Fatalf("the secret: %v, want BLOB_UNKNOWN", err)
	}
}

// A part of the blobs and manifests is removed behind our back: the round finishes,
// and tells of each once.
func TestRemovedBlobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := make(map[string]bool)
	for i := range 5 {
		name := fmt.Sprint("repository-", i)
		var m oci.Manifest
		for j := range 20 {
			layers := []string{"base", fmt.Sprint("own ", i, j), fmt.Sprint("more ", i, j), fmt.Sprint("shared ", j/2)}
			m = w.image(name, fmt.Sprint("v", j), layers...)
		}
		lost := []digest.Digest{m.Blobs[3].Digest, m.Blobs[1].Digest, w.image(name, "gone", name).Digest}
		for _, d := range lost {
			w.remove(name, d)
			want[name+" "+d.String()] = true
		}
	}
	w.scrub(scrub.Options{})
	for _, f := range w.found {
		if key := f.Repository + " " + f.Name; !want[key] || f.Fault != scrub.Missing || f.Done != "" || len(f.Tags) == 0 {
			t.Errorf("found %+v", f)
		} else {
			delete(want, key)
		}
	}
	if len(want) > 0 {
		t.Fatalf("not found: %v", want)
	}
}

// failing is a store in which something can't be read.
type failing struct {
	storage.Store

	fail func(in oci.Name, d digest.Digest) error
}

func (s failing) Repository(n oci.Name) storage.Repository {
	q, _ := s.Store.Repository(n).(storage.Quarantiner)
	return unreadable{q, s.fail}
}

type unreadable struct {
	storage.Quarantiner

	fail func(in oci.Name, d digest.Digest) error
}

func (r unreadable) Peek(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	if err := r.fail(r.Name(), d); err != nil {
		return nil, err
	}
	return r.Quarantiner.Peek(ctx, d)
}

func (r unreadable) Quarantine(ctx context.Context, d digest.Digest) (storage.Outcome, error) {
	if err := r.fail(r.Name(), d); err != nil {
		return "", err
	}
	return r.Quarantiner.Quarantine(ctx, d)
}

func TestUnreadableBlobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.image("a", "v1", "x", "y")
	w.image("b", "v1", "z")
	errDisk := errors.New("the disk says no")
	w.Store = failing{w.Store, func(_ oci.Name, d digest.Digest) error {
		if d == m.Blobs[0].Digest || d == m.Digest {
			return errDisk
		}
		return nil
	}}
	w.scrub(scrub.Options{})
	want := []scrub.Finding{
		{Kind: scrub.Blob, Name: m.Blobs[0].Digest.String()},
		{Kind: scrub.Manifest, Name: m.Digest.String(), Tags: []string{"v1"}},
	}
	for i := range want {
		want[i].Repository, want[i].Fault, want[i].Problem = "a", scrub.Unreadable, errDisk.Error()
	}
	w.wantFound(want...)
	if w.checked != 3 {
		t.Fatalf("%d objects were read, want 3", w.checked)
	}
}

// A round that's stopped anywhere goes on where it was: all is read once, but for
// what it was on.
func TestRoundGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := 0
	for i := range 3 {
		w.image(fmt.Sprint("r", i), "v1", fmt.Sprint("x", i), large(fmt.Sprint("y", i)), fmt.Sprint("z", i))
		all += 4
	}
	for stops := 1; ; stops++ {
		var place scrub.Place
		rounds, read := 0, 0
		for over := false; !over; rounds++ {
			left := stops
			over = w.scrubFrom(place, func(p scrub.Place) { place = again(t, p) }, scrub.Options{Wait: func(context.Context, int) error {
				if left--; left < 0 {
					return errStopped
				}
				return nil
			}})
			read += w.checked
			if rounds > 100 {
				t.Fatalf("it comes to no end with %d reads a round, at %q", stops, place)
			}
		}
		if read != all {
			t.Fatalf("%d objects were read in %d rounds, want %d", read, rounds, all)
		}
		if rounds == 1 {
			return
		}
	}
}

// Whatever a round takes out it tells of, also if it's stopped while it looks for
// other bytes.
func TestQuarantineIsToldOf(t *testing.T) {
	t.Parallel()
	stopped, left := 0, 0
	for over := false; !over; stopped++ {
		w := newWorld(t)
		d := w.image("a", "v1", "x").Blobs[0].Digest
		w.image("b", "v1", "x")
		w.rot("a", d)
		reads := 0
		over = w.scrubFrom(scrub.Place{}, func(scrub.Place) {}, scrub.Options{Wait: func(context.Context, int) error {
			if reads++; reads > stopped {
				return errStopped
			}
			return nil
		}})
		_, err := w.repository("a").StatBlob(t.Context(), d)
		switch {
		case err != nil:
			left++
			w.wantFound(damaged("a", d, ""))
		case len(w.found) > 0:
			w.wantFound(damaged("a", d, "b"))
		}
	}
	if left == 0 {
		t.Fatalf("none of %d rounds was stopped in the search", stopped)
	}
}

var errStopped = errors.New("stopped")

// again is a place that was written down and read.
func again(t *testing.T, p scrub.Place) scrub.Place {
	t.Helper()
	got, err := scrub.ParsePlace(p.String())
	if err != nil || got != p {
		t.Fatalf("%q is %v, %v", p, got, err)
	}
	return got
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"@", "a@", "a@sha256:1", "A", "a@@", "**"} {
		if p, err := scrub.ParsePlace(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
	again(t, scrub.Place{})
}

// What is on the way is read at the rate: each read is announced, and none is large.
func TestReadsAreAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := strings.Repeat("x", 3<<20)
	w.image("a", "v1", content)
	sum, most := 0, 0
	w.scrub(scrub.Options{Wait: func(_ context.Context, n int) error {
		sum, most = sum+n, max(most, n)
		return nil
	}})
	if sum < len(content) || sum > len(content)+(1<<20) || most > 256<<10 {
		t.Fatalf("%d bytes were announced, at most %d at once", sum, most)
	}
}

func TestPoolIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.image("a", "v1", large("x")).Blobs[0].Digest
	w.losePool()
	w.scrub(scrub.Options{DryRun: true})
	if w.exists("_pool") {
		t.Fatal("a dry run has made the pool anew")
	}
	w.scrub(scrub.Options{})
	w.wantFound()
	w.image("b", "v1", large("x"))
	a, b := w.stat(w.blobFile("a", d)), w.stat(w.blobFile("b", d))
	if !os.SameFile(a, b) {
		t.Fatal("the blob isn't shared")
	}
}

// A root that vanishes ends the round: nothing is said to be missing.
func TestRootThatVanishes(t *testing.T) {
	t.Parallel()
	for way, vanish := range map[string]func(root string) error{
		"moved": func(root string) error { return os.Rename(root, root+"-aside") },
		"removed": func(root string) error {
			for os.RemoveAll(root) != nil { // something was written into it meanwhile
			}
			return nil
		},
	} {
		for at := range 8 {
			t.Run(fmt.Sprint(way, " at ", at), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.image("a", "v1", "x", "y")
				w.image("b", "v1", "z")
				w.image("c", "v1", "z")
				reads := 0
				err := w.try(scrub.Place{}, scrub.Options{Wait: func(context.Context, int) error {
					if reads++; reads == at+1 {
						check(t, vanish(w.root))
					}
					return nil
				}})
				if err == nil {
					t.Fatalf("the round is complete after %d reads", reads)
				}
				w.wantFound()
			})
		}
	}
}

// Of a repository whose index.json is ruined nothing is changed, and all others are
// scrubbed.
func TestBrokenRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.image("a", "v1", "x").Blobs[0].Digest
	e := w.image("b", "v1", "y").Blobs[0].Digest
	check(t, os.WriteFile(w.root+"/a/index.json", nil, 0o600))
	w.rot("a", d)
	w.rot("b", e)
	w.scrub(scrub.Options{})
	if len(w.found) != 3 {
		t.Fatalf("found %+v", w.found)
	}
	bad, broken := w.found[0], w.found[2]
	if bad.Done != "" || bad.Fault != scrub.Damaged || !strings.Contains(bad.Problem, "unreadable") || !slices.Equal(bad.Tags, []string{"v1"}) {
		t.Fatalf("of the blob was found %+v", bad)
	}
	if broken.Kind != scrub.Repository || broken.Name != "a" || broken.Fault != scrub.Damaged || !strings.Contains(broken.Problem, "unreadable") {
		t.Fatalf("of the repository was found %+v", broken)
	}
	w.found = w.found[1:2]
	w.wantFound(damaged("b", e, ""))
}

// Whoever pushes, pulls, deletes and mounts meanwhile has nothing called wrong, and
// fails at nothing.
func TestAmongClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name, layer := fmt.Sprint("r", (i+n)%3), fmt.Sprint("layer ", i, n%5)
				m := w.image(name, fmt.Sprint("v", i), layer, large(layer))
				w.wantImage(name, fmt.Sprint("v", i), m)
				err := storage.DeleteManifest(t.Context(), w.repository(name), oci.TagRef(tag(t, fmt.Sprint("v", i))), "")
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 10 {
		w.scrub(scrub.Options{})
	}
	close(stop)
	clients.Wait()
	w.wantFound()
}
