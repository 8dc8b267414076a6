package vfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ReadOnly returns fsys without what changes something in it, which fails with
// syscall.EROFS as on a file system that's mounted so. Closing it closes fsys.
func ReadOnly(fsys FS) FS { return readOnly{fsys} }

// readOnly reads through Tree, so that a method which FS gains doesn't write
// before it's known here.
type readOnly struct{ under FS }

var _ FS = readOnly{}

func refuse(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: syscall.EROFS}
}

func (r readOnly) Open(name string) (File, error)             { return r.under.Open(name) }
func (r readOnly) Stat(name string) (fs.FileInfo, error)      { return r.under.Stat(name) }
func (r readOnly) ReadDir(name string) ([]fs.DirEntry, error) { return r.under.ReadDir(name) }
func (r readOnly) Close() error                               { return r.under.Close() }

func (r readOnly) Sub(name string) (FS, error) {
	sub, err := r.under.Sub(name)
	if err != nil {
		return nil, err
	}
	return readOnly{sub}, nil
}

func (readOnly) OpenFile(name string, _ int) (File, error) { return nil, refuse("open", name) }
func (readOnly) Mkdir(name string) error                   { return refuse("mkdir", name) }
func (readOnly) Remove(name string) error                  { return refuse("remove", name) }
func (readOnly) SyncDir(name string) error                 { return refuse("sync", name) }
func (readOnly) TryLock(name string, _ bool) (File, error) { return nil, refuse("lock", name) }

func (readOnly) Rename(from, to string) error {
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EROFS}
}

func (readOnly) Link(from, to string) error {
	return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EROFS}
}

// Locked reports whether somebody has the lock of TryLock on a file that's there.
// It changes nothing, and takes no right to write. For a moment nobody else gets
// the lock: who tries to just then finds it taken.
func Locked(fsys FS, name string) (bool, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return false, err
	}
	if bare, ok := f.(*os.File); ok {
		err = shareLock(bare)
	}
	err = errors.Join(err, f.Close())
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}
