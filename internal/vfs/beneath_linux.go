package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// beneath is a directory in which openat2(2) looks up names of any depth: one
// system call for a path, which the kernel keeps inside of the directory.
// os.Root promises the same with an open and a close for each component, and
// has no choice on other systems.
type beneath struct {
	mu     sync.RWMutex // held for reading while fd is used
	closed bool
	fd     int

	path string // of the directory, for what files are called
}

// openBeneath opens the directory path, or fails where the kernel, or whoever
// confines this process, has no openat2.
func openBeneath(path string) (paths, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	b := &beneath{fd: fd, path: path}
	probe, err := b.open("open", ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := unix.Close(probe); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

var _ paths = (*beneath)(nil)

func (b *beneath) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return unix.Close(b.fd)
}

// errLeaves is the error for a name that leads out of the tree. It isn't the
// kernel's EXDEV, which means another file system to those who link and rename.
var errLeaves = errors.New("path leads out of the tree")

// attempts bounds how often a look-up is begun again that a change of the tree
// has made doubtful (EAGAIN), or a signal has interrupted.
const attempts = 128

// open returns a descriptor, which the caller closes.
func (b *beneath) open(op, name string, flag int) (fd int, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return -1, &fs.PathError{Op: op, Path: name, Err: fs.ErrClosed}
	}
	how := unix.OpenHow{
		Flags:   uint64(flag | unix.O_CLOEXEC), //nolint:gosec // flags aren't negative
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flag&unix.O_CREAT != 0 {
		how.Mode = 0o640
	}
	for range attempts {
		fd, err = unix.Openat2(b.fd, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	if errors.Is(err, unix.EXDEV) {
		err = errLeaves
	}
	if err != nil {
		return -1, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return fd, nil
}

// openFile doesn't wait for a writer if what it's to read turns out to be a FIFO.
func (b *beneath) openFile(name string, flag int) (*os.File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		flag |= unix.O_NONBLOCK
	}
	fd, err := b.open("open", name, flag)
	if err != nil {
		return nil, err
	}
	return b.file(fd, name), nil
}

func (b *beneath) file(fd int, name string) *os.File {
	return os.NewFile(uintptr(fd), filepath.Join(b.path, name))
}

func (b *beneath) stat(name string) (fs.FileInfo, error) {
	fd, err := b.open("stat", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	f := b.file(fd, name)
	fi, err := f.Stat()
	return fi, errors.Join(err, f.Close())
}

// in calls fn with the directory that a name is in, and the rest of the name.
func (b *beneath) in(op, name string, fn func(dir int, base string) error) (err error) {
	if !fs.ValidPath(name) || name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir, err := b.open(op, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(dir)) }()
	if err := fn(dir, path.Base(name)); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (b *beneath) mkdir(name string) error {
	return b.in("mkdir", name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o750) })
}

func (b *beneath) remove(name string) error {
	return b.in("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if errors.Is(err, unix.EISDIR) {
			err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

func (b *beneath) rename(from, to string) error {
	return b.both("rename", from, to, unix.Renameat)
}

func (b *beneath) link(from, to string) error {
	return b.both("link", from, to, func(fromDir int, from string, toDir int, to string) error {
		return unix.Linkat(fromDir, from, toDir, to, 0)
	})
}

func (b *beneath) both(op, from, to string, fn func(fromDir int, from string, toDir int, to string) error) error {
	err := b.in(op, from, func(fromDir int, fromBase string) error {
		return b.in(op, to, func(toDir int, toBase string) error { return fn(fromDir, fromBase, toDir, toBase) })
	})
	if err != nil {
		cause := err
		for pe := new(fs.PathError); errors.As(cause, &pe); cause = pe.Err {
			continue
		}
		return &os.LinkError{Op: op, Old: from, New: to, Err: cause}
	}
	return nil
}
