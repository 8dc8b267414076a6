package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncAll makes durable all that was ever written to fsys.
func SyncAll(fsys FS) error {
	f, err := fsys.Open(".")
	if err != nil {
		return err
	}
	file, ok := f.(*os.File)
	if !ok {
		return errors.Join(errors.ErrUnsupported, f.Close())
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}
