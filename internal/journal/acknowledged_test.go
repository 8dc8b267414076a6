package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

func rwrite(t *testing.T, fsys vfs.FS, name string, flag int, content string, sync bool) {
	t.Helper()
	f := must(fsys.OpenFile(name, flag))(t)
	must(f.Write([]byte(content)))(t)
	if sync {
		check(t, f.Sync())
	}
	check(t, f.Close())
}

const fresh = os.O_WRONLY | os.O_CREATE | os.O_EXCL

// A large file that nobody may write to, by its name when the power is cut, is only
// looked at: who recovers needn't be root.
func TestReadOnlyFilesAreNotOpenedForWriting(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	check(t, os.Chmod(root, 0o777))
	b := begin(t, root, machine("one", 7))
	f := must(b.OpenFile("tmp-x", fresh))(t)
	big := strings.Repeat("x", 100<<10)
	must(f.Write([]byte(big)))(t)
	check(t, f.Chmod(0o444), f.Sync(), f.Close())
	check(t, b.SyncDir("."))
	check(t, b.Rename("tmp-x", "blob"), b.SyncDir("."))
	b.stage("y", "z")
	b.crash()
	for _, boot := range []string{"one", "two"} {
		j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
			if s.Op == "openfile" && s.Name == "blob" { // Open is for reading
				return syscall.EACCES
			}
			return nil
		}), machine(boot, 7))
		check(t, j.Recover(never(t)), j.Close())
	}
}

// What only its name is known of isn't read: it may be larger than the memory.
func TestRecoveryReadsNoLargeFiles(t *testing.T) {
	root := memoryDir(t)
	b := begin(t, root, machine("one", 7))
	f := must(b.OpenFile("tmp-x", fresh))(t)
	check(t, f.Truncate(300<<20))
	must(f.Write([]byte("x")))(t)
	check(t, f.Sync(), f.Close())
	check(t, b.Rename("tmp-x", "blob"), b.SyncDir("."))
	b.stage("y", "z")
	b.crash()
	for _, boot := range []string{"one", "two"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		j := journal.New(must(vfs.Dir(root))(t), machine(boot, 7))
		check(t, j.Recover(func(string) error { return nil }))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
			t.Fatalf("boot %s: replay allocated %d MiB", boot, n>>20)
		}
	}
}

// Bytes that a killed process has written and not synced are made durable by who
// appends to them.
func TestBytesOfADeadProcess(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	one := journal.New(memory, options("one"))
	check(t, one.Begin(never(t)))
	rwrite(t, one, "log", fresh, "first\n", true)
	check(t, one.SyncDir("."))
	check(t, one.End()) // or its epoch is over
	check(t, one.Begin(never(t)))
	rwrite(t, one, "log", os.O_WRONLY|os.O_APPEND, "second\n", false) // killed before it's synced

	two := journal.New(memory, options("one"))
	check(t, two.Begin(never(t)))
	rwrite(t, two, "log", os.O_WRONLY|os.O_APPEND, "third\n", true)
	left := recovered(t, memory)
	if got := string(must(os.ReadFile(filepath.Join(left, "log")))(t)); got != "first\nsecond\nthird\n" {
		t.Fatalf("log holds %q", got)
	}
}

// A journal that couldn't be ended doesn't undo later what came then.
func TestEndThatFails(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	var failing atomic.Bool
	j := journal.New(vfs.NewFaulty(memory, func(s vfs.Step) error {
		if failing.Load() && s.Op == "remove" && strings.HasPrefix(s.Name, "_journal") {
			return syscall.EIO
		}
		return nil
	}), options("one"))
	check(t, j.Begin(never(t)))
	rwrite(t, j, "tmp-1", fresh, "old", true)
	check(t, j.Rename("tmp-1", "index"), j.SyncDir("."))
	failing.Store(true)
	if err := j.End(); err == nil {
		t.Fatal("it didn't fail")
	}
	failing.Store(false)
	rwrite(t, j, "tmp-2", fresh, "new", true)
	check(t, j.Rename("tmp-2", "index"), j.SyncDir("."))
	left := recovered(t, memory)
	if got := string(must(os.ReadFile(filepath.Join(left, "index")))(t)); got != "new" {
		t.Fatalf("index holds %q, want new, which was acknowledged", got)
	}
}

