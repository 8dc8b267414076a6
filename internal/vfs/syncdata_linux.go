package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncData is f.Sync that may leave out what isn't needed to read the content
// again, as the time of the last change.
func SyncData(f File) error {
	file, ok := f.(*os.File)
	if !ok {
		return f.Sync()
	}
	return os.NewSyscallError("fdatasync", unix.Fdatasync(int(file.Fd())))
}
