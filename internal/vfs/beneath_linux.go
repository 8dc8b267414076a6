package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// beneath is an FS over openat2(2), which looks up a name of any depth in one
// system call, and keeps it inside of the directory by itself.
type beneath struct {
	mu     sync.RWMutex // held for reading while fd is used
	closed bool
	fd     int

	path string // what the directory is called in the names of files
	is   inode  // the directory that was opened; zero for a Sub
}

var (
	_ FS     = (*beneath)(nil)
	_ onDisk = (*beneath)(nil)
)

// openBeneath fails where the kernel, or whoever confines this process, has no openat2.
func openBeneath(path string) (FS, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	b := &beneath{fd: fd, path: path}
	var st unix.Stat_t
	probe, err := b.open("open", ".", unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		err = errors.Join(unix.Fstat(probe, &st), unix.Close(probe))
		b.is = inode{uint64(st.Dev), st.Ino}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *beneath) name() string { return b.path }

func (b *beneath) inPlace() error {
	if b.is == (inode{}) {
		return nil
	}
	var now unix.Stat_t
	if err := unix.Stat(b.path, &now); err != nil || b.is != (inode{uint64(now.Dev), now.Ino}) {
		return moved(b.path, err)
	}
	return nil
}

func (b *beneath) statByPath(name string) (fs.FileInfo, error) {
	if b.is == (inode{}) {
		return b.Stat(name)
	}
	fi := &fileInfo{name: name}
	if err := unix.Lstat(b.path+"/"+name, &fi.st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fi, nil
}

// errLeaves is the error for a name that leads out of the tree. It isn't the
// kernel's EXDEV, which means another file system to those who link and rename.
var errLeaves = errors.New("path leads out of the tree")

// attempts bounds how often a look-up is begun again that a change of the tree
// has made doubtful (EAGAIN), or a signal has interrupted.
const attempts = 128

// use calls fn with the descriptor of the directory, which stays open meanwhile.
func (b *beneath) use(op, name string, fn func(fd int) error) error {
	err := fs.ErrClosed
	b.mu.RLock()
	if !b.closed {
		err = fn(b.fd)
	}
	b.mu.RUnlock()
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// open returns a descriptor, which the caller closes.
func (b *beneath) open(op, name string, flag int) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   uint64(flag | unix.O_CLOEXEC), //nolint:gosec // flags aren't negative
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flag&unix.O_CREAT != 0 {
		how.Mode = 0o640
	}
	err = b.use(op, name, func(dir int) (err error) {
		for range attempts {
			fd, err = unix.Openat2(dir, name, &how)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
				break
			}
		}
		if errors.Is(err, unix.EXDEV) {
			err = errLeaves
		}
		return err
	})
	return fd, err
}

func (b *beneath) Open(name string) (File, error) { return b.OpenFile(name, unix.O_RDONLY) }

func (b *beneath) OpenFile(name string, flag int) (File, error) {
	return file(b.openFile(name, flag))
}

// openFile doesn't wait for whoever might be at the other end of a named pipe,
// and returns nothing that one could wait for.
func (b *beneath) openFile(name string, flag int) (*os.File, error) {
	if flag&unix.O_EXCL != 0 {
		return b.makeFile(name, flag)
	}
	fd, err := b.open("open", name, flag|nonblock)
	if err != nil {
		return nil, err
	}
	fi := &fileInfo{name: name}
	if err = unix.Fstat(fd, &fi.st); err == nil {
		err = refuseIrregular(name, fi)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), filepath.Join(b.path, name)), nil
}

// makeFile opens a file that wasn't there before, so it is one.
func (b *beneath) makeFile(name string, flag int) (*os.File, error) {
	fd, err := b.open("open", name, flag)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(b.path, name)), nil
}

// Stat asks for a name of one component directly: blobs are stat'ed the most,
// and few names are symbolic links.
func (b *beneath) Stat(name string) (fs.FileInfo, error) {
	fi := &fileInfo{name: path.Base(name)}
	if strings.IndexByte(name, '/') < 0 && fs.ValidPath(name) {
		err := b.use("stat", name, func(dir int) error { return unix.Fstatat(dir, name, &fi.st, unix.AT_SYMLINK_NOFOLLOW) })
		if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			return fi.orNil(err)
		}
	}
	fd, err := b.open("stat", name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return fi.orNil(errors.Join(unix.Fstat(fd, &fi.st), unix.Close(fd)))
}

func (b *beneath) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := b.openFile(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

func (b *beneath) Sub(name string) (FS, error) {
	fd, err := b.open("open", name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &beneath{fd: fd, path: filepath.Join(b.path, name)}, nil
}

// in calls fn with the directory that a name is in, and the rest of the name.
func (b *beneath) in(op, name string, fn func(dir int, base string) error) error {
	dir, base := path.Split(name)
	if !fs.ValidPath(name) || name == "." {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if dir == "" {
		return b.use(op, name, func(fd int) error { return fn(fd, base) })
	}
	fd, err := b.open(op, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if err := errors.Join(fn(fd, base), unix.Close(fd)); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (b *beneath) Mkdir(name string) error {
	return b.in("mkdir", name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o750) })
}

func (b *beneath) Remove(name string) error {
	return b.in("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if errors.Is(err, unix.EISDIR) {
			err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

func (b *beneath) Rename(from, to string) error {
	return b.inBoth("rename", from, to, unix.Renameat)
}

func (b *beneath) Link(from, to string) error {
	return b.inBoth("link", from, to, func(fromDir int, from string, toDir int, to string) error {
		return unix.Linkat(fromDir, from, toDir, to, 0)
	})
}

func (b *beneath) inBoth(op, from, to string, fn func(fromDir int, from string, toDir int, to string) error) error {
	err := b.in(op, from, func(fromDir int, fromBase string) error {
		if path.Dir(from) == path.Dir(to) && fs.ValidPath(to) {
			return fn(fromDir, fromBase, fromDir, path.Base(to))
		}
		return b.in(op, to, func(toDir int, toBase string) error { return fn(fromDir, fromBase, toDir, toBase) })
	})
	if err == nil {
		return nil
	}
	for pe := new(fs.PathError); errors.As(err, &pe); { // what was wrong, without which of the two it was
		err = pe.Err
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

func (b *beneath) SyncDir(name string) error {
	fd, err := b.open("sync", name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if err := errors.Join(fsync(fd), unix.Close(fd)); err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	return nil
}

func fsync(fd int) error {
	for {
		if err := unix.Fsync(fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (b *beneath) TryLock(name string, create bool) (File, error) {
	flag := unix.O_RDWR
	if create {
		flag |= unix.O_CREAT
	}
	f, err := b.openFile(name, flag)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (b *beneath) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return unix.Close(b.fd)
}