// Before a log is begun anew the other one says, durably, that the old epoch is over.
func TestLogIsBegunOverOneThatIsDone(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	epochOf := func(name string) uint64 {
		b, err := os.ReadFile(filepath.Join(root, "_journal", name))
		if err != nil || len(b) < 16 {
			return 0
		}
		return uint64(b[8])
	}
	var fail, cut atomic.Bool
	failed := make(chan bool, 100)
	fail.Store(true) // the files of the first epoch can't be synced in the background
	memory.FailSync(func(name string) error {
		if fail.Load() && strings.HasPrefix(name, "f") {
			failed <- true
			return syscall.EIO
		}
		return nil
	})
	j := journal.New(vfs.NewFaulty(memory, func(s vfs.Step) error {
		if s.Op == "sync" && strings.HasPrefix(s.Name, "_journal") && max(epochOf("tmp-a"), epochOf("tmp-b")) >= 3 {
			cut.Store(true) // the power
		}
		if cut.Load() {
			return syscall.EIO
		}
		return nil
	}), journal.Options{Limit: 16 << 10, Boot: "one"})
	check(t, j.Begin(never(t)))
	rwrite(t, j, "f", fresh, "old", true)
	rwrite(t, j, "f", os.O_WRONLY|os.O_TRUNC, "new"+strings.Repeat("n", 600), true)
	step := func(i int) bool {
		f := must(j.OpenFile(fmt.Sprint("g", i), fresh))(t)
		must(f.Write([]byte(strings.Repeat("g", 3000))))(t)
		err := f.Sync()
		_ = f.Close()
		return err == nil
	}
	i := 0
	for ; max(epochOf("tmp-a"), epochOf("tmp-b")) < 2; i++ {
		step(i)
	}
	<-failed // the first epoch's end, in the background
	<-failed // and again, with the bytes written again
	fail.Store(false)
	check(t, j.Doubt(".")) // a sync of g1 would hide it
	for ; step(i); i++ {
	}
	if !cut.Load() {
		t.Fatal("no third epoch")
	}
	for seed := range uint64(300) {
		wantNewAfterACut(t, memory, seed)
	}
}

// wantNewAfterACut fails unless a power cut leaves what was acknowledged last of f.
func wantNewAfterACut(t *testing.T, memory *vfs.Forgetful, seed uint64) {
	t.Helper()
	luck := rand.New(rand.NewPCG(seed, 9))
	left := memoryDir(t)
	check(t, memory.PowerCutKeeping(left, func() bool { return luck.IntN(2) == 0 }))
	after := journal.New(must(vfs.Dir(left))(t), options("two"))
	check(t, after.Begin(func(string) error { return nil }))
	if got := string(must(os.ReadFile(filepath.Join(left, "f")))(t)); !strings.HasPrefix(got, "new") {
		t.Fatalf("seed %d: f holds %q, want what was acknowledged in the first epoch", seed, got)
	}
	_ = after.End()
	check(t, after.Close(), os.RemoveAll(left))
}

// A name that was removed, and that somebody else gives again, stays.
func TestOthersAfterARemoval(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	j := journal.New(memory, options("one"))
	check(t, j.Begin(never(t)))
	check(t, j.Mkdir("blobs"))
	rwrite(t, j, "blobs/x", fresh, "content", true)
	check(t, j.SyncDir("blobs"), j.SyncDir("."))
	check(t, j.Remove("blobs/x"), j.SyncDir("blobs"))
	rwrite(t, memory, "blobs/x", fresh, "content", false) // another tool
	f := must(j.Open("blobs/x"))(t)                       // as syncBlob
	check(t, f.Sync(), f.Close())
	j.Others("blobs/x")
	check(t, j.SyncDir("blobs"))
	left := recovered(t, memory)
	if _, err := os.Stat(filepath.Join(left, "blobs/x")); err != nil {
		t.Fatal(err)
	}
}

// A handle may be synced when its file has another name.
func TestSyncAfterARename(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	j := journal.New(memory, options("one"))
	check(t, j.Begin(never(t)))
	f := must(j.OpenFile("tmp-1", fresh))(t)
	must(f.Write([]byte("content")))(t)
	check(t, j.Rename("tmp-1", "final"), f.Sync(), j.SyncDir("."))
	left := recovered(t, memory)
	got, err := os.ReadFile(filepath.Join(left, "final"))
	_, terr := os.Stat(filepath.Join(left, "tmp-1"))
	if string(got) != "content" || !errors.Is(terr, fs.ErrNotExist) {
		t.Fatalf("final %q, %v; tmp-1: %v", got, err, terr)
	}
}

// logOf is the log of a root whose journal has begun.
func logOf(t *testing.T, root string) (name string, data []byte) {
	t.Helper()
	for _, name = range []string{"tmp-b", "tmp-a"} {
		name = filepath.Join(root, "_journal", name)
		if data = must(os.ReadFile(name))(t); string(data[:7]) == "ocijrnl" {
			break
		}
	}
	return name, data
}

// A journal of a later version isn't thrown away.
func TestJournalOfALaterVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := begin(t, root, machine("one", 7))
	b.stage("f", "content")
	b.crash()
	name, data := logOf(t, root)
	data[7] = '2'
	check(t, os.WriteFile(name, data, 0o600))
	j := journal.New(must(vfs.Dir(root))(t), machine("two", 7))
	err := j.Begin(never(t))
	if err == nil {
		t.Fatal("a later version's journal was thrown away without a word")
	}
}

// A head that was only begun is none, wherever it ends: the journal begins anew.
func TestHeadThatWasBegun(t *testing.T) {
	t.Parallel()
	root, opts := t.TempDir(), journal.Options{Limit: 24 << 10}
	begin(t, root, opts).crash()
	name, data := logOf(t, root)
	for n := range 512 {
		torn := make([]byte, len(data))
		copy(torn, data[:n])
		check(t, os.WriteFile(name, torn, 0o600))
		j := journal.New(must(vfs.Dir(root))(t), opts)
		if err := j.Begin(never(t)); err != nil {
			t.Fatalf("%d bytes of a head: %v", n, err)
		}
		check(t, j.End(), j.Close())
	}
}
