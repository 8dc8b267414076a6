package filesystem_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// wantStandby fails unless the store reads and doesn't write.
func wantStandby(t *testing.T, s storage.Store) {
	t.Helper()
	r := repository(t, s, "a")
	_, upload := r.NewUpload(t.Context(), storage.UploadOptions{})
	for what, err := range map[string]error{
		"Ready":     s.Ready(t.Context()),
		"Update":    put(t.Context(), r, image(t, "refused"), "refused"),
		"NewUpload": upload,
	} {
		if !errors.Is(err, storage.ErrStandby) {
			t.Fatalf("%s: error %v, want ErrStandby", what, err)
		}
	}
}

func TestSecondStoreWaitsForItsTurn(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				opts.Recheck = -1
				first, second := open(t, root, opts), open(t, root, opts)
				a, b := repository(t, first, "a"), repository(t, second, "a")
				v1 := image(t, "v1", a.pushBlob("x"))
				a.push(v1, "v1")
				b.want("v1", v1)
				b.wantBlob("x")
				wantStandby(t, second)
				for _, tag := range []string{"v2", "v3"} { // which may be in the log only
					a.push(image(t, tag), tag)
					b.want(tag, image(t, tag))
				}
				a.delete("v1")
				b.wantTags("v2", "v3")
				check(t, first.Ready(t.Context()))

				shut(t, first)
				check(t, second.Ready(t.Context()))
				b.wantTags("v2", "v3")
				b.push(image(t, "v4"), "v4")
				b.wantTags("v2", "v3", "v4")
			})
		})
	}
}

func TestSecondStoreTakesOverByItself(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		first := open(t, root, filesystem.Options{LogFrom: 1})
		second := open(t, root, filesystem.Options{LogFrom: 1})
		for _, tag := range []string{"v1", "v2"} {
			repository(t, first, "a").push(image(t, tag), tag)
		}
		killed := snapshot(t, root) // the unfolded log of a dead writer
		shut(t, first)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		third := open(t, root, filesystem.Options{})
		wantStandby(t, third) // since the second has the lock, without having been asked anything
		check(t, second.Ready(t.Context()))

		heir := open(t, killed, filesystem.Options{})
		repository(t, heir, "a").wantTags("v1", "v2")
	})
}

func TestReplacedLockStopsTheWriter(t *testing.T) {
	ways := map[string]func(name string) error{
		"removed": os.Remove,
		"replaced": func(name string) error {
			return errors.Join(os.Remove(name), os.WriteFile(name, []byte("somebody"), 0o600))
		},
		"rewritten": func(name string) error { return os.WriteFile(name, []byte("somebody"), 0o600) },
	}
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				s := open(t, root, filesystem.Options{LogFrom: 1})
				r := repository(t, s, "a")
				r.push(image(t, "v1"), "v1")
				r.push(image(t, "v2"), "v2")
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
				check(t, change(filepath.Join(root, "_lock")))
				if err := put(t.Context(), r, image(t, "v3"), "v3"); !errors.Is(err, storage.ErrStandby) {
					t.Fatalf("put: error %v, want ErrStandby", err)
				}
				r.wantTags("v1", "v2")
				check(t, u.Close())

				check(t, s.Ready(t.Context())) // the lock is free, so it's taken
				r.push(image(t, "v3"), "v3")
				r.wantTags("v1", "v2", "v3")
			})
		})
	}
}

// Whoever moves a root away, or mounts something over it, means another folder
// by the path from then on. What was pushed to the old one would be lost to them.
func TestMovedRootStopsTheWriter(t *testing.T) {
	ways := map[string]func(t *testing.T, root string){
		"moved": func(*testing.T, string) {},
		"replaced by an empty one": func(t *testing.T, root string) {
			check(t, os.Mkdir(root, 0o700))
		},
		"replaced by a link": func(t *testing.T, root string) {
			check(t, os.Symlink(t.TempDir(), root))
		},
		"replaced by links of all of it": func(t *testing.T, root string) {
			check(t, os.Rename(root+".links", root), os.RemoveAll(filepath.Join(root, "a")))
		},
		"replaced by another root": func(t *testing.T, root string) {
			other := open(t, root, filesystem.Options{})
			repository(t, other, "other").push(image(t, "other"), "v1")
			shut(t, other)
		},
	}
	for way, replace := range ways {
		t.Run(way, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := filepath.Join(t.TempDir(), "root")
				s := open(t, root, watchful)
				r := repository(t, s, "a")
				r.push(image(t, "v1"), "v1")
				synctest.Wait() // the reserve is there
				links(t, root, root+".links")
				r.push(image(t, "v1"), "v1")
				check(t, os.Rename(root, root+".moved"))
				replace(t, root)
				for range 2 {
					wantStandby(t, s)
					time.Sleep(5 * time.Second)
					synctest.Wait()
				}
				r.wantTags("v1") // what there is can be pulled on
				if exists(t, root, "a") {
					t.Fatal("something was written to a folder that isn't the store's")
				}

				check(t, os.RemoveAll(root), os.Rename(root+".moved", root))
				check(t, s.Ready(t.Context()))
				r.push(image(t, "v2"), "v2")
				r.wantTags("v1", "v2")
			})
		})
	}
}

