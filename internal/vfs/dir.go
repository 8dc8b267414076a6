package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dir is an FS over os.Root. That opens and closes every directory on the way to
// a name of several components; where the kernel does it all at once, it's asked.
type dir struct {
	root  *os.Root
	paths paths // nil if there's nothing better than root
}

// paths looks up names of several components.
type paths interface {
	openFile(name string, flag int) (*os.File, error)
	stat(name string) (fs.FileInfo, error)
	mkdir(name string) error
	remove(name string) error
	rename(from, to string) error
	link(from, to string) error
	io.Closer
}

var _ FS = dir{}

// Dir returns the tree under the directory path, which exists. The caller closes it.
func Dir(path string) (FS, error) {
	r, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	p, err := openBeneath(path)
	if err != nil {
		return dir{root: r}, nil //nolint:nilerr // the slower way is as good
	}
	return dir{r, p}, nil
}

// Path returns the path of a name in fsys on the real file system, if it has one.
func Path(fsys FS, name string) (string, bool) {
	d, ok := fsys.(dir)
	if !ok {
		return "", false
	}
	return filepath.Join(d.root.Name(), filepath.FromSlash(name)), true
}

// deep reports whether a name is one for d.paths.
func (d dir) deep(name string) bool { return d.paths != nil && strings.IndexByte(name, '/') >= 0 }

func (d dir) Open(name string) (File, error) { return file(d.open(name, os.O_RDONLY)) }

func (d dir) OpenFile(name string, flag int) (File, error) { return file(d.open(name, flag)) }

func (d dir) open(name string, flag int) (*os.File, error) {
	if d.deep(name) {
		return d.paths.openFile(name, flag)
	}
	return d.root.OpenFile(name, flag, 0o640)
}

// file keeps a nil *os.File from becoming a File that isn't nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d dir) Stat(name string) (fs.FileInfo, error) {
	if d.deep(name) {
		return d.paths.stat(name)
	}
	return d.root.Stat(name)
}

func (d dir) Mkdir(name string) error {
	if d.deep(name) {
		return d.paths.mkdir(name)
	}
	return d.root.Mkdir(name, 0o750)
}

func (d dir) Rename(from, to string) error {
	if d.deep(from) || d.deep(to) {
		return d.paths.rename(from, to)
	}
	return d.root.Rename(from, to)
}

func (d dir) Link(from, to string) error {
	if d.deep(from) || d.deep(to) {
		return d.paths.link(from, to)
	}
	return d.root.Link(from, to)
}

func (d dir) Remove(name string) error {
	if d.deep(name) {
		return d.paths.remove(name)
	}
	return d.root.Remove(name)
}

func (d dir) Chmod(name string, mode fs.FileMode) error {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(mode), f.Close())
}

func (d dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.open(name, os.O_RDONLY)
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
	return dir{root: r}, nil
}

func (d dir) SyncDir(name string) error {
	f, err := d.open(name, os.O_RDONLY)
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
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d dir) Close() error {
	err := d.root.Close()
	if d.paths != nil {
		err = errors.Join(err, d.paths.Close())
	}
	return err
}
