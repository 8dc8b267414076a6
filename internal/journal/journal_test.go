package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// begun is a journal over a directory, with a look at its steps.
type begun struct {
	*journal.FS

	t     *testing.T
	root  string
	mu    sync.Mutex
	steps []vfs.Step
}

func begin(t *testing.T, root string, opts journal.Options) *begun {
	t.Helper()
	b := &begun{t: t, root: root}
	b.FS = journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
		b.mu.Lock()
		b.steps = append(b.steps, s)
		b.mu.Unlock()
		return nil
	}), opts)
	check(t, b.Begin(never(t)))
	return b
}

// never is for a Begin that has nothing to have verified.
func never(t *testing.T) func(string) error {
	return func(dir string) error {
		t.Errorf("%s is verified", dir)
		return nil
	}
}

// stage writes a file and syncs it.
func (b *begun) stage(name, content string) {
	b.t.Helper()
	f := must(b.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL))(b.t)
	must(f.Write([]byte(content)))(b.t)
	check(b.t, f.Sync(), f.Close())
}

// synced counts the syncs since the last call, of names that have a prefix.
func (b *begun) synced(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.steps {
		if (s.Op == "sync" || s.Op == "syncdir") && strings.HasPrefix(s.Name, prefix) {
			n++
		}
	}
	b.steps = nil
	return n
}

// crash leaves everything as it is, as a killed process does.
func (b *begun) crash() { check(b.t, b.Abandon(), b.Close()) }

func machine(boot string, inode uint64) journal.Options {
	return journal.Options{Boot: boot, Identity: func(fs.FileInfo) (uint64, uint64, bool) { return 1, inode, true }}
}

func (b *begun) want(name, content string) {
	b.t.Helper()
	if got := string(must(os.ReadFile(filepath.Join(b.root, name)))(b.t)); got != content {
		b.t.Fatalf("%s holds %q, want %q", name, got, content)
	}
}

func TestOneSyncMakesManyFilesDurable(t *testing.T) {
	t.Parallel()
	b := begin(t, t.TempDir(), journal.Options{})
	b.stage("first", "x")
	b.synced("")
	for i := range 20 {
		f := must(b.OpenFile(fmt.Sprint("f", i), os.O_WRONLY|os.O_CREATE|os.O_EXCL))(t)
		must(f.Write([]byte("content")))(t)
		later, _ := f.(interface{ SyncLater() error })
		check(t, later.SyncLater(), f.Close())
	}
	if n := b.synced(""); n > 0 {
		t.Fatalf("%d syncs before anybody waited", n)
	}
	check(t, b.Barrier())
	if n := b.synced(""); n != 1 {
		t.Fatalf("%d syncs, want one", n)
	}
	check(t, b.End())
	if n := b.synced("f"); n != 21 {
		t.Fatalf("at the end %d files were synced, want all", n)
	}
	check(t, b.Close())
}

func TestFilesAreSyncedWhenTheirTimeHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), journal.Options{After: time.Minute})
		b.stage("f", "content")
		b.synced("")
		time.Sleep(time.Minute + 1)
		synctest.Wait()
		if n := b.synced("f"); n != 1 {
			t.Fatalf("synced %d times", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := b.synced(""); n != 0 {
			t.Fatalf("%d more syncs with nothing to do", n)
		}
		check(t, b.End(), b.Close())
	})
}

func TestLogsStayBelowTheirLimit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := begin(t, root, journal.Options{Limit: 100_000})
	for i := range 200 {
		b.stage(fmt.Sprint("f", i), strings.Repeat("x", 5000))
	}
	for _, name := range []string{"tmp-a", "tmp-b"} {
		if size := must(os.Stat(filepath.Join(root, "_journal", name)))(t).Size(); size > 112_500 {
			t.Errorf("%s has %d bytes", name, size)
		}
	}
	check(t, b.End(), b.Close())
	if left := must(os.ReadDir(filepath.Join(root, "_journal")))(t); len(left) > 0 {
		t.Fatalf("%v is left", left)
	}
}

// A change after the crash is somebody's decision, as long as nothing was lost.
func TestInTheSameBootNothingIsDoneAgain(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]struct {
		opts journal.Options
		want string
	}{
		"same boot":    {machine("one", 7), "edited"},
		"a copy":       {machine("two", 8), "edited"},
		"another boot": {machine("two", 7), "content"},
		"unknown boot": {machine("", 7), "content"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			b := begin(t, root, machine("one", 7))
			b.stage("f", "content")
			b.crash()
			check(t, os.WriteFile(filepath.Join(root, "f"), []byte("edited"), 0o600))
			b = begin(t, root, then.opts)
			b.want("f", then.want)
			check(t, b.End(), b.Close())
		})
	}
}

