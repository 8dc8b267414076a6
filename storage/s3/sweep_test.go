package s3

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

const day = 24 * time.Hour

// sweeping runs a round, and returns what it found.
func sweeping(t *testing.T, s *Store, dry bool) (found []string) {
	t.Helper()
	for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day), Dry: dry}) {
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(what.Name, "/")
		found = append(found, fmt.Sprint(what.Kind, " ", kind))
	}
	slices.Sort(found)
	return found
}

// count is how many objects there are below a prefix.
func (f *fake) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.objects {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}

func pushText(t *testing.T, s *Store, n int) digest.Digest {
	t.Helper()
	content := fmt.Sprint(n) + text(n)
	d := digest.FromString(content)
	if _, err := storage.PutBlob(t.Context(), s.Repository(app), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// bubble runs a test with a store, in time that passes when all wait.
func bubble(t *testing.T, check func(t *testing.T, s *Store, f *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := smallParts()
		f.page = 3
		check(t, openOn(t, f, Options{DigestsFreshFor: -1}), f)
	})
}

// Data goes when nothing has named it for a grace, and what is named stays.
func TestSweepData(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		kept := []digest.Digest{pushText(t, s, 5000), pushText(t, s, 200_000), pushText(t, s, 10)}
		large := imageOf(t, text(maxInline), kept[0])
		if err := storage.PutManifest(t.Context(), s.Repository(app), large, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		gone := []digest.Digest{pushText(t, s, 6000), pushText(t, s, 210_000)}
		s.limits.tail = 1 // what is in the record goes into a pack
		time.Sleep(2 * day)
		for _, d := range gone {
			if err := storage.DeleteBlob(t.Context(), s.Repository(app), d, ""); err != nil {
				t.Fatal(err)
			}
		}
		before := f.count("data/")
		for range 3 { // the first round condemns, and until a grace has passed no other one removes
			if found := sweeping(t, s, false); found != nil {
				t.Fatalf("found %v", found)
			}
			time.Sleep(day / 3)
		}
		if _, err := s.Repository(other).MountBlob(t.Context(), kept[0], app); err != nil {
			t.Fatal(err)
		}
		time.Sleep(day)
		if found := sweeping(t, s, false); !slices.Equal(found, []string{"blob data", "blob data"}) {
			t.Fatalf("found %v", found)
		}
		if n := f.count("data/"); n != before-2 {
			t.Fatalf("%d of %d objects are left", n, before)
		}
		for first := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" {
			list, _, err := s.condemned(t.Context(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[first:])
			if err != nil || len(list.IDs) > 0 {
				t.Fatalf("condemned are %v, %v", list, err)
			}
		}
		if err := errors.Join(whole(t.Context(), s, app), whole(t.Context(), s, other)); err != nil {
			t.Fatal(err)
		}
	})
}

// A dry round says what would go, and nothing goes, however often.
func TestSweepDry(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		d := pushText(t, s, 5000)
		id := begin(t, s)
		if err := add(t, s, id, 0, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if err := storage.DeleteBlob(t.Context(), s.Repository(app), d, ""); err != nil {
			t.Fatal(err)
		}
		before := len(f.objects)
		for range 3 {
			time.Sleep(2 * day)
			if found := sweeping(t, s, true); len(found) != 2 || found[0] != "blob data" {
				t.Fatalf("found %v", found)
			}
		}
		if len(f.objects) != before {
			t.Fatalf("%d objects were %d", len(f.objects), before)
		}
	})
}

