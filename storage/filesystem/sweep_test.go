package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// swept are what a round sweeps, and the errors it tells of.
func swept(t *testing.T, s *filesystem.Store, before time.Time, dry bool) (found []string) {
	t.Helper()
	for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: before, Dry: dry}) {
		check(t, err)
		found = append(found, string(what.Kind)+" "+what.Name)
	}
	slices.Sort(found)
	return found
}

func wantSwept(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("swept %q, want %q", got, want)
	}
}

// age makes a file, and the folder it's in, look old.
func age(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		for _, path := range []string{filepath.Join(root, name), filepath.Dir(filepath.Join(root, name))} {
			check(t, os.Chtimes(path, markedAt, markedAt))
		}
	}
}

func TestSweepOfUploads(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{Unsynced: true})
	r := repository(t, s, "a")
	begin := func(content string) string {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
		check(t, u.Close())
		return u.ID()
	}
	given, going := begin(onDisk("given up")), begin(onDisk("going on"))
	shut(t, s)
	s = open(t, root, filesystem.Options{Unsynced: true})
	r = repository(t, s, "a")
	for _, id := range []string{given, going} {
		age(t, root, "_uploads/"+id+"/data", "_uploads/"+id+"/state")
	}
	u := resume(t, r, going)
	wantSwept(t, swept(t, s, markedAt.Add(-time.Hour), false))
	wantSwept(t, swept(t, s, markedAt.Add(time.Hour), true), "upload "+given)
	wantSwept(t, swept(t, s, markedAt.Add(time.Hour), false), "upload "+given)
	if _, err := r.ResumeUpload(t.Context(), given); !errors.Is(err, oci.BlobUploadUnknown) {
		t.Fatalf("error %v, want BLOB_UPLOAD_UNKNOWN", err)
	}
	must(u.Commit(t.Context(), digestOf(onDisk("going on"))))(t)
	wantNoUploads(t, root)
}

func TestSweepOfWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{Unsynced: true})
	r := repository(t, s, "a/b")
	layer := r.pushBlob(large("layer"))
	r.push(image(t, "m", layer), "v1")
	left := []string{
		"_uploads/tmp-X", "_repos/a,b/tmp-X", "a/b/tmp-X", "a/b/.uploads/some-id", ".sync/a/blob",
	}
	for _, name := range append([]string{"cache.db", "a/b/.uploads/young", "_repos/a,b/tmp-log"}, left...) {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
		write(t, "x", filepath.Join(root, name))
	}
	wantSwept(t, swept(t, s, markedAt, false))
	age(t, root, append(left, "cache.db", "_repos/a,b/tmp-log")...)
	want := make([]string, 0, len(left))
	for _, name := range left {
		want = append(want, "leftover "+name)
	}
	later := markedAt.Add(time.Hour)
	wantSwept(t, swept(t, s, later, true), want...)
	wantSwept(t, swept(t, s, later, false), want...)
	wantSwept(t, swept(t, s, later, false))
	for _, name := range []string{"cache.db", "a/b/.uploads/young", "_repos/a,b/tmp-log"} {
		if !exists(t, root, name) {
			t.Errorf("%s is gone", name)
		}
	}
	if exists(t, root, ".sync") {
		t.Error(".sync is there still, empty")
	}
	r.want("v1", image(t, "m", layer))
}

func TestSweepOfThePool(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{Unsynced: true})
	r := repository(t, s, "a")
	kept, lost := r.pushBlob(large("kept")), r.pushBlob(large("lost"))
	check(t, os.Remove(blobFile(root, "a", lost))) // by another tool
	wantSwept(t, swept(t, s, markedAt, false), "blob "+lost.Encoded())
	wantSwept(t, swept(t, s, markedAt, false))
	r.wantNoBlob(lost)
	repository(t, s, "b").pushBlob(large("kept"))
	r.wantBlob(large("kept"))
	_ = kept
}
