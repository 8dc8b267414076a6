package filesystem

import (
	"os"
	"path/filepath"
	"testing"
)

// One folder has one path, by whatever links it's reached, and if it isn't there yet.
func TestCanonical(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"/a/b", "/link/a/b", "/link/link/a/./b", "/a/c/../b/"} {
		if got, err := Canonical(dir + folder); err != nil || got != filepath.Join(dir, "a", "b") {
			t.Errorf("%s: %s, %v", folder, got, err)
		}
	}
	if got, err := Canonical("a"); err != nil || !filepath.IsAbs(got) || filepath.Base(got) != "a" {
		t.Errorf("a: %s, %v", got, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Canonical(filepath.Join(file, "a")); err == nil {
		t.Errorf("below a file is %s", got)
	}
}

func TestIsUnsynced(t *testing.T) {
	t.Parallel()
	for _, unsynced := range []bool{true, false} {
		root := t.TempDir()
		s, err := Open(root, Options{Unsynced: unsynced})
		if err != nil {
			t.Fatal(err)
		}
		if got := IsUnsynced(root); got != unsynced {
			t.Errorf("unsynced %t: it's %t", unsynced, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if IsUnsynced(root) {
			t.Errorf("unsynced %t: it's so of one that was closed", unsynced)
		}
	}
}
