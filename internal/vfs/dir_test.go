package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// ways are how to keep to a directory: the best that this system has, and os.Root,
// which is the only way on others.
var ways = map[string]func(path string) (FS, error){
	"best": Dir,
	"root": openRooted,
}

func eachWay(t *testing.T, test func(t *testing.T, open func(path string) FS)) {
	t.Helper()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(path string) FS {
				d, err := way(path)
				do(t, err)
				t.Cleanup(func() { do(t, d.Close()) })
				return d
			})
		})
	}
}

func TestDirCannotBeLeft(t *testing.T) {
	t.Parallel()
	eachWay(t, testDirCannotBeLeft)
}

func testDirCannotBeLeft(t *testing.T, open func(path string) FS) {
	outside, inside := t.TempDir(), t.TempDir()
	do(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600),
		os.Symlink(outside, filepath.Join(inside, "out")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "link")),
		os.Mkdir(filepath.Join(inside, "d"), 0o700),
		os.Symlink("../../"+filepath.Base(outside), filepath.Join(inside, "d", "up")))
	d := open(inside)
	for _, name := range []string{
		"out/secret", "link", "d/up/secret", "d/../link",
		"../" + filepath.Base(outside) + "/secret", filepath.Join(outside, "secret"),
	} {
		if _, err := d.Open(name); err == nil {
			t.Errorf("Open(%q) works", name)
		}
		if _, err := d.Stat(name); err == nil {
			t.Errorf("Stat(%q) works", name)
		}
		if _, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE); err == nil {
			t.Errorf("OpenFile(%q) works", name)
		}
		if err := Make(d, name+"-new", nil); err == nil && name != "link" {
			t.Errorf("Make(%q) works", name+"-new")
		}
	}
	if _, err := d.Sub("out"); err == nil {
		t.Error("Sub leaves the tree")
	}
	if err := d.Mkdir("out/dir"); err == nil {
		t.Error("Mkdir leaves the tree")
	}
	if err := d.Rename("link", "out/link"); err == nil {
		t.Error("Rename leaves the tree")
	}
	if err := d.Link("link", "out/link"); err == nil {
		t.Error("Link leaves the tree")
	}
	if err := d.Remove("out/secret"); err == nil {
		t.Error("Remove leaves the tree")
	}
	if _, err := d.ReadDir("d/up"); err == nil {
		t.Error("ReadDir leaves the tree")
	}
}

func TestDirFollowsLinksThatStayInside(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, open func(path string) FS) {
		d := open(t.TempDir())
		do(t, d.Mkdir("d"), d.Mkdir("d/e"), create(t, d, "d/e/a", "x").Close())
		path, _ := Path(d, "d/there")
		do(t, os.Symlink("../d/e", path))
		if fi, err := d.Stat("d/there/a"); err != nil || fi.Size() != 1 {
			t.Fatalf("through the link: %v, %v", fi, err)
		}
	})
}

// TestClosedDirRefuses: a descriptor that was closed may be another file's by then.
func TestClosedDirRefuses(t *testing.T) {
	t.Parallel()
	d, err := Dir(t.TempDir())
	do(t, err, d.Mkdir("d"), d.Close(), d.Close())
	if _, err := d.Stat("d/a"); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Stat: %v", err)
	}
	if err := d.Mkdir("d/e"); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Mkdir: %v", err)
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	eachWay(t, testInPlace)
}

func testInPlace(t *testing.T, openDir func(path string) FS) {
	path := filepath.Join(t.TempDir(), "tree")
	do(t, os.Mkdir(path, 0o700))
	d := openDir(path)
	do(t, InPlace(d), os.Rename(path, path+".moved"))
	if err := InPlace(d); !errors.Is(err, ErrMoved) || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("moved: error %v, want ErrMoved", err)
	}
	do(t, os.Mkdir(path, 0o700))
	if err := InPlace(d); !errors.Is(err, ErrMoved) {
		t.Fatalf("replaced: error %v, want ErrMoved", err)
	}
	do(t, os.Remove(path), os.Symlink(path+".moved", path), InPlace(d))
}

func TestStatByPath(t *testing.T) {
	t.Parallel()
	eachWay(t, testStatByPath)
}

