package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// dir is an FS over os.Root.
type dir struct{ root *os.Root }

var _ FS = dir{}

// Dir returns the tree under the directory path, which exists. The caller closes it.
func Dir(path string) (FS, error) {
	r, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return dir{r}, nil
}

// Path returns the path of a name in fsys on the real file system, if it has one.
func Path(fsys FS, name string) (string, bool) {
	d, ok := fsys.(dir)
	if !ok {
		return "", false
	}
	return filepath.Join(d.root.Name(), filepath.FromSlash(name)), true
}

func (d dir) Open(name string) (File, error) { return file(d.root.Open(name)) }

func (d dir) OpenFile(name string, flag int) (File, error) {
	return file(d.root.OpenFile(name, flag, 0o640))
}

// file keeps a nil *os.File from becoming a File that isn't nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d dir) Stat(name string) (fs.FileInfo, error) { return d.root.Stat(name) }
func (d dir) Mkdir(name string) error               { return d.root.Mkdir(name, 0o750) }
func (d dir) Rename(from, to string) error          { return d.root.Rename(from, to) }
func (d dir) Link(from, to string) error            { return d.root.Link(from, to) }
func (d dir) Remove(name string) error              { return d.root.Remove(name) }

func (d dir) Chmod(name string, mode fs.FileMode) error { return d.root.Chmod(name, mode) }

func (d dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

func (d dir) Sub(name string) (FS, error) {
	r, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return dir{r}, nil
}

func (d dir) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

func (d dir) TryLock(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := d.root.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d dir) Close() error { return d.root.Close() }
