package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"sync"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// maxChange is how much of a file, in bytes, may have changed since it was synced
// for the journal to have it. More is synced where it is.
const maxChange = 64 << 10

// OpenFile implements vfs.FS. The file is used by one goroutine at a time, and
// changed through no other handle while it's being synced.
func (f *FS) OpenFile(name string, flag int) (vfs.File, error) {
	if flag&os.O_WRONLY != 0 {
		flag = flag&^os.O_WRONLY | os.O_RDWR // what has changed is read when it's synced
	}
	under, err := f.tree.open(f.name(name), flag, func(flag int) (vfs.File, error) { return f.FS.OpenFile(name, flag) })
	if err != nil {
		return nil, err
	}
	n := &file{File: under, tree: f.tree, name: f.name(name), appends: flag&os.O_APPEND != 0, low: -1}
	if flag&(os.O_TRUNC|os.O_EXCL) != 0 {
		n.changed(0)
	}
	return n, nil
}

// open opens a file. One that it makes is pending, until the journal has it.
func (t *tree) open(name string, flag int, do func(flag int) (vfs.File, error)) (f vfs.File, err error) {
	if flag&os.O_CREATE == 0 {
		return do(flag)
	}
	t.gate.RLock()
	defer t.gate.RUnlock()
	unlock := t.lockNames(name, "")
	defer unlock()
	if flag&os.O_EXCL == 0 {
		if f, err = do(flag &^ os.O_CREATE); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	if f, err = do(flag); err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.on {
			t.forget(name)
			t.pend(name)
			t.touchNames(name)
		}
	}
	return f, err
}

// file is a file that is open for writing.
type file struct {
	vfs.File

	tree    *tree
	name    string // that it was opened by
	appends bool
	pos     int64
	low     int64       // from where on it has changed since it was synced; negative if it hasn't
	mode    fs.FileMode // if it was set
	entry   *entry      // as which the journal knows it
}

// Unwrap returns the file below.
func (f *file) Unwrap() vfs.File { return f.File }

func (f *file) Seek(offset int64, whence int) (int64, error) {
	pos, err := f.File.Seek(offset, whence)
	if err == nil {
		f.pos = pos
	}
	return pos, err
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.pos += int64(n)
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	at := f.pos
	if f.appends {
		fi, err := f.Stat()
		if err != nil {
			return 0, err
		}
		at = fi.Size()
	}
	f.changed(at)
	n, err := f.File.Write(p)
	f.pos = at + int64(n)
	return n, err
}

func (f *file) Truncate(size int64) error {
	f.changed(size)
	return f.File.Truncate(size)
}

func (f *file) Chmod(mode fs.FileMode) error {
	if err := f.File.Chmod(mode); err != nil {
		return err
	}
	if f.low < 0 { // nothing of the content, but there's something to sync
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		f.changed(fi.Size())
	}
	f.mode = mode
	return nil
}

// changed notes that the file isn't as it was synced, from off on.
func (f *file) changed(off int64) {
	if f.low < 0 || off < f.low {
		f.low = off
	}
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	f.tree.changed(f.name, off)
}

// maxRemembered is of how many files is remembered what of them was synced and what
// wasn't, besides those that the journal has. Those that are never synced, as lists of
// what was pulled lately, stay among them. Of a file that was forgotten all is synced.
const maxRemembered = 4096

func (t *tree) changed(name string, off int64) {
	if len(t.dirty) >= max(maxRemembered, t.kept) {
		maps.DeleteFunc(t.dirty, func(name string, _ int64) bool { return t.files[name] == nil })
		t.kept = 2 * len(t.dirty)
		clear(t.based)
	}
	if low, ok := t.dirty[name]; !ok || off < low {
		t.dirty[name] = off
	}
}

// noteSynced notes that a file has nothing any more that isn't durable, or going to be.
func (t *tree) noteSynced(name string) {
	delete(t.dirty, name)
	if len(t.based) >= maxRemembered {
		clear(t.based)
	}
	t.based[name] = true
}

