package filesystem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Canonical returns the one absolute path, free of symbolic links, of a folder
// that need not exist yet.
func Canonical(folder string) (string, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	missing := ""
	for existing := folder; ; existing = filepath.Dir(existing) {
		real, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return filepath.Join(real, missing), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || existing == filepath.Dir(existing) {
			return "", err
		}
		missing = filepath.Join(filepath.Base(existing), missing)
	}
}

// IsUnsynced reports whether a root was written with Options.Unsynced, and not closed.
// It's so of one that a store has open with that option, too.
func IsUnsynced(root string) bool {
	_, err := os.Stat(filepath.Join(root, unsyncedName))
	return err == nil
}
