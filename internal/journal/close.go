package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// atOnce is how many files are synced at the same time.
const atOnce = 4

// close ends an epoch that is past, so that its log is free.
func (t *tree) close(e *epoch) {
	if err := t.finish(e); err != nil {
		t.opts.Log.Warn("files that the journal has aren't synced yet", "error", err)
		return // who needs its log, or the end, tries again
	}
	t.mu.Lock()
	if !t.on || t.past != e {
		t.mu.Unlock()
		return
	}
	t.add(op{kind: opDone, name: strconv.FormatUint(e.number, 10)})
	seq := t.seq
	t.mu.Unlock()
	if err := t.wait(seq); err != nil {
		return // it has been said
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.past == e {
		t.drop(e)
	}
}

// drop forgets an epoch whose log doesn't count any more. mu is held.
func (t *tree) drop(e *epoch) {
	for f := range e.files {
		if f.isClosing() && t.files[f.name] == f {
			delete(t.files, f.name)
		}
	}
	e.end()
	t.past = nil
}

// finish syncs the files of an epoch that is past, where they are by now, and the
// directories in which it has changed names. Then its log isn't needed.
func (t *tree) finish(e *epoch) error {
	e.finishing.Lock()
	defer e.finishing.Unlock()
	named := make(map[*entry]string) // durable by that name
	t.mu.Lock()
	root := e.root
	t.mu.Unlock()
	for first := true; ; first = false {
		todo, done := t.unfinished(e, named, first)
		if done {
			return nil
		}
		dirs := make(map[string]bool)
		if first {
			maps.Copy(dirs, e.dirs)
		}
		if err := t.syncOut(root, todo, dirs); err != nil {
			return err
		}
		maps.Copy(named, todo)
	}
}

// unfinished returns the files of an epoch that aren't durable by their present
// names. If there are none, and its directories were synced, it's done: the epoch
// is closing.
func (t *tree) unfinished(e *epoch, named map[*entry]string, first bool) (todo map[*entry]string, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.past == e && !e.closing && e.isMoving() {
		t.stopped.Wait()
	}
	if e.closing || t.past != e { // the journal was ended meanwhile
		return nil, true
	}
	todo = make(map[*entry]string)
	for f := range e.files {
		if f.name != "" && (e.late[f] || named[f] != f.name) {
			todo[f] = f.name
		}
		delete(e.late, f)
	}
	if len(todo) > 0 || first {
		return todo, false
	}
	e.closing = true
	for f := range e.files {
		if !f.isClosing() {
			f.whole = false // a part of it is on the disk only, from now on
		}
	}
	for dir := range e.made {
		if !t.now.made[dir] && !t.next.made[dir] {
			delete(t.made, dir) // its name is durable
		}
	}
	return nil, true
}

func (e *epoch) isMoving() bool {
	if e.writing > 0 {
		return true
	}
	for f := range e.files {
		if f.moving > 0 {
			return true
		}
	}
	return false
}

// syncOut makes files durable, and the names in directories, those of the files
// among them.
func (t *tree) syncOut(root vfs.File, files map[*entry]string, dirs map[string]bool) error {
	for _, name := range files {
		dirs[path.Dir(name)] = true
	}
	if len(files) >= fewFiles && root != nil && t.syncTogether(root, files, dirs) {
		return nil
	}
	if err := t.syncFiles(files); err != nil {
		return err
	}
	return t.syncDirs(dirs)
}

// fewFiles is how many are synced one by one: to write a whole file system takes
// along what others have written.
const fewFiles = 16

// syncTogether syncs the whole file system that root is on, which takes a fraction
// of the time. False if it couldn't, or has failed for one that isn't known.
func (t *tree) syncTogether(root vfs.File, files map[*entry]string, dirs map[string]bool) bool {
	fi, err := root.Stat()
	if err != nil {
		return false
	}
	device, _, told := t.opts.Identity(fi)
	for dir := range dirs {
		fi, err := t.under.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !told {
			return false
		}
		if d, _, _ := t.opts.Identity(fi); d != device {
			return false // something is mounted there
		}
	}
	return told && !t.anySuspect(files) && vfs.SyncAllOf(root) == nil && !t.anySuspect(files)
}

// anySuspect reports whether a sync of one of the files has failed, or may be failing.
func (t *tree) anySuspect(files map[*entry]string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range files {
		if e.suspect || e.syncing > 0 {
			return true
		}
	}
	return false
}

// syncFiles syncs files by name. One that isn't there any more has another name,
// or none.
func (t *tree) syncFiles(files map[*entry]string) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, name := range files {
		group.Go(func() error {
			err := t.syncNamed(name)
			if errors.Is(err, fs.ErrPermission) {
				t.opts.Log.Warn("a file isn't synced", "error", err) // somebody has taken it from us
				return nil
			}
			if err != nil && !isFile(t.under, name) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

// syncNamed syncs a file that the journal may have. If that fails its bytes are
// written again: the system takes them for written.
func (t *tree) syncNamed(name string) error {
	t.mu.Lock()
	e := t.files[name]
	suspect := e != nil && e.suspect
	t.mu.Unlock()
	if !suspect {
		err := t.syncWith(name, func() error { return syncFile(t.under, name) })
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := rewrite(t.under, name)
	if err == nil && e != nil {
		t.mu.Lock()
		e.suspect = false
		t.mu.Unlock()
	}
	return err
}

// errSuspect says that a sync has succeeded beside another one that failed.
var errSuspect = errors.New("journal: another sync of the file has failed")

// syncWith syncs a file that the journal may have, by a call that does it. The system
// tells of a failure once: of two that sync a file at the same time one hears of
// it, and the other one that all is well. So that one asks the first, and it's
// errSuspect.
func (t *tree) syncWith(name string, sync func() error) error {
	t.mu.Lock()
	e := t.files[name]
	if e != nil {
		e.syncing++
	}
	t.mu.Unlock()
	err := sync()
	if e == nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.syncing--
	t.stopped.Broadcast()
	if err != nil {
		e.suspect = e.suspect || !errors.Is(err, fs.ErrNotExist)
		return err
	}
	for e.syncing > 0 {
		t.stopped.Wait()
	}
	if e.suspect {
		return errSuspect
	}
	return nil
}

// suspectAll notes that a sync of a file has failed, which may be any.
func (t *tree) suspectAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		e.suspect = true
	}
}

func syncFile(fsys vfs.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// rewrite writes what a file holds into it again, and syncs it. One that can't be
// written is replaced by a copy.
func rewrite(fsys vfs.FS, name string) error {
	f, err := fsys.OpenFile(name, os.O_RDWR)
	if errors.Is(err, fs.ErrPermission) {
		data, rerr := readAll(fsys, name)
		if rerr != nil {
			return rerr
		}
		return replace(fsys, name, &final{data: data})
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (t *tree) syncDirs(dirs map[string]bool) error {
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := t.under.SyncDir(dir); err != nil && isDir(t.under, dir) {
			return err
		}
	}
	return nil
}

// isFile reports whether there's a file under a name, as far as that can be known.
// Somebody may have put something else there that a journal is not about: a link
// that leads out of the tree, a pipe, a directory; or nothing.
func isFile(fsys vfs.FS, name string) bool {
	fi, err := fsys.Stat(name)
	return err == nil && fi.Mode().IsRegular() || isTrouble(err)
}

// isDir is isFile for a directory.
func isDir(fsys vfs.FS, name string) bool {
	fi, err := fsys.Stat(name)
	return err == nil && fi.IsDir() || isTrouble(err)
}

// isTrouble reports whether an error is the disk's, and not about what is there.
func isTrouble(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.ENOENT && errno != syscall.ELOOP && errno != syscall.ENOTDIR
}

// leave ends the journal: all that it has is synced where it is. wave is held.
func (t *tree) leave() error {
	t.gate.Lock()
	defer t.gate.Unlock()
	err := t.syncAll()
	if err == nil {
		err = t.removeLogs()
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopTimer()
	t.reset()
	t.durable = t.seq
	t.broken = false
	t.startTimer(retryTime)
	return nil
}

// syncAll syncs what the journal has. gate is held.
func (t *tree) syncAll() error {
	t.mu.Lock()
	files, dirs := make(map[*entry]string), maps.Clone(t.now.dirs)
	for name, e := range t.files {
		files[e] = name
		dirs[path.Dir(name)] = true
	}
	root := t.now.root
	maps.Copy(dirs, t.next.dirs)
	if t.past != nil {
		maps.Copy(dirs, t.past.dirs)
	}
	t.mu.Unlock()
	return t.syncOut(root, files, dirs)
}

// removeLogs removes the logs, of which nothing is needed any more, the older one
// first: alone it would undo what the newer one says. wave is held.
func (t *tree) removeLogs() error {
	newer := t.lastEpoch()
	for _, n := range []uint64{newer + 1, newer} {
		if err := t.removeLog(n); err != nil {
			return err
		}
		if err := t.under.SyncDir(logDir); err != nil && isDir(t.under, logDir) {
			return err
		}
	}
	return nil
}

// removeLog removes one, unless another process has put its own there.
func (t *tree) removeLog(n uint64) error {
	if l := t.logs[n%2]; l != nil {
		mine, err := l.file.Stat()
		_ = l.file.Close() // nothing in it counts
		t.logs[n%2] = nil
		there, serr := t.under.Stat(logName(n))
		if err == nil && serr == nil && !vfs.SameFile(mine, there) {
			return nil
		}
	}
	err := t.under.Remove(logName(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (t *tree) lastEpoch() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}