func testStatByPath(t *testing.T, openDir func(path string) FS) {
	path := filepath.Join(t.TempDir(), "tree")
	do(t, os.Mkdir(path, 0o700))
	d := openDir(path)
	create(t, d, "a", "x")
	there, err := StatByPath(d, "a")
	do(t, err)
	inside, err := d.Stat("a")
	do(t, err)
	if !SameFile(there, inside) || there.Size() != 1 || there.Name() != "a" {
		t.Fatalf("it's %v, want %v", there, inside)
	}

	do(t, os.Rename(path, path+".moved"))
	if _, err = StatByPath(d, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("moved: error %v, want ErrNotExist", err)
	}
	do(t, os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "a"), []byte("other"), 0o600))
	other, err := StatByPath(d, "a")
	do(t, err)
	if SameFile(other, inside) {
		t.Fatal("another file is taken for the one that was moved")
	}

	do(t, os.Remove(filepath.Join(path, "a")), os.Symlink(filepath.Join(path+".moved", "a"), filepath.Join(path, "a")))
	link, err := StatByPath(d, "a")
	if err != nil || SameFile(link, inside) {
		t.Fatalf("a link is taken for what it leads to, or error %v", err)
	}
	sub, err := d.Sub(".")
	if err == nil {
		_, err = StatByPath(sub, "a")
	}
	do(t, err)
}

func TestDirOpensBareFiles(t *testing.T) {
	t.Parallel()
	d := dirOf(t)
	f := create(t, d, "a", "x")
	if _, ok := f.(*os.File); !ok {
		t.Fatalf("a file is a %T, want the *os.File that sendfile needs", f)
	}
	missing, err := d.Open("missing")
	if !errors.Is(err, fs.ErrNotExist) || missing != nil {
		t.Fatalf("a missing file is %v, %v", missing, err)
	}
}

func TestDirSays(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, open func(path string) FS) { testDirSays(t, open(t.TempDir())) })
}

func testDirSays(t *testing.T, d FS) {
	do(t, d.Mkdir("d"), d.SyncDir("d"))
	a := create(t, d, "d/a", "x")
	do(t, a.Chmod(0o444), a.Close(), d.Link("d/a", "d/b"))
	if err := d.Link("d/a", "d/b"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("link to what is there: %v", err)
	}
	do(t, d.Rename("d/a", "d/b")) // one file: it does nothing
	entries, err := d.ReadDir("d")
	do(t, err)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Fatalf("d has %v", names)
	}
	if fi, err := d.Stat("d/b"); err != nil || fi.Mode() != 0o444 {
		t.Fatalf("d/b: %v, %v", fi, err)
	}
	if err := d.Remove("d"); err == nil {
		t.Fatal("removed a directory that isn't empty")
	}
	do(t, d.Mkdir("d/e"))
	if err := d.Mkdir("d/e"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("make what is there: %v", err)
	}
	do(t, d.Remove("d/e"))
	for what, err := range map[string]error{
		"remove": d.Remove("d/e"), "rename": d.Rename("d/e", "d/f"), "link": d.Link("d/e", "d/f"),
		"mkdir": d.Mkdir("d/e/f"), "syncdir": d.SyncDir("d/e"),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of what isn't there: %v", what, err)
		}
	}
	path, ok := Path(d, "d/a")
	if _, err := os.Stat(path); !ok || err != nil {
		t.Fatalf("the path of d/a is %q, %t, %v", path, ok, err)
	}
}

func TestTryLock(t *testing.T) {
	t.Parallel()
	d := dirOf(t)
	if _, err := d.TryLock("l", false); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a missing file: %v", err)
	}
	first, err := d.TryLock("l", true)
	do(t, err)
	for range 2 {
		if _, lerr := d.TryLock("l", true); !errors.Is(lerr, ErrLocked) {
			t.Fatalf("error %v, want ErrLocked", lerr)
		}
	}
	do(t, first.Close())
	second, err := d.TryLock("l", false)
	do(t, err)
	do(t, second.Close())
}

func TestSyncAll(t *testing.T) {
	t.Parallel()
	if err := SyncAll(dirOf(t)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
}