// What isn't a file any more is somebody else's, and no reason not to begin.
func TestOtherThingsInTheirPlaceAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(name string) error{
		"directory": func(name string) error { return os.Mkdir(name, 0o700) },
		"link out":  func(name string) error { return os.Symlink("/etc/hostname", name) },
		"nothing":   func(string) error { return nil },
	} {
		for _, boot := range []string{"one", "two"} {
			t.Run(name+" "+boot, func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				b := begin(t, root, machine("one", 7))
				b.stage("f", "content")
				b.stage("g", "content")
				b.crash()
				check(t, os.Remove(filepath.Join(root, "f")), put(filepath.Join(root, "f")))
				b = begin(t, root, machine(boot, 7))
				b.want("g", "content")
				b.stage("h", "content")
				check(t, os.Remove(filepath.Join(root, "h")), put(filepath.Join(root, "h")))
				check(t, b.End(), b.Close())
			})
		}
	}
}

// In the same boot a file that somebody has taken from us is no reason not to
// begin. After a power cut it is: it may lack what was acknowledged.
func TestFilesThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	for boot, begins := range map[string]bool{"one": true, "two": false} {
		root := t.TempDir()
		b := begin(t, root, machine("one", 7))
		b.stage("f", "content")
		check(t, b.SyncDir("."), b.End(), b.Begin(never(t)))
		f := must(b.OpenFile("f", os.O_RDWR|os.O_APPEND))(t)
		must(f.Write([]byte("x")))(t)
		check(t, f.Sync()) // from now on the journal may have what comes
		must(f.Write([]byte("y")))(t)
		check(t, f.Sync(), f.Close())
		b.crash()
		j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
			if s.Name == "f" && (s.Op == "open" || s.Op == "openfile") {
				return syscall.EACCES
			}
			return nil
		}), machine(boot, 7))
		if err := j.Recover(never(t)); begins != (err == nil) {
			t.Errorf("boot %s: %v", boot, err)
		}
		check(t, j.Close())
	}
}

func TestDoubtedDirectoriesAreVerifiedAfterAPowerCut(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := begin(t, root, machine("one", 7))
	check(t, b.Mkdir("blobs"))
	check(t, b.Doubt("blobs"))
	b.crash()
	j := journal.New(must(vfs.Dir(root))(t), machine("two", 7))
	boom := errors.New("boom")
	if err := j.Begin(func(string) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("error %v, want that of who verifies", err)
	}
	var got []string
	check(t, j.Begin(func(dir string) error { got = append(got, dir); return nil }))
	if len(got) != 1 || got[0] != "blobs" {
		t.Fatalf("verified %v, want blobs, again after it has failed", got)
	}
	check(t, j.End(), j.Close())
}

// What many do at once is there after a power cut, all that was acknowledged.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for steps := int64(100); steps < 2000; steps += 173 {
		manyAtOnce(t, steps)
	}
}

func manyAtOnce(t *testing.T, steps int64) {
	t.Helper()
	root, left := memoryDir(t), memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	j := journal.New(vfs.NewFuse(memory, steps), journal.Options{Limit: 16 << 10})
	check(t, j.Begin(never(t)))
	var all sync.WaitGroup
	var there [8]int // how many of each one's files were acknowledged
	for i := range there {
		all.Go(func() {
			dir := fmt.Sprint("d", i)
			if j.Mkdir(dir) != nil || j.SyncDir(".") != nil {
				return
			}
			for n := 0; replace(j, dir, n) == nil; n++ {
				there[i] = n + 1
			}
		})
	}
	all.Wait()
	_ = j.End() // it waits for what goes on, which the fuse has ended
	check(t, memory.PowerCut(left), memory.Forget(), j.Close())
	after := begin(t, left, journal.Options{})
	for i, n := range there {
		for n := range n {
			after.want(fmt.Sprintf("d%d/f%d", i, n), strings.Repeat(fmt.Sprint("d", i), 1000))
		}
	}
	check(t, after.End(), after.Close(), os.RemoveAll(root), os.RemoveAll(left))
}

// replace gives a directory its n-th file.
func replace(j *journal.FS, dir string, n int) error {
	tmp := fmt.Sprint(dir, "/tmp", n)
	f, err := j.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(strings.Repeat(dir, 1000)))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := j.Rename(tmp, fmt.Sprint(dir, "/f", n)); err != nil {
		return err
	}
	return j.SyncDir(dir)
}
