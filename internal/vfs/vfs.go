// Package vfs is the part of a file system that storage needs, confined to one
// directory, so that tests can make any step of it fail and can forget what
// wasn't synced.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is the error of TryLock when somebody else has the lock.
var ErrLocked = errors.New("vfs: locked by another process")

// ErrIrregular is what it fails with to open something that is neither a file
// nor a directory, as a named pipe, where reading might never end.
var ErrIrregular = errors.New("vfs: neither a file nor a directory")

// An FS is a directory tree that no name can leave, not through a symbolic
// link either. Names are slash-separated and relative; "." is the root. Errors
// are *fs.PathError or *os.LinkError, so errors.Is finds fs.ErrNotExist,
// fs.ErrExist, syscall.ENOSPC and their like.
type FS interface {
	Tree
	Names

	// TryLock takes an exclusive lock on a file, making it if create says so. It
	// fails with ErrLocked if another process, or another TryLock of this one,
	// has it. Closing the file gives it back.
	TryLock(name string, create bool) (File, error)

	// Close releases the tree. Files opened from it stay open.
	Close() error
}

// Tree reads.
type Tree interface {
	// Open opens a file for reading. The caller closes it.
	Open(name string) (File, error)

	// Stat follows symbolic links that stay inside.
	Stat(name string) (fs.FileInfo, error)

	// ReadDir returns the entries in no particular order.
	ReadDir(name string) ([]fs.DirEntry, error)

	// Sub returns the tree under a directory that exists. Looking up a name in it
	// is cheap however deep it lies: hold one for a directory that is used much.
	// The caller closes it.
	Sub(name string) (FS, error)
}

// Names changes what is where. No change is durable before SyncDir on the
// directory that holds the name.
type Names interface {
	// OpenFile is os.OpenFile with mode 0640 less the umask. The caller closes the file.
	OpenFile(name string, flag int) (File, error)

	// Mkdir makes one directory, of mode 0750 less the umask.
	Mkdir(name string) error

	// Rename replaces to. If both are links to one file it does nothing, as
	// rename(2) has it, and from stays.
	Rename(from, to string) error

	// Link makes the name to for the file from; fs.ErrExist if to is there.
	Link(from, to string) error

	// Remove removes a file or an empty directory.
	Remove(name string) error

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
}

// A File is an open file. On a real file system it is a bare *os.File.
type File interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.Closer

	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error // of its permission bits
	Truncate(size int64) error
	Sync() error
}