// Sessions go that were given up, with their parts and what else they have; those
// that go on stay, however old what they have is.
func TestSweepSessions(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		content := text(300_000)
		given, going := begin(t, s), begin(t, s)
		small := begin(t, s)
		for _, id := range []string{given, going} {
			if err := add(t, s, id, 0, strings.NewReader(content[:250_000])); err != nil {
				t.Fatal(err)
			}
		}
		if err := add(t, s, small, 0, strings.NewReader(content[:40_000])); err != nil {
			t.Fatal(err)
		}
		for at := 250_000; at < 250_006; at++ {
			time.Sleep(day / 2)
			if err := add(t, s, going, int64(at), strings.NewReader(content[at:at+1])); err != nil {
				t.Fatal(err)
			}
			for _, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, id := range []string{given, small} {
			if err := add(t, s, id, 250_000, strings.NewReader("x")); !errors.Is(err, oci.BlobUploadUnknown) {
				t.Fatalf("going on with one that was given up: %v", err)
			}
		}
		if err := add(t, s, going, 250_006, strings.NewReader(content[250_006:])); err != nil {
			t.Fatal(err)
		}
		if len(f.uploads) != 1 {
			t.Fatalf("%d multipart uploads are left", len(f.uploads))
		}
		if err := end(t, s, going, content); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, content)
		for range 3 {
			time.Sleep(8 * day)
			sweeping(t, s, false)
		}
		if f.count("data/") != 1 || f.count("uploads/") != 0 {
			t.Fatalf("%d data and %d sessions are left", f.count("data/"), f.count("uploads/"))
		}
	})
}

// Parts of which no session knows go.
func TestSweepParts(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		for range 7 {
			if _, err := f.begin(t.Context(), "data/"+newID()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.begin(t.Context(), "elsewhere"); err != nil {
			t.Fatal(err)
		}
		sweeping(t, s, false)
		if len(f.uploads) != 8 {
			t.Fatalf("%d are left that are young", len(f.uploads))
		}
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); len(found) != 7 || len(f.uploads) != 1 {
			t.Fatalf("found %v, %d are left", found, len(f.uploads))
		}
	})
}

// Segments go that their record has replaced, and who knew the old ones reads on.
func TestSweepSegments(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		s.limits.tail, s.limits.segments = 2<<10, 6<<10
		for i := range 100 {
			pushText(t, s, i+1)
		}
		follower := folding(t, f)
		wantSame(t, s, follower)
		for i := range 60 {
			pushText(t, s, 1000+i)
		}
		time.Sleep(2 * day)
		sweeping(t, s, false)
		if n, want := f.count("segments/"), len(stateIn(t, s).head.Segments); n != want {
			t.Fatalf("%d segments, and %d are named", n, want)
		}
		wantSame(t, s, follower)
		wantSame(t, s, folding(t, f))
	})
}

// If something can't be read that may name data, no data goes; all else does.
func TestSweepUnreadable(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		d := pushText(t, s, 5000)
		if err := storage.DeleteBlob(t.Context(), s.Repository(app), d, ""); err != nil {
			t.Fatal(err)
		}
		id := begin(t, s)
		if err := add(t, s, id, 0, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		f.objects["repositories/broken"] = f.object([]byte(strings.Repeat("not a record", 20)))
		for range 3 {
			time.Sleep(2 * day)
			said := false
			for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
				said = said || errors.Is(err, storage.ErrBroken)
				if what.Kind == storage.SweptBlob {
					t.Fatalf("%s goes", what.Name)
				}
			}
			if !said {
				t.Fatal("it isn't said")
			}
		}
		if f.count("data/") != 1 {
			t.Fatal("data is gone")
		}
		if err := add(t, s, id, 1, strings.NewReader("x")); !errors.Is(err, oci.BlobUploadUnknown) {
			t.Fatalf("the session: %v", err)
		}
	})
}

// What a mount that has died has left goes, and so the repository can be retired.
func TestSweepForsaken(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, _ *fake) {
		d := pushText(t, s, 5000)
		r := s.cache.acquire(s, other)
		defer s.cache.release(r)
		left := change{Blob: d, entry: stateIn(t, s).find(d).entry, Since: time.Now()}
		left.Unsure = true
		err := r.change(t.Context(), func(*state) ([]change, string, error) { return []change{left}, "", nil })
		if err != nil {
			t.Fatal(err)
		}
		repository := s.Repository(other).(*Repository)
		if gone, err := repository.Retire(t.Context()); gone || err != nil {
			t.Fatalf("retired: %v, %v, while somebody mounts", gone, err)
		}
		pushText(t, s, 6000) // so that there's something to look at
		time.Sleep(2 * day)
		sweeping(t, s, false)
		if gone, err := repository.Retire(t.Context()); !gone || err != nil {
			t.Fatalf("retired: %v, %v", gone, err)
		}
	})
}

