package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir returns the tree under the directory path, which exists. The caller closes it.
func Dir(path string) (FS, error) {
	if fsys, err := openBeneath(path); err == nil {
		return fsys, nil
	}
	return openRooted(path) // which knows better what is wrong with path
}

// onDisk is an FS that is a directory on the real file system.
type onDisk interface {
	// name is the path that the directory was opened by.
	name() string

	// inPlace is InPlace.
	inPlace() error

	// statByPath is StatByPath.
	statByPath(name string) (fs.FileInfo, error)
}

// Path returns the path of a name in fsys on the real file system, if it has one.
func Path(fsys FS, name string) (string, bool) {
	d, ok := fsys.(onDisk)
	if !ok {
		return "", false
	}
	return filepath.Join(d.name(), filepath.FromSlash(name)), true
}

// ErrMoved is the error of InPlace.
var ErrMoved = errors.New("vfs: the directory isn't where it was opened")

// InPlace fails with ErrMoved if the path that fsys was opened by leads to
// another directory by now, or to none. It's nil for what has no path, and for a Sub.
func InPlace(fsys FS) error {
	if d, ok := fsys.(onDisk); ok {
		return d.inPlace()
	}
	return nil
}

// StatByPath is Stat of a file that is in the directory itself, by the path that fsys was
// opened by, so of what somebody else would find there now: if the directory was moved,
// or something mounted over it, that's another file, or none. It doesn't follow the file
// if that is a link. It's Stat for what has no path, and for a Sub.
func StatByPath(fsys FS, name string) (fs.FileInfo, error) {
	if d, ok := fsys.(onDisk); ok {
		return d.statByPath(name)
	}
	return fsys.Stat(name)
}

// moved says what is wrong with the path of a directory: err, or that another
// one is there. Never fs.ErrNotExist, which would be of a name in it.
func moved(path string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s", ErrMoved, err.Error())
	}
	return fmt.Errorf("%w: %s is another one", ErrMoved, path)
}

// SameFile reports whether two stats, of any FS, are of one file.
func SameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) || sameInode(a, b) }

// rooted is an FS over os.Root, which works everywhere, and opens and closes
// every directory on the way to a name.
type rooted struct {
	root *os.Root
	is   fs.FileInfo // the directory that was opened; nil for a Sub
}

var (
	_ FS     = rooted{}
	_ onDisk = rooted{}
)

func openRooted(path string) (FS, error) {
	r, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	is, err := r.Stat(".")
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return rooted{r, is}, nil
}

func (d rooted) name() string { return d.root.Name() }

func (d rooted) inPlace() error {
	if d.is == nil {
		return nil
	}
	now, err := os.Stat(d.root.Name())
	if err != nil || !os.SameFile(now, d.is) {
		return moved(d.root.Name(), err)
	}
	return nil
}

func (d rooted) statByPath(name string) (fs.FileInfo, error) {
	if d.is == nil {
		return d.Stat(name)
	}
	return os.Lstat(d.root.Name() + string(filepath.Separator) + name)
}

func (d rooted) Open(name string) (File, error) { return d.OpenFile(name, os.O_RDONLY) }

func (d rooted) OpenFile(name string, flag int) (File, error) { return file(d.open(name, flag)) }

// open doesn't wait for whoever might be at the other end of a named pipe, and
// returns nothing that one could wait for.
func (d rooted) open(name string, flag int) (*os.File, error) {
	f, err := d.root.OpenFile(name, flag|nonblock, 0o640)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = refuseIrregular(name, fi)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func refuseIrregular(name string, fi fs.FileInfo) error {
	if fi.Mode().IsRegular() || fi.IsDir() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: name, Err: ErrIrregular}
}

// file keeps a nil *os.File from becoming a File that isn't nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d rooted) Stat(name string) (fs.FileInfo, error) { return d.root.Stat(name) }
func (d rooted) Mkdir(name string) error               { return d.root.Mkdir(name, 0o750) }
func (d rooted) Rename(from, to string) error          { return d.root.Rename(from, to) }
func (d rooted) Link(from, to string) error            { return d.root.Link(from, to) }
func (d rooted) Remove(name string) error              { return d.root.Remove(name) }

func (d rooted) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

func (d rooted) Sub(name string) (FS, error) {
	r, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return rooted{root: r}, nil
}

func (d rooted) SyncDir(name string) error {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

func (d rooted) TryLock(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d rooted) Close() error { return d.root.Close() }
