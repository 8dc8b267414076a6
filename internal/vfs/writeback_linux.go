package vfs

import "golang.org/x/sys/unix"

// StartWriteback asks the kernel to begin writing n bytes of f from off on to
// the disk, so that a later Sync has less to do. It promises nothing and
// doesn't wait.
func StartWriteback(f File, off, n int64) {
	if file, ok := osFile(f); ok {
		_ = unix.SyncFileRange(int(file.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // a hint
	}
}