// links makes what cp -al does: a tree of the same files by other names.
func links(t *testing.T, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		if e.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		return os.Link(path, target)
	}))
}

func TestReplacedLockOfAnotherIsRespected(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		first := open(t, root, watchful)
		a := repository(t, first, "a")
		a.push(image(t, "v1"), "v1")
		check(t, os.Remove(filepath.Join(root, "_lock")))
		second := open(t, root, watchful) // takes the new file
		repository(t, second, "a").push(image(t, "v2"), "v2")
		for range 3 {
			wantStandby(t, first)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantStandby(t, first)
		a.wantTags("v1", "v2")
		repository(t, second, "a").push(image(t, "v3"), "v3")
		shut(t, second)
		a.push(image(t, "v4"), "v4")
		a.wantTags("v1", "v2", "v3", "v4")
	})
}

// A session that was begun before somebody else took the lock isn't written to: it's
// theirs by now, and they may be writing to it.
func TestAppendLooksAtTheLock(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		first := open(t, root, watchful)
		u := must(repository(t, first, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader(onDisk("x"))))(t)
		check(t, u.Close(), os.Remove(filepath.Join(root, "_lock")))
		second := open(t, root, watchful) // takes the new file
		theirs := resume(t, repository(t, second, "a"), u.ID())
		must(theirs.Append(t.Context(), -1, strings.NewReader("theirs")))(t)
		if n, err := resume(t, repository(t, first, "a"), u.ID()).Append(t.Context(), theirs.Size(), strings.NewReader("ours")); !errors.Is(err, storage.ErrStandby) {
			t.Errorf("%d bytes are acknowledged, error %v, want ErrStandby", n, err)
		}
		want := onDisk("x") + "theirs"
		must(theirs.Commit(t.Context(), digestOf(want)))(t)
		repository(t, second, "a").wantBlob(want)
	})
}

func TestRootOfARunningZotIsRefused(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, "a database", root, "cache.db")
	zot := must(vfs.Dir(root))(t)
	lock := must(zot.TryLock("cache.db", false))(t) // flock(2), as bbolt does
	_, err := filesystem.Open(root, filesystem.Options{})
	if err == nil || !strings.Contains(err.Error(), "zot") || !strings.Contains(err.Error(), root) {
		t.Fatalf("error %v, want that a zot runs on %s", err, root)
	}
	check(t, lock.Close(), zot.Close())
	repository(t, open(t, root, filesystem.Options{}), "a").push(image(t, "v1"), "v1")
	if read(t, root, "cache.db") != "a database" {
		t.Fatal("cache.db was changed")
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{})
	r := repository(t, s, "a")
	r.push(image(t, "v1"), "v1")
	shut(t, s)
	shut(t, s)
	_, index := r.Index(t.Context())
	_, blob := r.StatBlob(t.Context(), image(t, "v1").Digest)
	_, names := firstName(t, s)
	for what, err := range map[string]error{
		"Ready": s.Ready(t.Context()), "Index": index, "StatBlob": blob, "Repositories": names,
		"Update": put(t.Context(), r, image(t, "v2")),
	} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Fatalf("%s: error %v, want ErrClosed", what, err)
		}
	}
}

// slowReader gives a byte when it's told to.
type slowReader chan struct{}

func (r slowReader) Read(p []byte) (int, error) {
	<-r
	return copy(p, "x"), context.Canceled
}

func TestCloseWaitsForWhatIsInProgress(t *testing.T) {
	frozen(t, func(t *testing.T) {
		s := open(t, t.TempDir(), filesystem.Options{})
		r := repository(t, s, "a")
		d := r.pushBlob(strings.Repeat("x", 100)) // too small to be linked
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		body := make(slowReader)
		var appended, closed bool
		go func() {
			_, _ = u.Append(t.Context(), 0, body)
			appended = true
		}()
		synctest.Wait()
		go func() {
			shut(t, s)
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Fatal("Close didn't wait")
		}
		// Nothing waits behind Close, and nothing inside it for itself.
		_, err := repository(t, s, "b").MountBlob(t.Context(), d, r.Name())
		if !errors.Is(err, storage.ErrClosed) {
			t.Fatalf("MountBlob: error %v, want ErrClosed", err)
		}
		close(body)
		synctest.Wait()
		if !appended || !closed {
			t.Fatalf("appended: %t, closed: %t", appended, closed)
		}
		_ = u.Close() // there's no store to keep the session in
	})
}
