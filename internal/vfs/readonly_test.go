package vfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	eachWay(t, testReadOnly)
}

func testReadOnly(t *testing.T, open func(path string) FS) {
	dir := t.TempDir()
	do(t, os.Mkdir(filepath.Join(dir, "d"), 0o700), os.WriteFile(filepath.Join(dir, "d", "f"), []byte("x"), 0o600))
	top := ReadOnly(open(dir))
	sub, err := top.Sub("d")
	do(t, err)
	defer func() { do(t, sub.Close()) }()
	for _, fsys := range []FS{top, sub} {
		_, opened := fsys.OpenFile("f", os.O_WRONLY|os.O_CREATE)
		_, locked := fsys.TryLock("f", true)
		for what, err := range map[string]error{
			"OpenFile": opened, "TryLock": locked, "Mkdir": fsys.Mkdir("e"), "Remove": fsys.Remove("f"),
			"Rename": fsys.Rename("f", "g"), "Link": fsys.Link("f", "g"), "SyncDir": fsys.SyncDir("."),
		} {
			if !errors.Is(err, syscall.EROFS) {
				t.Errorf("%s: err = %v, want EROFS", what, err)
			}
		}
	}
	f, err := sub.Open("f")
	do(t, err)
	content, err := io.ReadAll(f)
	do(t, err, f.Close())
	entries, err := top.ReadDir("d")
	do(t, err)
	if _, err := top.Stat("d/f"); err != nil || string(content) != "x" || len(entries) != 1 {
		t.Errorf("it reads %q, %v, %v", content, entries, err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	eachWay(t, testLocked)
}

func testLocked(t *testing.T, open func(path string) FS) {
	dir := t.TempDir()
	do(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	want := func(want bool) {
		t.Helper()
		if locked, err := Locked(ReadOnly(open(dir)), "f"); err != nil || locked != want {
			t.Fatalf("locked %v, %v; want %v", locked, err, want)
		}
	}
	want(false)
	lock, err := open(dir).TryLock("f", false)
	do(t, err)
	want(true)
	do(t, lock.Close())
	want(false)
	if _, err := Locked(open(dir), "nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v, want ErrNotExist", err)
	}
}
