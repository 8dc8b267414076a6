// Package durable writes files and directories so that they survive a power
// cut, in the order that makes it true: bytes before names, and names before
// whoever relies on them is told.
package durable

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// Writer makes files and directories in FS durable. With Unsynced it only makes
// them: for caches, which may lose everything.
type Writer struct {
	FS       vfs.FS
	Unsynced func() bool // asked before each sync; nil means never

	mu    sync.Mutex
	known map[string]bool // directories whose names are durable
}

// Sync makes the bytes of f durable.
func (w *Writer) Sync(f vfs.File) error {
	if w.unsynced() {
		return nil
	}
	return f.Sync()
}

// SyncDir makes the names in a directory durable.
func (w *Writer) SyncDir(dir string) error {
	if w.unsynced() {
		return nil
	}
	return w.FS.SyncDir(dir)
}

// Journal is what an FS can do that has one: to take note at once, and make it
// durable later, with whatever else has been noted.
type Journal interface {
	// Later reports whether what follows saves anything at the moment.
	Later() bool

	// Barrier waits until what was done later is durable.
	Barrier() error

	// SyncDirLater is SyncDir, durable from the next Barrier, Sync or SyncDir on.
	SyncDirLater(name string) error

	// Others has the next SyncDir of a name's directory include the name, which
	// somebody else may have given.
	Others(name string)

	// Doubt allows files in a directory to get their names before their bytes are
	// durable: a power cut may leave them torn, and they're looked for then.
	Doubt(name string) error
}

// journal returns the one to be used; nil if there's none.
func (w *Writer) journal() Journal {
	if j, ok := w.FS.(Journal); ok && !w.unsynced() {
		return j
	}
	return nil
}

// Later reports whether what is called …Later waits for nothing. If not it's the
// same as what it's called after.
func (w *Writer) Later() bool {
	j := w.journal()
	return j != nil && j.Later()
}

// SyncLater is Sync, durable from the next Barrier, Sync or SyncDir on.
func (w *Writer) SyncLater(f vfs.File) error {
	if l, ok := f.(interface{ SyncLater() error }); ok && !w.unsynced() {
		return l.SyncLater()
	}
	return w.Sync(f)
}

// Append writes p where f was left off and makes it durable, and before that all that was
// done later: nothing of p is in the file before that is. If it fails, a part of p may be
// there, which the caller cuts off.
func (w *Writer) Append(f vfs.File, p []byte) error {
	if a, ok := f.(interface{ Append(p []byte) error }); ok && !w.unsynced() {
		return a.Append(p)
	}
	if err := w.Barrier(); err != nil {
		return err
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	return w.Sync(f)
}

// SyncDirLater is SyncDir, durable from the next Barrier, Sync or SyncDir on.
func (w *Writer) SyncDirLater(dir string) error {
	if j := w.journal(); j != nil {
		return j.SyncDirLater(dir)
	}
	return w.SyncDir(dir)
}

// Barrier makes durable what was done later.
func (w *Writer) Barrier() error {
	if j := w.journal(); j != nil {
		return j.Barrier()
	}
	return nil
}

// Others is to be called before a SyncDir that has to make a name durable which
// somebody else may have given.
func (w *Writer) Others(name string) {
	if j := w.journal(); j != nil {
		j.Others(name)
	}
}

// Doubt is to be called before a file that StageLater has made gets a name in
// dir, unless it's durable by then.
func (w *Writer) Doubt(dir string) error {
	if j := w.journal(); j != nil {
		return j.Doubt(dir)
	}
	return nil
}

func (w *Writer) unsynced() bool { return w.Unsynced != nil && w.Unsynced() }

// MakeDir makes a directory and those above it where they are missing. They
// are durable once Settle has been called.
func (w *Writer) MakeDir(dir string) error {
	err := w.FS.Mkdir(dir)
	switch {
	case err == nil:
		w.forget(dir)
		return nil
	case errors.Is(err, fs.ErrExist):
		return nil
	case !errors.Is(err, fs.ErrNotExist) || path.Dir(dir) == ".":
		return err
	}
	if err := w.MakeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err = w.FS.Mkdir(dir); err == nil {
		w.forget(dir)
	} else if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Within calls fn, which gives something that exists the name given. If the
// directory of the name is missing, that's made, as by MakeDir, and fn called again:
// mostly it's there.
func (w *Writer) Within(name string, fn func() error) error {
	err := fn()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.MakeDir(path.Dir(name)); err != nil {
		return err
	}
	return fn()
}

// forget: a directory that is new isn't durable, whatever was there before it.
// Those below it are new too and come here by themselves.
func (w *Writer) forget(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, dir)
}

// Settle makes the name of a directory, and of those above it, durable. It costs
// nothing for one that it has settled before.
func (w *Writer) Settle(dir string) error {
	if dir == "." || w.Settled(dir) {
		return nil
	}
	if err := w.Settle(path.Dir(dir)); err != nil {
		return err
	}
	if err := w.SyncDir(path.Dir(dir)); err != nil || w.unsynced() {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = make(map[string]bool)
	}
	w.known[dir] = true
	return nil
}

// Settled reports whether Settle has made the directory durable since it was made.
func (w *Writer) Settled(dir string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[dir]
}

// MakeLater makes a file of a name that nothing has, in one step, durable with its name
// from the next Barrier, Sync or SyncDir on. Its directory is in doubt (see Doubt), unless
// nothing is synced. Where that can't be it fails with errors.ErrUnsupported, and with
// fs.ErrExist if the name is there: to stage a file and rename it always works.
func (w *Writer) MakeLater(name string, data []byte) error {
	if w.unsynced() {
		return vfs.Make(w.FS, name, data)
	}
	if m, ok := w.FS.(interface {
		MakeLater(name string, data []byte) error
	}); ok {
		return m.MakeLater(name, data)
	}
	return errors.ErrUnsupported
}

// Stage writes data to a new file in dir, which is made if it's missing, syncs
// it, and returns its name. On failure there's no such file.
func (w *Writer) Stage(dir string, data []byte) (string, error) {
	return w.StageFrom(dir, bytes.NewReader(data), 0)
}

// StageFrom is Stage for what r holds, and gives the file permission bits unless
// mode is zero.
func (w *Writer) StageFrom(dir string, r io.Reader, mode fs.FileMode) (string, error) {
	return w.stage(dir, r, mode, w.Sync)
}

// StageLater is StageFrom of a file that is durable from the next Barrier, Sync or
// SyncDir on.
func (w *Writer) StageLater(dir string, r io.Reader, mode fs.FileMode) (string, error) {
	return w.stage(dir, r, mode, w.SyncLater)
}

func (w *Writer) stage(dir string, r io.Reader, mode fs.FileMode, sync func(vfs.File) error) (string, error) {
	name := path.Join(dir, "tmp-"+rand.Text())
	var f vfs.File
	err := w.Within(name, func() (err error) {
		f, err = w.FS.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if err == nil && mode != 0 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, w.FS.Remove(name))
	}
	return name, nil
}

// Replace makes name hold data. A reader sees the old content or the new. When
// it returns nil, and the directory of name is settled, the new content
// survives a power cut; staged in dir, which is on the same file system.
func (w *Writer) Replace(name, dir string, data []byte) error {
	tmp, err := w.StageLater(dir, bytes.NewReader(data), 0) // the rename waits for it
	if err != nil {
		return err
	}
	if err := w.FS.Rename(tmp, name); err != nil {
		return errors.Join(err, w.FS.Remove(tmp))
	}
	return w.SyncDir(path.Dir(name))
}
