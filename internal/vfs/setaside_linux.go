package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// SetAside asks the file system to choose now where the n bytes of f from off on go.
// They don't become a part of the file before they're written. On ext4 that saves the
// reservation of each block for itself, a third of the CPU that writing a large file takes.
// It reports false if f is on another file system, or that has less free than 64 times as
// much, or if it can't be, and then nothing stays set aside behind the file's end. What
// isn't used is to go by GiveBack.
func SetAside(f File, off, n int64) bool {
	file, ok := osFile(f)
	if !ok {
		return false
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(file.Fd()), &st) != nil || st.Type != unix.EXT4_SUPER_MAGIC {
		return false
	}
	if st.Bavail < uint64(64*n)/uint64(st.Bsize) { //nolint:gosec // neither is negative
		return false
	}
	if unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n) == nil {
		return true
	}
	if fi, err := file.Stat(); err == nil {
		GiveBack(f, fi.Size()) // ext4 keeps what it has found before there was no more
	}
	return false
}

// GiveBack gives back what SetAside has set aside behind the end of f, which is size bytes
// long. What is behind that is lost.
func GiveBack(f File, size int64) {
	if file, ok := osFile(f); ok {
		_ = file.Truncate(size) // what isn't given back goes with the file
	}
}

// osFile returns the file of the operating system that f is, below what the packages
// of this module put around it.
func osFile(f File) (*os.File, bool) {
	if u, ok := f.(interface{ Unwrap() File }); ok {
		f = u.Unwrap()
	}
	file, ok := f.(*os.File)
	return file, ok
}
