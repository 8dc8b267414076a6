package filesystem

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// telling: a stat here says when a file was changed or replaced.
const telling = true

// identity returns what a stat says beside size and mtime.
func identity(fi fs.FileInfo) (device, inode uint64, ctime int64) {
	switch st := fi.Sys().(type) {
	case *unix.Stat_t:
		return st.Dev, st.Ino, st.Ctim.Nano()
	case *syscall.Stat_t:
		return st.Dev, st.Ino, st.Ctim.Nano()
	}
	return 0, 0, 0
}

// linkCount is how many names a file has.
func linkCount(fi fs.FileInfo) uint64 {
	switch st := fi.Sys().(type) {
	case *unix.Stat_t:
		return uint64(st.Nlink) // 32 bits on some machines
	case *syscall.Stat_t:
		return uint64(st.Nlink) // 32 bits on some machines
	}
	return 0
}
