package vfs

import (
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fileInfo is an fs.FileInfo whose Sys is a *unix.Stat_t. Its mode has no other
// bits than type and permission.
type fileInfo struct {
	name string
	st   unix.Stat_t
}

var _ fs.FileInfo = (*fileInfo)(nil)

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.st.Size }
func (i *fileInfo) ModTime() time.Time { return time.Unix(i.st.Mtim.Unix()) }
func (i *fileInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i *fileInfo) Sys() any           { return &i.st }

func (i *fileInfo) Mode() fs.FileMode {
	kind := fs.ModeIrregular
	switch i.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		kind = 0
	case unix.S_IFDIR:
		kind = fs.ModeDir
	case unix.S_IFLNK:
		kind = fs.ModeSymlink
	case unix.S_IFIFO:
		kind = fs.ModeNamedPipe
	case unix.S_IFSOCK:
		kind = fs.ModeSocket
	case unix.S_IFBLK:
		kind = fs.ModeDevice
	case unix.S_IFCHR:
		kind = fs.ModeDevice | fs.ModeCharDevice
	}
	return kind | fs.FileMode(i.st.Mode)&fs.ModePerm
}

// orNil returns i unless there's an error.
func (i *fileInfo) orNil(err error) (fs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	return i, nil
}

// sameInode compares stats of which one at least is a fileInfo.
func sameInode(a, b fs.FileInfo) bool {
	x, ok := inodeOf(a)
	y, okToo := inodeOf(b)
	return ok && okToo && x == y
}

type inode struct{ device, number uint64 }

func inodeOf(fi fs.FileInfo) (inode, bool) {
	switch st := fi.Sys().(type) {
	case *unix.Stat_t:
		return inode{uint64(st.Dev), st.Ino}, true
	case *syscall.Stat_t:
		return inode{uint64(st.Dev), st.Ino}, true
	}
	return inode{}, false
}
