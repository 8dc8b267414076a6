package durable

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// MakeRoot makes the directory root, and those above it where they are missing,
// and makes their names durable.
func MakeRoot(root string) error {
	root = filepath.Clean(root)
	_, err := os.Stat(root)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	above := filepath.Dir(root)
	if above == root {
		return err
	}
	if err = MakeRoot(above); err == nil {
		err = os.Mkdir(root, 0o750)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fsys, err := vfs.Dir(above)
	if err != nil {
		return err
	}
	return errors.Join(fsys.SyncDir("."), fsys.Close())
}
