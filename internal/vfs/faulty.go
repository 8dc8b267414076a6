package vfs

import (
	"errors"
	"io/fs"
	"path"
)

// Step is something that a Faulty is asked to do.
type Step struct {
	// Op is the method of FS or File, in lower case.
	Op string

	// Name is what it's done to, from the root of the tree that NewFaulty was
	// given; of a file, under which it was opened. Rename and Link do it to From too.
	Name, From string
}

// Changes reports whether the step changes the tree, or makes it durable. To
// open a file for writing doesn't count, even if that makes the file.
func (s Step) Changes() bool {
	switch s.Op {
	case "mkdir", "make", "rename", "link", "remove", "chmod", "syncdir", "write", "truncate", "sync":
		return true
	}
	return false
}

// Faulty is an FS whose steps are announced, and fail if the one who is told
// wants them to. Unlike behind a Fuse, life goes on.
type Faulty struct {
	FS

	prefix string
	fail   func(Step) error
}

var (
	_ FS    = (*Faulty)(nil)
	_ Maker = (*Faulty)(nil)
)

// Short is an error of a write of which a part is done.
type Short struct {
	Err  error
	Done func(n int) int // of n bytes
}

func (s Short) Error() string { return s.Err.Error() }

// Unwrap returns Err.
func (s Short) Unwrap() error { return s.Err }

// NewFaulty calls fail before each step in under, and instead of it if fail
// returns an error; the step's error then wraps that one. Of a write that fails
// half is done, unless the error is a Short. fail is called by many goroutines at
// once. Closing files, and the tree, never fails by it.
func NewFaulty(under FS, fail func(Step) error) *Faulty {
	return &Faulty{FS: under, prefix: ".", fail: fail}
}

func (f *Faulty) step(op, name, from string) error {
	s := Step{Op: op, Name: path.Join(f.prefix, name)}
	if from != "" {
		s.From = path.Join(f.prefix, from)
	}
	if err := f.fail(s); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) {
	if err := f.step("open", name, ""); err != nil {
		return nil, err
	}
	return f.file(name)(f.FS.Open(name))
}

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string, flag int) (File, error) {
	if err := f.step("openfile", name, ""); err != nil {
		return nil, err
	}
	return f.file(name)(f.FS.OpenFile(name, flag))
}

// TryLock implements FS.
func (f *Faulty) TryLock(name string, create bool) (File, error) {
	if err := f.step("trylock", name, ""); err != nil {
		return nil, err
	}
	return f.file(name)(f.FS.TryLock(name, create))
}

func (f *Faulty) file(name string) func(File, error) (File, error) {
	return func(under File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{under, f, name}, nil
	}
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (fs.FileInfo, error) {
	if err := f.step("stat", name, ""); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.step("readdir", name, ""); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

// Sub implements FS. What is done in the tree is announced too.
func (f *Faulty) Sub(name string) (FS, error) {
	if err := f.step("sub", name, ""); err != nil {
		return nil, err
	}
	sub, err := f.FS.Sub(name)
	if err != nil {
		return nil, err
	}
	return &Faulty{FS: sub, prefix: path.Join(f.prefix, name), fail: f.fail}, nil
}

// Make implements Maker. It's a step that can fail, with nothing done.
func (f *Faulty) Make(name string, data []byte) error {
	if err := f.step("make", name, ""); err != nil {
		return err
	}
	return Make(f.FS, name, data)
}

// Mkdir implements FS.
func (f *Faulty) Mkdir(name string) error {
	if err := f.step("mkdir", name, ""); err != nil {
		return err
	}
	return f.FS.Mkdir(name)
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	if err := f.step("rename", to, from); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Link implements FS.
func (f *Faulty) Link(from, to string) error {
	if err := f.step("link", to, from); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.step("remove", name, ""); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	if err := f.step("syncdir", name, ""); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

// faultyFile is a file of a Faulty.
type faultyFile struct {
	File

	tree *Faulty
	name string
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.tree.step("read", f.name, ""); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *faultyFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.tree.step("readat", f.name, ""); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, at)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.tree.step("write", f.name, ""); err != nil {
		done := len(p) / 2 // a short write, as a full disk makes it
		if short, ok := errors.AsType[Short](err); ok {
			done = short.Done(len(p))
		}
		n, _ := f.File.Write(p[:done])
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultyFile) Chmod(mode fs.FileMode) error {
	if err := f.tree.step("chmod", f.name, ""); err != nil {
		return err
	}
	return f.File.Chmod(mode)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.tree.step("truncate", f.name, ""); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if err := f.tree.step("sync", f.name, ""); err != nil {
		return err
	}
	return f.File.Sync()
}
