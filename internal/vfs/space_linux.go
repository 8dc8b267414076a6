package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Space returns how many bytes of the file system that fsys is on are free, for
// users other than root, and how many are used.
func Space(fsys FS) (free, used int64, err error) {
	f, err := fsys.Open(".")
	if err != nil {
		return 0, 0, err
	}
	dir, ok := f.(*os.File)
	if !ok {
		return 0, 0, errors.Join(errors.ErrUnsupported, f.Close())
	}
	var st unix.Statfs_t
	if err := errors.Join(unix.Fstatfs(int(dir.Fd()), &st), dir.Close()); err != nil {
		return 0, 0, os.NewSyscallError("fstatfs", err)
	}
	block := int64(st.Frsize) // what blocks are counted in, if the file system says so
	if block == 0 {
		block = int64(st.Bsize)
	}
	return int64(st.Bavail) * block, int64(st.Blocks-st.Bfree) * block, nil //nolint:gosec // what overflows here doesn't fit on any disk
}