// A store that is read only removes nothing and condemns nothing, also from the
// moment on when it comes to be so in a round.
func TestSweepReadOnly(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		drop := func(n int) {
			t.Helper()
			if err := storage.DeleteBlob(t.Context(), s.Repository(app), pushText(t, s, n), ""); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			drop(20_000 + i)
		}
		given := begin(t, s)
		if err := add(t, s, given, 0, strings.NewReader(text(200_000))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * day)
		round := func() (found, failed int, calls map[string]int) {
			_, calls, _ = f.counted(func() {
				for _, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
					if err == nil {
						s.Tune(Options{DigestsFreshFor: -1, ReadOnly: true, PartSize: 64 << 10})
						found++
						continue
					}
					if failed++; !errors.Is(err, storage.ErrStandby) {
						t.Fatal(err)
					}
				}
			})
			return found, failed, calls
		}
		wantNone := func(found int) {
			t.Helper()
			n, failed, calls := round()
			if n != found || failed != 1 || calls["put"]+calls["remove"]+calls["abort"] > 0 {
				t.Fatalf("found %d, %d errors, and did %v; want %d found, one error, and no writes", n, failed, calls, found)
			}
		}
		writes := Options{DigestsFreshFor: -1, PartSize: 64 << 10}
		wantNone(1) // the session
		wantNone(0)
		s.Tune(writes)
		sweeping(t, s, false) // ends the session, and condemns
		time.Sleep(2 * day)
		drop(30_000)
		before := f.count("data/")
		if n, failed, calls := round(); n != 3 || failed != 1 || calls["remove"] > 0 || f.count("data/") != before {
			t.Fatalf("found %d, %d errors, and did %v", n, failed, calls)
		}
		s.Tune(writes)
		if sweeping(t, s, false); f.count("data/") != before-3 {
			t.Fatalf("%d of %d are left", f.count("data/"), before)
		}
	})
}

// Who stops a round at one thing has that stay, and what comes after it.
func TestSweepStopped(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		for i := range 5 {
			if err := storage.DeleteBlob(t.Context(), s.Repository(app), pushText(t, s, 20_000+i), ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * day)
		sweeping(t, s, false)
		time.Sleep(2 * day)
		var found []string
		for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
			if err != nil {
				t.Fatal(err)
			}
			if found = append(found, what.Name); len(found) == 3 {
				break
			}
		}
		for i, name := range found {
			if _, there := f.objects[name]; there != (i == 2) {
				t.Errorf("the %d. is there: %v", i+1, there)
			}
		}
		if n := f.count("data/"); n != 3 {
			t.Errorf("%d are left, want 3", n)
		}
		if found := sweeping(t, s, false); len(found) != 3 || f.count("data/") != 0 {
			t.Errorf("the next round finds %v and leaves %d", found, f.count("data/"))
		}
	})
}

// The grace of what is condemned, and may still be named, hasn't begun: a dry run
// doesn't tell of it, and a round begins it.
func TestSweepOfWhatMayStillBeNamed(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		id := newID()
		if _, err := f.put(t.Context(), putRequest{Key: s.keys.data(id), Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := s.condemn(t.Context(), id, func(ids map[string]time.Time) { ids[id] = time.Time{} }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * day)
		for _, dry := range []bool{true, false} {
			if found := sweeping(t, s, dry); found != nil {
				t.Fatalf("dry: %t, found %v", dry, found)
			}
		}
		time.Sleep(2 * day)
		if found := sweeping(t, s, false); len(found) != 1 || f.count("data/") != 0 {
			t.Fatalf("found %v", found)
		}
	})
}