// Sync implements vfs.File.
func (f *file) Sync() error {
	seq, err := f.record()
	if err != nil {
		return err
	}
	return f.tree.wait(seq)
}

// SyncLater is Sync that doesn't wait: when anything recorded later is durable,
// as after a Barrier, the file is as well.
func (f *file) SyncLater() error {
	_, err := f.record()
	return err
}

// record puts what has changed into the journal, or syncs the file itself. It
// returns what has to be durable for the file to be.
func (f *file) record() (seq uint64, err error) {
	seq, how, err := f.recordTail()
	if how != inJournal && err == nil {
		seq, err = f.syncItself(how == byItself)
	}
	if err == nil {
		f.low, f.mode = -1, 0
	}
	return seq, err
}

// way is how a file is to be made durable.
type way int

const (
	inJournal way = iota
	byItself
	elsewhere // by itself, as a file that isn't what it's called any more
)

// recordTail puts what has changed into the journal, if it can.
func (f *file) recordTail() (seq uint64, how way, err error) {
	f.tree.gate.RLock()
	defer f.tree.gate.RUnlock()
	unlock := f.tree.lockNames(f.name, "")
	defer unlock()
	low, how := f.tree.changedFrom(f)
	if how != inJournal {
		return 0, how, nil
	}
	buf, _ := tails.Get().(*[maxChange]byte)
	defer tails.Put(buf)
	data, fits, err := f.tail(low, buf[:])
	if err != nil || !fits {
		return 0, byItself, err
	}
	return f.tree.wrote(f, low, data), inJournal, nil
}

// changedFrom says from where on the journal lacks what's in f. What comes before
// has to be durable, or in it.
func (t *tree) changedFrom(f *file) (low int64, how way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	low, known := t.dirty[f.name]
	switch {
	case !known || f.low < 0 || f.entry != nil && f.entry.name != f.name:
		return 0, elsewhere
	case !t.on:
		return 0, byItself
	}
	low = min(low, f.low)
	if low > 0 && (t.isPending(f.name) || t.files[f.name] == nil && !t.based[f.name]) {
		return 0, byItself
	}
	return low, inJournal
}

var tails = sync.Pool{New: func() any { return new([maxChange]byte) }}

// tail reads the file from off on into buf; false if that's too much.
func (f *file) tail(off int64, buf []byte) ([]byte, bool, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	n := fi.Size() - off
	if n > int64(len(buf)) || n < 0 {
		return nil, false, nil
	}
	data := buf[:n]
	m, err := f.ReadAt(data, off)
	if errors.Is(err, io.EOF) && int64(m) == n {
		err = nil
	}
	return data, err == nil, err
}

// wrote records what a file holds from off on.
func (t *tree) wrote(f *file, off int64, data []byte) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.files[f.name]
	if off == 0 || e == nil || e.isClosing() {
		e = t.newEntry(f.name, off == 0)
	}
	t.touch(e)
	f.entry = e
	t.noteSynced(f.name)
	t.add(op{kind: opWrite, name: f.name, mode: f.mode, off: off, data: data})
	t.touchNames(f.name)
	return t.seq
}

// syncItself syncs the file where it is, which may take long. If the journal has
// older bytes of it, its name is made durable too, and then those count no more.
func (f *file) syncItself(named bool) (seq uint64, err error) {
	if !named {
		if err = f.File.Sync(); err != nil {
			f.tree.suspectAll() // it's called otherwise by now, if anything
		}
		return 0, err
	}
	if err = f.tree.syncWith(f.name, f.File.Sync); errors.Is(err, errSuspect) {
		err = f.tree.syncNamed(f.name)
	}
	if err != nil {
		return 0, err
	}
	f.tree.gate.RLock()
	defer f.tree.gate.RUnlock()
	return f.tree.syncedItself(f)
}

func (t *tree) syncedItself(f *file) (seq uint64, err error) {
	t.mu.Lock()
	t.noteSynced(f.name)
	known := t.on && t.files[f.name] != nil
	if known {
		t.pend(f.name)
	}
	t.mu.Unlock()
	if !known {
		return 0, nil
	}
	return t.reallySyncDir(path.Dir(f.name))
}
