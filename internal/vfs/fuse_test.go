package vfs

import (
	"errors"
	"io"
	"os"
	"testing"
)

// steps changes a tree in seven steps, and returns how many succeeded.
func steps(f FS) (done int, err error) {
	var file File
	for _, step := range []func() error{
		func() error { return f.Mkdir("d") },
		func() (err error) { file, err = f.OpenFile("d/a", os.O_RDWR|os.O_CREATE); return err },
		func() error { _, err := file.Write([]byte("12345678")); return err },
		func() error { return file.Sync() },
		func() error { return f.Link("d/a", "d/b") },
		func() error { return f.Rename("d/b", "c") },
		func() error { return f.SyncDir("d") },
		func() error { return f.Remove("d/a") },
	} {
		if err := step(); err != nil {
			return done, err
		}
		done++
	}
	return done, file.Close()
}

func TestFuseStopsTheWorldAtEachStep(t *testing.T) {
	t.Parallel()
	for allowed := range 8 {
		plain := dirOf(t)
		f := NewFuse(plain, int64(allowed))
		done, err := steps(f)
		if done != allowed || !errors.Is(err, ErrBlown) || !f.Blown() {
			t.Fatalf("%d steps of %d done, %v, blown: %t", done, allowed, err, f.Blown())
		}
		if _, err := f.Stat("."); !errors.Is(err, ErrBlown) {
			t.Fatalf("it reads after it has blown: %v", err)
		}
		if _, err := plain.Stat("."); err != nil {
			t.Fatalf("the tree under it: %v", err)
		}
	}
	f := NewFuse(dirOf(t), 8)
	if done, err := steps(f); done != 8 || err != nil || f.Blown() {
		t.Fatalf("%d of 8 steps done, %v, blown: %t", done, err, f.Blown())
	}
}

func TestFuseTearsTheLastWrite(t *testing.T) {
	t.Parallel()
	plain := dirOf(t)
	f := NewFuse(plain, 1)
	file, err := f.OpenFile("a", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	for want := 4; want >= 0; want -= 4 {
		n, failed := file.Write([]byte("12345678"))
		if n != want || !errors.Is(failed, ErrBlown) {
			t.Fatalf("wrote %d, %v; want %d", n, failed, want)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := plain.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if got, err := io.ReadAll(r); err != nil || string(got) != "1234" {
		t.Fatalf("the file holds %q, %v", got, err)
	}
}

// subtree makes a directory, with one step, and opens it.
func subtree(t *testing.T, f *Fuse) FS {
	t.Helper()
	do(t, f.Mkdir("d"))
	sub, err := f.Sub("d")
	do(t, err)
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

func TestFuseReachesSubtrees(t *testing.T) {
	t.Parallel()
	f := NewFuse(dirOf(t), 1)
	sub := subtree(t, f)
	if err := sub.Mkdir("e"); !errors.Is(err, ErrBlown) || !f.Blown() {
		t.Fatalf("error %v, blown: %t", err, f.Blown())
	}
}

func TestFuseTearsAsItIsTold(t *testing.T) {
	t.Parallel()
	f := NewFuse(dirOf(t), 2)
	f.Torn = func(n int) int { return n - 1 }
	sub := subtree(t, f)
	file, err := sub.OpenFile("a", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if n, err := file.Write([]byte("12345678")); n != 7 || !errors.Is(err, ErrBlown) {
		t.Fatalf("wrote %d, %v; want 7", n, err)
	}
}

func dirOf(t *testing.T) FS {
	t.Helper()
	d, err := Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
