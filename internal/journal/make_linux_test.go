package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// What was made later is there, whole, after a power cut that comes after the next
// barrier, and costs one sync with all that was made besides.
func TestWhatIsMadeLaterIsDurableWithTheNextBarrier(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	var syncs []vfs.Step
	j := journal.New(vfs.NewFaulty(memory, func(s vfs.Step) error {
		if s.Op == "sync" || s.Op == "syncdir" {
			syncs = append(syncs, s)
		}
		return nil
	}), options("before"))
	check(t, j.Begin(never(t)), j.Mkdir("blobs"), j.SyncDir("."), j.SyncDir("blobs"), j.Doubt("blobs"))
	syncs = nil
	check(t, j.MakeLater("blobs/a", []byte("one")), j.MakeLater("blobs/b", nil), j.SyncDirLater("blobs"))
	if len(syncs) != 0 {
		t.Errorf("it waited for %v", syncs)
	}
	check(t, j.Barrier())
	if len(syncs) != 1 {
		t.Errorf("the barrier waited for %v, want one sync", syncs)
	}
	root := memoryDir(t)
	check(t, memory.PowerCut(root))
	after := journal.New(must(vfs.Dir(root))(t), options("after"))
	check(t, after.Begin(func(string) error { return nil }), after.End(), after.Close(), j.Close())
	for name, want := range map[string]string{"a": "one", "b": ""} {
		if got := string(must(os.ReadFile(filepath.Join(root, "blobs", name)))(t)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

// A power cut before the barrier leaves what was made torn: it's looked for then.
func TestWhatIsMadeLaterMayBeTorn(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	j := journal.New(memory, options("before"))
	check(t, j.Begin(never(t)), j.Mkdir("blobs"), j.SyncDir("."), j.Doubt("blobs"), j.MakeLater("blobs/a", []byte("one")))
	root := memoryDir(t)
	names := true
	check(t, memory.PowerCutKeeping(root, func() bool { was := names; names = false; return was }))
	check(t, j.Close())
	var verified []string
	after := journal.New(must(vfs.Dir(root))(t), options("after"))
	check(t, after.Begin(func(dir string) error { verified = append(verified, dir); return nil }), after.End(), after.Close())
	if len(verified) != 1 || verified[0] != "blobs" {
		t.Errorf("verified %v, want blobs", verified)
	}
	if got := string(must(os.ReadFile(filepath.Join(root, "blobs/a")))(t)); got != "" {
		t.Errorf("it holds %q: nothing was torn", got)
	}
}

// slow is a tree that stops before it makes a file.
type slow struct {
	vfs.FS

	stopped, goOn chan struct{}
}

func (s slow) Make(name string, data []byte) error {
	close(s.stopped)
	<-s.goOn
	return vfs.Make(s.FS, name, data)
}

// A file may be made so slowly that epochs end meanwhile: its directory is in doubt as
// long as it may come to be there without its bytes.
func TestDoubtLastsAsLongAsSomethingIsMade(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	under := slow{memory, make(chan struct{}), make(chan struct{})}
	j := journal.New(under, options("before"))
	check(t, j.Begin(never(t)), j.Mkdir("blobs"), j.SyncDir("."), j.SyncDir("blobs"), j.Doubt("blobs"))
	made := make(chan error)
	go func() { made <- j.MakeLater("blobs/a", []byte("one")) }()
	<-under.stopped
	const all, enough = 16, 10 // some may wait for the lock of the name that is made
	var writers sync.WaitGroup
	written := make(chan struct{}, all)
	for i := range all { // each fills most of a log
		writers.Go(func() {
			f := must(j.OpenFile(fmt.Sprintf("x%d", i), os.O_CREATE|os.O_EXCL|os.O_RDWR))(t)
			must(f.Write(make([]byte, 20<<10)))(t)
			check(t, f.Sync(), f.Close())
			written <- struct{}{}
		})
	}
	for range enough {
		<-written
	}
	close(under.goOn)
	check(t, <-made, memory.SyncDir("blobs")) // which the system may do by itself
	root := memoryDir(t)
	check(t, memory.PowerCut(root))
	writers.Wait()
	check(t, j.Close())
	verified := 0
	after := journal.New(must(vfs.Dir(root))(t), options("after"))
	check(t, after.Begin(func(string) error { verified++; return nil }), after.End(), after.Close())
	if got := string(must(os.ReadFile(filepath.Join(root, "blobs/a")))(t)); got != "one" && verified != 1 {
		t.Errorf("it holds %q, and nobody is told to verify it", got)
	}
}

func TestWhatCannotBeMadeLater(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	b := begin(t, root, journal.Options{})
	check(t, b.Mkdir("a"), b.Mkdir("b"), b.Doubt("b"))
	much := []byte(strings.Repeat("x", 64<<10+1))
	for name, content := range map[string][]byte{"a/x": nil, "b/x": much} {
		if err := b.MakeLater(name, content); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%d bytes in %s: %v", len(content), name, err)
		}
		if _, err := b.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	check(t, b.MakeLater("b/x", much[1:]))
	b.want("b/x", string(much[1:]))
	if err := b.MakeLater("b/x", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("one that's there: %v", err)
	}
	b.want("b/x", string(much[1:]))
	check(t, b.End())
	if err := b.MakeLater("b/y", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without a journal: %v", err)
	}
	check(t, b.Close())
}

// What is only made isn't durable before it's synced, and its directory.
func TestWhatIsMadeIsSyncedByItself(t *testing.T) {
	t.Parallel()
	memory := forgetful(t)
	j := journal.New(memory, options("before"))
	check(t, j.Begin(never(t)), j.Make("a", []byte("one")), j.Barrier())
	if _, err := os.Stat(filepath.Join(recovered(t, memory), "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that nobody synced: %v", err)
	}
	f := must(j.OpenFile("a", os.O_RDWR))(t)
	check(t, f.Sync(), f.Close(), j.SyncDir("."))
	if got := string(must(os.ReadFile(filepath.Join(recovered(t, memory), "a")))(t)); got != "one" {
		t.Errorf("it holds %q", got)
	}
	check(t, j.Close())
}
