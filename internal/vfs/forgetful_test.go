package vfs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// survivors is what a power cut leaves of f: names and contents.
func survivors(t *testing.T, f *Forgetful) map[string]string {
	t.Helper()
	to := t.TempDir()
	if err := f.PowerCut(to); err != nil {
		t.Fatal(err)
	}
	return read(t, to)
}

// read is what the files of a directory hold.
func read(t *testing.T, to string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(to, func(at string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(at)
		name, rerr := filepath.Rel(to, at)
		found[filepath.ToSlash(name)] = string(data)
		return errors.Join(err, rerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantSurvivors(t *testing.T, f *Forgetful, want map[string]string) {
	t.Helper()
	if got := survivors(t, f); !maps.Equal(got, want) {
		t.Fatalf("after a power cut there is %v, want %v", got, want)
	}
}

func forgetful(t *testing.T, under FS) *Forgetful {
	t.Helper()
	f, err := NewForgetful(under)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Forget(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, f FS, name, content string) File {
	t.Helper()
	file, err := f.OpenFile(name, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := file.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestForgetfulForgetsBytesThatWereNotSynced(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	a := create(t, f, "a", "one")
	do(t, f.SyncDir("."))
	wantSurvivors(t, f, map[string]string{"a": ""})
	do(t, a.Sync())
	wantSurvivors(t, f, map[string]string{"a": "one"})
	if _, err := a.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	wantSurvivors(t, f, map[string]string{"a": "one"})
}

func TestForgetfulForgetsNamesThatWereNotSynced(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	do(t, create(t, f, "a", "one").Sync())
	wantSurvivors(t, f, map[string]string{})
	do(t, f.SyncDir("."), f.Mkdir("d"), f.Link("a", "d/b"), f.SyncDir("d"))
	wantSurvivors(t, f, map[string]string{"a": "one"}) // d itself isn't durable
	do(t, f.SyncDir("."))
	wantSurvivors(t, f, map[string]string{"a": "one", "d/b": "one"})
	do(t, f.Remove("a"), f.Rename("d/b", "d/c"))
	wantSurvivors(t, f, map[string]string{"a": "one", "d/b": "one"})
	do(t, f.SyncDir("."), f.SyncDir("d"))
	wantSurvivors(t, f, map[string]string{"d/c": "one"})
}

func TestForgetfulKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	plain := dirOf(t)
	do(t, plain.Mkdir("d"), create(t, plain, "d/a", "one").Close())
	f := forgetful(t, plain)
	create(t, f, "d/b", "two")
	wantSurvivors(t, f, map[string]string{"d/a": "one"})
	sub, err := f.Sub("d")
	if err != nil {
		t.Fatal(err)
	}
	do(t, sub.Remove("a"), sub.SyncDir("."), sub.Close())
	wantSurvivors(t, f, map[string]string{"d/b": ""})
}

func TestForgetfulKeepsHardLinks(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	do(t, create(t, f, "a", "one").Sync(), f.Link("a", "b"), f.SyncDir("."))
	to := t.TempDir()
	do(t, f.PowerCut(to))
	a, aerr := os.Stat(filepath.Join(to, "a"))
	b, berr := os.Stat(filepath.Join(to, "b"))
	do(t, aerr, berr)
	if !os.SameFile(a, b) {
		t.Fatal("the links are two files")
	}
}

// shrinking is a file that becomes shorter once somebody has asked for its size.
type shrinking struct {
	File

	shrink func() error
}

func (s shrinking) Stat() (os.FileInfo, error) {
	fi, err := s.File.Stat()
	return fi, errors.Join(err, s.shrink())
}

// A file may be cut while it's synced, to nothing or not.
func TestForgetfulSyncsWhatIsCutMeanwhile(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	a := create(t, f, "a", "one")
	do(t, f.SyncDir("."))
	n, err := f.node("a")
	do(t, err)
	pin := n.pin
	for _, left := range []int64{2, 0} {
		n.pin = shrinking{pin, func() error { return a.Truncate(left) }}
		do(t, a.Sync())
		n.pin = pin
		wantSurvivors(t, f, map[string]string{"a": "one"[:left]})
	}
}
