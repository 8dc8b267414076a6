package journal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// Begin is Recover, and begins a journal. If that can't be, files are synced by
// themselves, and it's tried again later. Nothing has been written through this FS before
// that isn't synced.
func (f *FS) Begin(verify func(dir string) error) error {
	if err := f.Recover(verify); err != nil {
		return err
	}
	t := f.tree
	t.wave.Lock()
	defer t.wave.Unlock()
	if t.root == nil {
		t.root = t.openRoot() // the first epoch's
	}
	t.mu.Lock()
	t.ending = false
	t.mu.Unlock()
	t.start()
	return nil
}

// Recover does again what a journal says that was left by a power cut, and
// removes it. Nothing else may be going on in the tree, and there's no journal of
// this FS. verify is called with each directory in which files may be torn that
// had their names too soon (see Doubt); what of them isn't whole has to be gone
// when it returns.
func (f *FS) Recover(verify func(dir string) error) error {
	t := f.tree
	t.wave.Lock()
	defer t.wave.Unlock()
	left, err := t.read()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	if err := left.redo(t.under); err != nil {
		return fmt.Errorf("do again what the journal says: %w", err)
	}
	for _, dir := range slices.Sorted(maps.Keys(left.doubted)) {
		if err := verify(dir); err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.last = left.epoch
	t.mu.Unlock()
	return t.removeLogs()
}

// Left reports whether there's a journal in the tree that Recover would do again: of
// another boot, or where that can't be told, and not empty. It changes nothing.
// Nobody writes a journal meanwhile.
func (f *FS) Left() (bool, error) {
	t := f.tree
	t.wave.Lock()
	defer t.wave.Unlock()
	left, err := t.read()
	if err != nil {
		return false, fmt.Errorf("read the journal: %w", err)
	}
	return !left.sameBoot && len(left.names)+len(left.doubted) > 0, nil
}

// End syncs all files that only the journal has, and removes it. If that fails the
// journal stays in use, and each Sync tries again, until Close.
func (f *FS) End() error {
	t := f.tree
	t.wave.Lock()
	on := t.stopTimers()
	var err error
	if on {
		err = t.leave()
	}
	t.mu.Lock()
	if err != nil {
		t.broken, t.ending = true, false
		t.startTimer(retryTime)
	}
	t.mu.Unlock()
	t.wave.Unlock()
	if err == nil {
		t.work.Wait()
	}
	return err
}

// Abandon is End for who may not write to the tree any more: the journal stays
// there, and may be another one's.
func (f *FS) Abandon() error {
	t := f.tree
	t.wave.Lock()
	on := t.stopTimers()
	var err error
	if on {
		t.gate.Lock()
		err = t.syncAll()
		t.gate.Unlock()
	}
	t.wave.Unlock()
	t.giveUp()
	return err
}

// stopTimers keeps new epochs from beginning by themselves, and reports whether
// there's a journal. wave is held.
func (t *tree) stopTimers() (on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	t.stopTimer()
	return t.on
}

// giveUp forgets the journal, and leaves its files where they are.
func (t *tree) giveUp() {
	t.wave.Lock()
	t.stopTimers()
	t.gate.Lock()
	t.mu.Lock()
	t.reset()
	t.durable, t.broken = t.seq, false
	t.mu.Unlock()
	t.gate.Unlock()
	for n, l := range t.logs {
		if l != nil {
			_ = l.file.Close() // what of it counts is durable
			t.logs[n] = nil
		}
	}
	if t.root != nil {
		_ = t.root.Close() // nothing is written to it
		t.root = nil
	}
	t.wave.Unlock()
	t.work.Wait()
}

// start begins a journal where there's none. wave is held.
func (t *tree) start() {
	n := t.lastEpoch() + 1
	err := t.makeLogs()
	if err == nil {
		err = t.begin(n)
	}
	if err != nil {
		t.opts.Log.Warn("there's no journal, so each file is synced by itself", "error", err)
		err = t.removeLogs()
	}
	began := t.logs[0] != nil && err == nil
	var now *epoch
	if began {
		now = t.newEpoch(n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !began {
		t.startTimer(retryTime)
		return
	}
	t.on, t.now, t.last = true, now, n
}

// makeLogs makes both logs, empty.
func (t *tree) makeLogs() error {
	if err := t.under.Mkdir(logDir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for n := range t.logs {
		l, err := openLog(t.under, uint64(n), max(min(t.opts.Limit/8, 1<<20), headSize))
		if err != nil {
			return err
		}
		t.logs[n] = l
	}
	return errors.Join(t.under.SyncDir("."), t.under.SyncDir(logDir))
}

// read reads what logs there are.
func (t *tree) read() (*leftover, error) {
	left := &leftover{names: make(map[string]*final), doubted: make(map[string]bool), sameBoot: true}
	var logs []logData
	for n := range t.logs {
		l, err := t.readFile(logName(uint64(n)))
		if err != nil {
			return nil, err
		}
		if l.found {
			logs = append(logs, l)
		}
	}
	slices.SortFunc(logs, func(a, b logData) int { return cmp.Compare(a.epoch, b.epoch) })
	if len(logs) == 2 && logs[1].isDone(logs[0].epoch) {
		logs = logs[1:]
	}
	for _, l := range logs {
		left.epoch = l.epoch
		left.sameBoot = left.sameBoot && l.sameBoot
		if _, _, err := readLog(l.data, left.apply); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// logData is what a log's file holds.
type logData struct {
	head

	data     []byte
	found    bool
	sameBoot bool
}

// isDone reports whether a log says that an epoch before it is over.
func (l logData) isDone(epoch uint64) bool {
	done := false
	_, _, _ = readLog(l.data, func(o op) {
		done = done || o.kind == opDone && o.name == strconv.FormatUint(epoch, 10)
	})
	return done
}

// readFile reads a log. One that is the copy of another one isn't found: it was
// copied at another moment than the rest.
func (t *tree) readFile(name string) (l logData, err error) {
	f, err := t.under.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	fi, err := f.Stat()
	if err == nil {
		l.data, err = io.ReadAll(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return l, err
	}
	if isLater(l.data) {
		return l, fmt.Errorf("%s was written by a later version", name)
	}
	l.head, l.found = decodeHead(l.data)
	device, inode, told := t.opts.Identity(fi)
	if l.found && told && inode != l.inode {
		t.opts.Log.Warn("the journal is a copy and counts for nothing", "name", name)
		l.found = false
	}
	l.sameBoot = l.boot != "" && l.boot == t.opts.Boot && told && device == l.device
	return l, nil
}

// leftover is what the logs say, in the end.
type leftover struct {
	epoch    uint64
	sameBoot bool // nothing was lost, so nothing is done again, but all has to be synced
	names    map[string]*final
	doubted  map[string]bool
}

// final is what a name has to be.
type final struct {
	kind  kind // of the operation that made it so
	mode  fs.FileMode
	data  []byte // all of the file, of an opWrite
	owned bool   // data isn't a part of a log
	parts []op   // what has changed of it, of an opStands
}

// apply does an operation to what names have to be.
func (l *leftover) apply(o op) {
	was := l.names[o.name]
	switch o.kind {
	case opWrite:
		l.names[o.name] = was.write(o)
	case opRename, opLink:
		is := &final{kind: opStands}
		if from := l.names[o.from]; from != nil && from.kind == opWrite {
			is = from
			if o.kind == opLink {
				is = &final{kind: opWrite, mode: from.mode, data: bytes.Clone(from.data), owned: true}
			}
		}
		if o.kind == opRename {
			l.names[o.from] = &final{kind: opGone}
		}
		l.names[o.name] = is
	case opDoubt:
		l.doubted[o.name] = true
	case opGone, opDir, opStands:
		l.names[o.name] = &final{kind: o.kind}
	case opDone:
	}
}

// write returns what a file is after a write.
func (n *final) write(o op) *final {
	switch {
	case o.off == 0:
		is := &final{kind: opWrite, mode: o.mode, data: slices.Clip(o.data)}
		if o.mode == 0 && n != nil {
			is.mode = n.mode
		}
		return is
	case n == nil || n.kind != opWrite:
		if n == nil || n.kind != opStands {
			n = &final{kind: opStands}
		}
		n.parts = append(n.parts, o)
		return n
	}
	if !n.owned {
		n.data, n.owned = bytes.Clone(n.data), true
	}
	if missing := o.off - int64(len(n.data)); missing > 0 {
		n.data = append(n.data, make([]byte, missing)...)
	}
	n.data = append(n.data[:o.off], o.data...)
	if o.mode != 0 {
		n.mode = o.mode
	}
	return n
}

// redo makes the tree be what it has to be, durably.
func (l *leftover) redo(fsys vfs.FS) error {
	dirs := make(map[string]bool)
	sorted := slices.Sorted(maps.Keys(l.names))
	for _, name := range sorted {
		dirs[path.Dir(name)] = true
		if n := l.names[name]; n.kind != opGone {
			err := l.restore(fsys, name, n)
			if l.sameBoot && errors.Is(err, fs.ErrPermission) {
				continue // somebody has taken it from us, and nothing of it was lost
			}
			if err != nil && isFile(fsys, name) {
				return err
			}
		}
	}
	if err := l.remove(fsys, sorted); err != nil {
		return err
	}
	for dir := range dirs {
		if err := fsys.SyncDir(dir); err != nil && isDir(fsys, dir) {
			return err
		}
	}
	return nil
}

// remove removes what isn't to be there: what's in a directory before it.
func (l *leftover) remove(fsys vfs.FS, sorted []string) error {
	if l.sameBoot {
		return nil
	}
	for _, name := range slices.Backward(sorted) {
		if l.names[name].kind != opGone {
			continue
		}
		if err := fsys.Remove(name); err != nil && isTrouble(err) && !isFull(fsys, name) {
			return err
		}
	}
	return nil
}

// restore makes one name what it has to be. In the boot that the journal is of it
// is that already, unless somebody has changed it since: it's only synced.
func (l *leftover) restore(fsys vfs.FS, name string, n *final) error {
	if n.kind == opDir {
		if l.sameBoot {
			return nil
		}
		return makeDir(fsys, name)
	}
	fi, err := fsys.Stat(name)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !gone:
		return err
	case n.kind == opWrite:
		return l.restoreWhole(fsys, name, n, fi)
	case gone:
		return nil // somebody has removed it, or its name was never durable
	case l.sameBoot || len(n.parts) == 0:
		return syncFile(fsys, name)
	}
	return patch(fsys, name, n.parts)
}

// restoreWhole restores a file of which the journal has everything. fi is nil if
// it isn't there.
func (l *leftover) restoreWhole(fsys vfs.FS, name string, n *final, fi fs.FileInfo) error {
	if fi != nil && fi.Size() == int64(len(n.data)) {
		is, err := readAll(fsys, name)
		if err == nil && bytes.Equal(is, n.data) && (l.sameBoot || n.mode == 0 || n.mode == fi.Mode().Perm()) {
			return rewrite(fsys, name) // a sync that failed may have left it lost
		}
	}
	switch {
	case !l.sameBoot:
		return replace(fsys, name, n)
	case fi == nil:
		return nil // somebody has removed it
	}
	return syncFile(fsys, name)
}

// isFull reports whether there's a directory with something in it.
func isFull(fsys vfs.FS, name string) bool {
	entries, err := fsys.ReadDir(name)
	return err == nil && len(entries) > 0
}

func readAll(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

func makeDir(fsys vfs.FS, dir string) error {
	err := fsys.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && path.Dir(dir) != "." {
		if err := makeDir(fsys, path.Dir(dir)); err != nil {
			return err
		}
		err = fsys.Mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// replace makes a file whole, in one step.
func replace(fsys vfs.FS, name string, n *final) error {
	if err := makeDir(fsys, path.Dir(name)); err != nil && path.Dir(name) != "." {
		return err
	}
	mode := n.mode
	if fi, err := fsys.Stat(name); err == nil && mode == 0 {
		mode = fi.Mode().Perm()
	}
	tmp := path.Join(path.Dir(name), "tmp-"+path.Base(name))
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(n.data)
	if err == nil && mode != 0 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fsys.Rename(tmp, name)
}

// patch does changes to a file again.
func patch(fsys vfs.FS, name string, parts []op) error {
	f, err := fsys.OpenFile(name, os.O_RDWR)
	if err != nil {
		return err
	}
	for _, o := range parts {
		if _, err = f.Seek(o.off, io.SeekStart); err == nil {
			_, err = f.Write(o.data)
		}
		if err == nil {
			err = f.Truncate(o.off + int64(len(o.data)))
		}
		if err == nil && o.mode != 0 {
			err = f.Chmod(o.mode)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
