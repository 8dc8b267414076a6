package vfs

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
)

// ErrBlown is what every call fails with after a Fuse has blown.
var ErrBlown = errors.New("vfs: the fuse has blown")

// Fuse stops the world after a number of steps, as a killed process stops: that
// step and everything after it fail, in this tree and in those under it. A step
// is whatever changes the tree: a file made, written, truncated, synced; a name
// made, moved or removed; a directory synced. The write at which it blows is
// torn.
//
// What was done before stays, synced or not.
type Fuse struct {
	FS

	// Torn says how much is done of a write of n bytes at which it blows. Default:
	// half of it.
	Torn func(n int) int

	left *atomic.Int64 // shared with the trees under it
}

var (
	_ FS    = (*Fuse)(nil)
	_ Maker = (*Fuse)(nil)
)

// NewFuse allows under so many steps.
func NewFuse(under FS, steps int64) *Fuse {
	f := &Fuse{FS: under, left: new(atomic.Int64)}
	f.left.Store(steps)
	return f
}

func (f *Fuse) torn(n int) int {
	if f.Torn == nil {
		return n / 2
	}
	return f.Torn(n)
}

// Blown reports whether a step was refused.
func (f *Fuse) Blown() bool { return f.left.Load() < 0 }

// step counts one, and fails if there's none left.
func (f *Fuse) step(op, name string) error {
	if f.left.Add(-1) < 0 {
		return &fs.PathError{Op: op, Path: name, Err: ErrBlown}
	}
	return nil
}

// alive fails if the fuse has blown: the dead don't read either.
func (f *Fuse) alive(op, name string) error {
	if f.Blown() {
		return &fs.PathError{Op: op, Path: name, Err: ErrBlown}
	}
	return nil
}

// Open implements FS.
func (f *Fuse) Open(name string) (File, error) {
	if err := f.alive("open", name); err != nil {
		return nil, err
	}
	return f.file(f.FS.Open(name))
}

// OpenFile implements FS. It's a step if it may make the file or empty it.
func (f *Fuse) OpenFile(name string, flag int) (File, error) {
	check := f.alive
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		check = f.step
	}
	if err := check("open", name); err != nil {
		return nil, err
	}
	return f.file(f.FS.OpenFile(name, flag))
}

// TryLock implements FS. It's a step if it may make the file.
func (f *Fuse) TryLock(name string, create bool) (File, error) {
	check := f.alive
	if create {
		check = f.step
	}
	if err := check("lock", name); err != nil {
		return nil, err
	}
	return f.file(f.FS.TryLock(name, create))
}

func (f *Fuse) file(under File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &fusedFile{under, f}, nil
}

// Stat implements FS.
func (f *Fuse) Stat(name string) (fs.FileInfo, error) {
	if err := f.alive("stat", name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// ReadDir implements FS.
func (f *Fuse) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.alive("readdir", name); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

// Sub implements FS. The tree blows with this one.
func (f *Fuse) Sub(name string) (FS, error) {
	if err := f.alive("open", name); err != nil {
		return nil, err
	}
	sub, err := f.FS.Sub(name)
	if err != nil {
		return nil, err
	}
	return &Fuse{FS: sub, Torn: f.Torn, left: f.left}, nil
}

// Make implements Maker. It's a step.
func (f *Fuse) Make(name string, data []byte) error {
	if err := f.step("make", name); err != nil {
		return err
	}
	return Make(f.FS, name, data)
}

// Mkdir implements FS.
func (f *Fuse) Mkdir(name string) error {
	if err := f.step("mkdir", name); err != nil {
		return err
	}
	return f.FS.Mkdir(name)
}

// Rename implements FS.
func (f *Fuse) Rename(from, to string) error {
	if err := f.step("rename", from); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Link implements FS.
func (f *Fuse) Link(from, to string) error {
	if err := f.step("link", to); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}

// Remove implements FS.
func (f *Fuse) Remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// SyncDir implements FS.
func (f *Fuse) SyncDir(name string) error {
	if err := f.step("sync", name); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

// fusedFile is a file of a Fuse.
type fusedFile struct {
	File

	fuse *Fuse
}

func (f *fusedFile) Read(p []byte) (int, error) {
	if err := f.fuse.alive("read", "file"); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *fusedFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.fuse.alive("read", "file"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, at)
}

func (f *fusedFile) Write(p []byte) (int, error) {
	alive := !f.fuse.Blown()
	if err := f.fuse.step("write", "file"); err != nil {
		n := 0
		if alive {
			n, _ = f.File.Write(p[:f.fuse.torn(len(p))]) // the step that it blows at
		}
		return n, err
	}
	return f.File.Write(p)
}

func (f *fusedFile) Chmod(mode fs.FileMode) error {
	if err := f.fuse.step("chmod", "file"); err != nil {
		return err
	}
	return f.File.Chmod(mode)
}

func (f *fusedFile) Truncate(size int64) error {
	if err := f.fuse.step("truncate", "file"); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *fusedFile) Sync() error {
	if err := f.fuse.step("sync", "file"); err != nil {
		return err
	}
	return f.File.Sync()
}
