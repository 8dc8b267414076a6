package vfs

import (
	"errors"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"
)

// Make implements Maker with a file that has no name before it's written (O_TMPFILE).
// Half as much is done in directories as for one that is renamed, and a crash leaves
// nothing behind. Some file systems don't know it, and it needs /proc.
func (b *beneath) Make(name string, data []byte) error {
	return b.in("make", name, func(dir int, base string) error {
		fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
			return errors.ErrUnsupported
		}
		if err != nil {
			return err
		}
		named := false
		if err = writeAll(fd, data); err == nil {
			err = nameFile(fd, dir, base)
			named = err == nil
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil && named {
			err = errors.Join(err, unix.Unlinkat(dir, base, 0))
		}
		return err
	})
}

// nameFile gives an open file its name. Without /proc there's a way for the privileged alone.
func nameFile(fd, dir int, base string) error {
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, base, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, fs.ErrNotExist) && unix.Access("/proc/self/fd", unix.F_OK) != nil {
		return errors.ErrUnsupported
	}
	return err
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

var _ Maker = (*beneath)(nil)
