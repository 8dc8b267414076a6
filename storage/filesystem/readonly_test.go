package filesystem_test

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

func openReadOnly(t testing.TB, root string, opts filesystem.Options) *filesystem.Store {
	t.Helper()
	s := must(filesystem.OpenReadOnly(t.Context(), root, opts))(t)
	t.Cleanup(func() { shut(t, s) })
	return s
}

// withWriter is a store that reads what another one writes, and closes that too.
type withWriter struct {
	storage.Store

	writer storage.Store
}

func (w withWriter) Close() error { return errors.Join(w.Store.Close(), w.writer.Close()) }

func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.ReadOnly(t, func(t *testing.T) (below, readOnly storage.Store) {
				root := t.TempDir()
				s := open(t, root, opts)
				return s, withWriter{openReadOnly(t, root, watchful), s}
			})
		})
	}
}

// looks is what a file looks like, less when it was read.
type looks struct {
	mode    fs.FileMode
	changed time.Time
	content [sha256.Size]byte
}

func picture(t testing.TB, root string) map[string]looks {
	t.Helper()
	all := make(map[string]looks)
	check(t, filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		l := looks{mode: fi.Mode(), changed: fi.ModTime()}
		if fi.Mode().IsRegular() {
			data, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			l.content = sha256.Sum256(data)
		}
		all[at] = l
		return nil
	}))
	return all
}

// wantSamePicture fails if anything in root is other than it was.
func wantSamePicture(t testing.TB, root string, was map[string]looks) {
	t.Helper()
	is := picture(t, root)
	if maps.Equal(was, is) {
		return
	}
	for name, l := range is {
		if was[name] != l {
			t.Errorf("%s is new, or changed", name)
		}
		delete(was, name)
	}
	for name := range was {
		t.Errorf("%s is gone", name)
	}
	t.FailNow()
}

// What a killed process left is read as it is, and left so: a log, sessions, a
// journal of this boot, a lock that nobody has.
func TestReadOnlyLeavesAllAsItIs(t *testing.T) {
	for name, opts := range variants() {
		opts.LogFrom = 1
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				writer := open(t, root, opts)
				r := repository(t, writer, "team/app")
				for _, tag := range []string{"v1", "v2"} {
					r.push(image(t, tag, r.pushBlob(large(tag))), tag)
				}
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader(large("half"))))(t)
				check(t, u.Close())
				if !exists(t, root, "_repos", "team,app", "log") {
					t.Fatal("there's no log, so this test shows nothing")
				}
				killed := snapshot(t, root)
				shut(t, writer)

				was := picture(t, killed)
				s := openReadOnly(t, killed, opts)
				got := repository(t, s, "team/app")
				got.wantTags("v1", "v2")
				got.want("v2", image(t, "v2", digestOf(large("v2"))))
				got.wantBlob(large("v1"))
				storage.RecordPull(t.Context(), s.Repository(got.Name()), digestOf(large("v1")))
				wantCatalog(t, s, "team/app")
				check(t, s.Ready(t.Context()))
				time.Sleep(5 * time.Minute)
				shut(t, s)
				wantSamePicture(t, killed, was)
			})
		})
	}
}

// What other tools wrote is read, and is theirs as it was.
func TestReadOnlyForeignRoots(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"skopeo", "regctl", "zot"} {
		root, all := fixture(t, tool)
		was := picture(t, root)
		s := openReadOnly(t, root, filesystem.Options{})
		wantForeign(t, s, all)
		check(t, s.Ready(t.Context()))
		shut(t, s)
		wantSamePicture(t, root, was)
	}
}

// Who reads keeps nobody from writing, and sees what is written.
func TestReadOnlyBesideAWriter(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		shut(t, open(t, root, filesystem.Options{}))
		reader := openReadOnly(t, root, watchful)
		wantInUse(t, root, "")
		writer := open(t, root, filesystem.Options{})
		check(t, writer.Ready(t.Context()))
		wantInUse(t, root, "a registry")
		repository(t, writer, "a").push(image(t, "v1"), "v1")
		repository(t, reader, "a").want("v1", image(t, "v1"))
		openReadOnly(t, root, filesystem.AfterReboot(filesystem.Options{})) // its journal is a running one's
		shut(t, writer)
		wantInUse(t, root, "")

		zot := must(vfs.Dir(root))(t)
		lock := must(zot.TryLock("cache.db", true))(t)
		wantInUse(t, root, "a zot")
		openReadOnly(t, root, filesystem.Options{})
		check(t, lock.Close(), zot.Close())
		wantInUse(t, root, "")
	})
}

func wantInUse(t testing.TB, root, want string) {
	t.Helper()
	if by := must(filesystem.InUse(root))(t); by != want {
		t.Fatalf("it's in use by %q, want %q", by, want)
	}
}

// What a power cut has left in the journal isn't passed over, and isn't done again by
// who only reads.
func TestReadOnlyAfterAPowerCut(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writer := open(t, root, filesystem.Options{})
	repository(t, writer, "a").push(image(t, "v1"), "v1")
	cut := snapshot(t, root)
	shut(t, writer)

	was := picture(t, cut)
	rebooted := filesystem.AfterReboot(filesystem.Options{})
	if _, err := filesystem.OpenReadOnly(t.Context(), cut, rebooted); !errors.Is(err, filesystem.ErrUnrecovered) {
		t.Fatalf("err = %v, want ErrUnrecovered", err)
	}
	wantSamePicture(t, cut, was)
	shut(t, open(t, cut, rebooted))
	repository(t, openReadOnly(t, cut, rebooted), "a").want("v1", image(t, "v1"))
}

// What was written unsynced and not closed is read, and what's damaged stays.
func TestReadOnlyUnsynced(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writer := open(t, root, filesystem.Options{Unsynced: true})
	r := repository(t, writer, "a")
	m := image(t, "m", r.pushBlob("x"))
	r.push(m, "v1")
	killed := snapshot(t, root)
	shut(t, writer)
	write(t, "y", blobFile(killed, "a", digestOf("x")))

	was := picture(t, killed)
	s := openReadOnly(t, killed, filesystem.Options{Unsynced: true})
	repository(t, s, "a").want("v1", m)
	if err := readBlob(t.Context(), repository(t, s, "a"), digestOf("x")); err == nil {
		t.Fatal("the blob is whole, so this test shows nothing")
	}
	s.Tune(filesystem.Options{})
	shut(t, s)
	wantSamePicture(t, killed, was)
}

// A folder that's another one than was meant isn't an empty registry.
func TestReadOnlyRefuses(t *testing.T) {
	t.Parallel()
	empty, single, root := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "root")
	layOut(t, single, "app", index(entry(image(t, "m"), "v1")), image(t, "m").Raw)
	for dir, want := range map[string]string{
		empty:                              "there's no registry in it",
		filepath.Join(empty, "nowhere"):    "no such file",
		filepath.Join(single, "app"):       "name the folder that it lies in",
		filepath.Join(single, "app/blobs"): "there's no registry in it",
	} {
		if _, err := filesystem.OpenReadOnly(t.Context(), dir, filesystem.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: err = %v, want %s", dir, err, want)
		}
	}
	shut(t, open(t, root, filesystem.Options{}))
	s := openReadOnly(t, root, filesystem.Options{})
	wantCatalog(t, s) // it's a registry, and empty
	check(t, os.Rename(root, root+".moved"))
	if err := s.Ready(t.Context()); err == nil {
		t.Error("a root that was moved away is ready")
	}
}
