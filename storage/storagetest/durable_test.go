package storagetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
)

func TestCrash(t *testing.T) {
	t.Parallel()
	Crash(t, func(fsys vfs.FS) (storage.Store, error) { return openJournal(fsys, faults{}) })
}

func TestCrashHasTeeth(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]faults{
		"the index is written in place":              {inPlace: true},
		"an update is acknowledged before it's kept": {late: true},
		"a name comes before what it names":          {tagsFirst: true},
		"a manifest comes without its blobs":         {noBlobs: true},
		"what was deleted comes back":                {undead: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := crash{script: script(t), open: func(fsys vfs.FS) (storage.Store, error) { return openJournal(fsys, broken) }}
			for steps, finished := int64(0), false; !finished; steps++ {
				why := watch(t, func(tb testing.TB) { finished = c.survives(tb, steps) })
				if len(why) > 0 {
					t.Log(strings.Join(why, "; "))
					return
				}
			}
			t.Error("it survives a crash at each step")
		})
	}
}

// TestReopenHasTeeth: a journal forgets sessions and emptied repositories by
// its nature, and whatever else it's told to.
func TestReopenHasTeeth(t *testing.T) {
	t.Parallel()
	always := []string{
		"an emptied repository stays one", "sessions of other algorithms",
		"sessions that have ended stay ended", "sessions with what they hold",
	}
	for name, c := range map[string]struct {
		broken faults
		fails  []string
	}{
		"nothing": {faults{}, nil},
		"tags": {faults{forgets: func(c *journaled) { clear(c.Tags) }}, []string{
			"many tags", "tags", "what was deleted stays deleted", "what was kept by digest stays",
		}},
		"blobs": {faults{noBlobs: true}, []string{
			"blobs", "mounted blobs", "repositories", "what was kept by digest stays",
		}},
		"manifests": {faults{forgets: func(c *journaled) { c.Manifests = nil }}, []string{
			"a child deleted from under an image index stays deleted", "image indexes and their children",
			"manifests with their media types", "many tags", "referrers with all that is said of them", "tags",
			"what was deleted stays deleted", "what was kept by digest stays",
		}},
		"deletions": {faults{undead: true}, []string{
			"a child deleted from under an image index stays deleted", "many tags", "mounted blobs", "what was deleted stays deleted",
		}},
		"algorithms": {faults{forgets: func(c *journaled) {
			for i := range c.Manifests {
				c.Manifests[i].Algorithm = digest.SHA256
			}
		}}, []string{"manifests with their media types"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failed []string
			for what, check := range reopenChecks() {
				if why := reopenJournal(t, check, c.broken); len(why) > 0 {
					failed = append(failed, what)
				}
			}
			slices.Sort(failed)
			want := slices.Sorted(slices.Values(slices.Concat(always, c.fails)))
			if !slices.Equal(failed, want) {
				t.Errorf("what fails is %q, want %q", failed, want)
			}
		})
	}
}

func reopenJournal(t *testing.T, check reopenCheck, broken faults) (why []string) {
	t.Helper()
	root := t.TempDir()
	return watch(t, func(tb testing.TB) {
		open := func() storage.Store { return must(openJournal(directory(tb, root), broken))(tb) }
		s := open()
		check(tb, s, func() storage.Store {
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			s = open()
			closeAfter(tb, s)
			return s
		})
	})
}
