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
	if e.closing || t.past != e { // the journal was ended meanwhile
		return nil, true
	}
	for e.isMoving() {
		t.stopped.Wait()
	}
	todo = make(map[*entry]string)
	for f := range e.files {
		if f.name != "" && named[f] != f.name {
			todo[f] = f.name
		}
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
	t.mu.Lock()
	for e := range files {
		told = told && !e.suspect
	}
	t.mu.Unlock()
	return told && vfs.SyncAllOf(root) == nil
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
		err := syncFile(t.under, name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		t.suspect(name)
	}
	err := rewrite(t.under, name)
	if err == nil && e != nil {
		t.mu.Lock()
		e.suspect = false
		t.mu.Unlock()
	}
	return err
}

// suspect notes that a sync of a file has failed.
func (t *tree) suspect(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.files[name]; e != nil {
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
