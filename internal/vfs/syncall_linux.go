package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncAll makes durable all that was ever written to the file system that fsys is
// on.
func SyncAll(fsys FS) error {
	dir, err := fsys.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(SyncAllOf(dir), dir.Close())
}

// SyncAllOf is SyncAll of the file system that an open file or directory is on. It
// fails if something couldn't be written since that was opened. It's
// errors.ErrUnsupported where the system hasn't got it.
func SyncAllOf(f File) error {
	file, ok := f.(*os.File)
	if !ok {
		return errors.ErrUnsupported
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(int(file.Fd())))
}
