package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// tree is a Writer in a new directory, and the steps that it takes.
type tree struct {
	Writer

	root  string
	steps []string
	fail  func(vfs.Step) error
}

func newTree(t *testing.T) *tree {
	t.Helper()
	w := &tree{root: t.TempDir(), fail: func(vfs.Step) error { return nil }}
	dir, err := vfs.Dir(w.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	w.FS = vfs.NewFaulty(dir, func(s vfs.Step) error {
		if s.Changes() {
			name, _, _ := strings.Cut(s.Name, "tmp-")
			w.steps = append(w.steps, s.Op+" "+name)
		}
		return w.fail(s)
	})
	return w
}

func (w *tree) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.steps, want) {
		t.Fatalf("steps are %q, want %q", w.steps, want)
	}
	w.steps = nil
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSettleSyncsEachNameOnceUpToTheRoot(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, w.MakeDir("a/b/c"))
	w.steps = nil
	do(t, w.Settle("a/b/c"))
	w.want(t, "syncdir .", "syncdir a", "syncdir a/b")
	do(t, w.MakeDir("a/b/d"))
	do(t, w.Settle("a/b/c"))
	w.want(t, "mkdir a/b/d")
	do(t, w.Settle("a/b/d"))
	w.want(t, "syncdir a/b")
	do(t, w.Settle("."))
	w.want(t)
}

func TestSettleForgetsADirectoryThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, w.MakeDir("a/b"))
	do(t, w.Settle("a/b"))
	do(t, os.RemoveAll(filepath.Join(w.root, "a")))
	do(t, w.MakeDir("a/b"))
	w.steps = nil
	do(t, w.Settle("a/b"))
	w.want(t, "syncdir .", "syncdir a")
}

func TestSettleThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, w.MakeDir("a"))
	w.fail = func(s vfs.Step) error {
		if s.Op == "syncdir" {
			return syscall.EIO
		}
		return nil
	}
	for range 2 {
		if err := w.Settle("a"); !errors.Is(err, syscall.EIO) {
			t.Fatalf("error %v, want EIO", err)
		}
	}
}

func TestReplaceSyncsBytesBeforeTheName(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, w.MakeDir("a"))
	do(t, w.MakeDir("stage"))
	w.steps = nil
	do(t, w.Replace("a/f", "stage", []byte("one")))
	w.want(t, "write stage/", "sync stage/", "rename a/f", "syncdir a")
	do(t, w.Replace("a/f", "stage", []byte("two")))
	w.wantFile(t, "a/f", "two")
	w.wantEmpty(t, "stage")
}

func (w *tree) wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(w.root, name))
	if err != nil || string(got) != want {
		t.Fatalf("%s holds %q, %v; want %q", name, got, err, want)
	}
}

func (w *tree) wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Join(w.root, dir)); err != nil || len(left) > 0 {
		t.Fatalf("%s has %v, %v", dir, left, err)
	}
}

func TestReplaceThatFailsLeavesTheOldFileAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"openfile", "write", "sync", "rename"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			w := newTree(t)
			do(t, w.MakeDir("stage"))
			do(t, w.Replace("f", "stage", []byte("old")))
			w.fail = func(s vfs.Step) error {
				if s.Op == op {
					return syscall.ENOSPC
				}
				return nil
			}
			if err := w.Replace("f", "stage", []byte("new")); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("error %v, want ENOSPC", err)
			}
			w.wantFile(t, "f", "old")
			w.wantEmpty(t, "stage")
		})
	}
}

func TestStageFromPassesOnWhatTheReaderSays(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	boom := errors.New("boom")
	r := io.MultiReader(bytes.NewReader([]byte("x")), failingReader{boom})
	if _, err := w.StageFrom(".", r, 0); !errors.Is(err, boom) {
		t.Fatalf("error %v, want what the reader says", err)
	}
	w.wantEmpty(t, ".")
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestUnsyncedSyncsNothingAndKnowsIt(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	unsynced := true
	w.Unsynced = func() bool { return unsynced }
	do(t, w.MakeDir("a"))
	do(t, w.Settle("a"))
	do(t, w.Replace("a/f", "a", []byte("one")))
	w.want(t, "mkdir a", "write a/", "rename a/f")
	unsynced = false
	do(t, w.Settle("a"))
	w.want(t, "syncdir .")
}

func TestMakeDirIsContentWithWhatIsThere(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, os.MkdirAll(filepath.Join(w.root, "a", "b"), 0o700))
	do(t, w.MakeDir("a/b"))
	do(t, w.Settle("a/b")) // somebody else has made it, and not synced it maybe
	w.want(t, "mkdir a/b", "syncdir .", "syncdir a")
	do(t, os.WriteFile(filepath.Join(w.root, "file"), nil, 0o600))
	if err := w.MakeDir("file/below"); err == nil {
		t.Fatal("made a directory below a file")
	}
}

func TestWithinMakesTheDirectoryOnlyIfItIsMissing(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	do(t, os.WriteFile(filepath.Join(w.root, "file"), nil, 0o600))
	link := func(to string) error {
		return w.Within(to, func() error { return w.FS.Link("file", to) })
	}
	do(t, link("a/b/one"))
	do(t, link("a/b/two"))
	do(t, w.Settle("a/b"))
	w.want(t, "link a/b/one", "mkdir a/b", "mkdir a", "mkdir a/b", "link a/b/one", "link a/b/two", "syncdir .", "syncdir a")
	if err := link("a/b/one"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("link: %v", err)
	}
}

func TestMakeRoot(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for _, name := range []string{"a", "b/c/d", "b/c/e/", "b/c/d"} {
		root := filepath.Join(top, name)
		do(t, MakeRoot(root))
		if fi, err := os.Stat(root); err != nil || !fi.IsDir() {
			t.Fatalf("%s: %v, %v", name, fi, err)
		}
	}
	file := filepath.Join(top, "file")
	do(t, os.WriteFile(file, nil, 0o600))
	if err := MakeRoot(filepath.Join(file, "below")); err == nil {
		t.Fatal("made a directory below a file")
	}
}
