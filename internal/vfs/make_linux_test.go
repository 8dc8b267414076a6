package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// maker is a tree in memory, where Linux can make files in one step.
func maker(t *testing.T) FS {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "vfs_test")
	do(t, err)
	t.Cleanup(func() { do(t, os.RemoveAll(root)) })
	d, err := Dir(root)
	do(t, err)
	t.Cleanup(func() { _ = d.Close() }) // a test may have closed it
	return d
}

func contentOf(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	do(t, err)
	content, err := io.ReadAll(f)
	do(t, err, f.Close())
	return string(content)
}

func TestMake(t *testing.T) {
	t.Parallel()
	d := maker(t)
	large := strings.Repeat("content ", 100_000)
	do(t, d.Mkdir("d"), Make(d, "d/a", []byte(large)), Make(d, "b", nil), create(t, d, "c", "").Close())
	if got := contentOf(t, d, "d/a"); got != large {
		t.Errorf("%d bytes, want %d", len(got), len(large))
	}
	made, err := d.Stat("b")
	do(t, err)
	usual, err := d.Stat("c")
	do(t, err)
	if made.Size() != 0 || made.Mode() != usual.Mode() {
		t.Errorf("%d bytes with mode %v, want none with %v", made.Size(), made.Mode(), usual.Mode())
	}
	entries, err := d.ReadDir("d")
	do(t, err)
	if len(entries) != 1 {
		t.Errorf("%d names, want one", len(entries))
	}
}

func TestMakeRefuses(t *testing.T) {
	t.Parallel()
	d := maker(t)
	do(t, Make(d, "a", []byte("one")))
	for name, want := range map[string]error{"a": fs.ErrExist, "d/a": fs.ErrNotExist, "a/b": syscall.ENOTDIR, ".": fs.ErrInvalid, "../a": fs.ErrInvalid} {
		if err := Make(d, name, []byte("two")); !errors.Is(err, want) {
			t.Errorf("Make(%q): %v, want %v", name, err, want)
		}
	}
	if got := contentOf(t, d, "a"); got != "one" {
		t.Errorf("what was there holds %q", got)
	}
	closed := maker(t)
	do(t, closed.Close())
	if err := Make(closed, "a", nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("of a closed tree: %v", err)
	}
	for name, fsys := range map[string]FS{"os.Root": rooted{}, "one that's only read": ReadOnly(d)} {
		if err := Make(fsys, "b", nil); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("of %s: %v", name, err)
		}
	}
}

func TestMakeMayFail(t *testing.T) {
	t.Parallel()
	d := maker(t)
	failing := NewFaulty(d, func(s Step) error {
		if s == (Step{Op: "make", Name: "a"}) && s.Changes() {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := failing.Make("a", nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want ENOSPC", err)
	}
	f := NewFuse(d, 1)
	do(t, f.Make("b", nil))
	if err := f.Make("a", nil); !errors.Is(err, ErrBlown) {
		t.Errorf("error %v, want that of a fuse", err)
	}
	if _, err := d.Stat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what failed is there: %v", err)
	}
}

func TestForgetfulForgetsWhatWasMade(t *testing.T) {
	t.Parallel()
	f := forgetful(t, maker(t))
	do(t, Make(f, "a", []byte("one")))
	wantSurvivors(t, f, map[string]string{})
	do(t, f.SyncDir("."))
	wantSurvivors(t, f, map[string]string{"a": ""})
	a, err := f.Open("a")
	do(t, err, a.Sync(), a.Close())
	wantSurvivors(t, f, map[string]string{"a": "one"})
}
