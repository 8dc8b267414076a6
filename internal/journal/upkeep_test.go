package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// The removal of the logs is durable, also if the sync of it fails once.
func TestRemovalOfLogsIsSynced(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	var failing atomic.Bool
	removed := 0
	j := journal.New(vfs.NewFaulty(memory, func(s vfs.Step) error {
		if !failing.Load() {
			return nil
		}
		if s.Op == "write" && strings.HasPrefix(s.Name, "_journal") || s.Op == "openfile" && strings.HasPrefix(s.Name, "_journal") {
			return syscall.ENOSPC // the journal can't be written, nor begun again
		}
		if s.Op == "remove" && strings.HasPrefix(s.Name, "_journal") {
			removed++
		}
		if s.Op == "syncdir" && s.Name == "_journal" && removed == 2 {
			removed++
			return syscall.EIO // once
		}
		return nil
	}), options("one"))
	check(t, j.Begin(never(t)))
	rwrite(t, j, "tmp-1", fresh, "old", true)
	check(t, j.Rename("tmp-1", "index"), j.SyncDir("."))
	failing.Store(true)
	f := must(j.OpenFile("x", fresh))(t)
	must(f.Write([]byte("x")))(t)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v, want EIO", err)
	}
	check(t, f.Sync(), f.Close())
	rwrite(t, j, "tmp-2", fresh, "new", true)
	check(t, j.Rename("tmp-2", "index"), j.SyncDir("."))
	if j.Later() {
		t.Fatal("there's a journal")
	}
	left := recovered(t, memory)
	if got := string(must(os.ReadFile(filepath.Join(left, "index")))(t)); got != "new" {
		t.Fatalf("index holds %q, want new, which was acknowledged", got)
	}
}

// Nothing is kept of what is recorded while the journal is of no use.
func TestMemoryWhileNothingCanBeSynced(t *testing.T) {
	root := memoryDir(t)
	var failing atomic.Bool
	j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
		if failing.Load() && (s.Op == "sync" || s.Op == "syncdir") {
			return syscall.EIO
		}
		return nil
	}), journal.Options{})
	check(t, j.Begin(never(t)))
	failing.Store(true)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	before := heap()
	for i := range 1000 {
		name := fmt.Sprint("f", i)
		f := must(j.OpenFile(name, fresh))(t)
		must(f.Write(make([]byte, 60000)))(t)
		if f.Sync() == nil {
			t.Fatal("synced")
		}
		check(t, f.Close(), os.Remove(filepath.Join(root, name)))
	}
	if after := heap(); after > before+(20<<20) {
		t.Fatalf("%d MiB more", (after-before)>>20)
	}
	_ = j.End()
}

// Nobody waits for the sync of somebody else's large file.
func TestSyncOfALargeFileHoldsUpNobody(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	release, in := make(chan bool), make(chan bool)
	j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
		if s.Op == "sync" && s.Name == "big" {
			close(in)
			<-release
		}
		return nil
	}), journal.Options{})
	check(t, j.Begin(never(t)))
	var all, large sync.WaitGroup
	large.Go(func() { rwrite(t, j, "big", fresh, strings.Repeat("x", 1<<20), true) })
	<-in
	for i := range 300 {
		all.Go(func() { rwrite(t, j, fmt.Sprint("s", i), fresh, "x", true) })
	}
	all.Wait()
	close(release)
	large.Wait()
	check(t, j.End())
}

// A file that is replaced needs one sync, whatever others are at meanwhile.
func TestReplacingWaitsOnce(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	syncs, at := 0, func() {}
	j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
		if s.Op != "sync" || !strings.HasPrefix(s.Name, "_journal") {
			return nil
		}
		if syncs++; syncs == 1 { // before the file is renamed
			at()
		}
		return nil
	}), journal.Options{})
	check(t, j.Begin(never(t)), j.Mkdir("a"), j.SyncDir("."))
	later := func(name string) {
		f := must(j.OpenFile(name, fresh))(t)
		must(f.Write([]byte("x")))(t)
		check(t, f.(interface{ SyncLater() error }).SyncLater(), f.Close())
	}
	later("tmp-1")
	syncs, at = 0, func() { later("a/other") } // another client's
	check(t, j.Rename("tmp-1", "index"), j.SyncDir("."))
	if syncs != 1 {
		t.Errorf("%d syncs, want 1", syncs)
	}
	check(t, j.End())
}

// A removal that fails in the recovery is no recovery.
func TestRemovalThatFailsInTheRecovery(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	b := begin(t, root, machine("one", 7))
	b.stage("f", "content")
	check(t, b.SyncDir("."), b.Remove("f"), b.SyncDir("."))
	b.crash()
	check(t, os.WriteFile(filepath.Join(root, "f"), []byte("content"), 0o600)) // as a power cut leaves it
	j := journal.New(vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
		if s.Op == "remove" && s.Name == "f" {
			return syscall.EIO
		}
		return nil
	}), machine("two", 7))
	if err := j.Recover(never(t)); err == nil {
		t.Error("no error, the journal is gone and the file is back")
	}
}

// Two handles on a file: a sync covers what the other one has changed since the last.
func TestTwoHandles(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	j := journal.New(memory, options("one"))
	check(t, j.Begin(never(t)))
	rwrite(t, j, "f", fresh, "0000000000", true)
	check(t, j.SyncDir("."))
	f, g := must(j.OpenFile("f", os.O_RDWR))(t), must(j.OpenFile("f", os.O_RDWR))(t)
	must(g.Write([]byte("g")))(t) // at 0
	must(f.Seek(8, 0))(t)
	must(f.Write([]byte("f")))(t)
	check(t, f.Sync())
	must(g.Write([]byte("G")))(t) // at 1
	must(f.Write([]byte("F")))(t) // at 9
	check(t, f.Sync())
	left := recovered(t, memory)
	if got := string(must(os.ReadFile(filepath.Join(left, "f")))(t)); got != "gG000000fF" {
		t.Errorf("f holds %q", got)
	}
}

// A mode that was set and synced is restored.
func TestModeIsRestored(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	b := begin(t, root, machine("one", 7))
	b.stage("f", "content")
	check(t, b.SyncDir("."))
	f := must(b.OpenFile("f", os.O_RDWR))(t)
	check(t, f.Chmod(0o600), f.Sync(), f.Close())
	b.crash()
	check(t, os.Chmod(filepath.Join(root, "f"), 0o644)) // as a power cut leaves it
	j := journal.New(must(vfs.Dir(root))(t), machine("two", 7))
	check(t, j.Recover(never(t)))
	if m := must(os.Stat(filepath.Join(root, "f")))(t).Mode().Perm(); m != 0o600 {
		t.Errorf("mode %o", m)
	}
}
