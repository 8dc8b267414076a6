package filesystem

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
)

const lockName = "_lock"

// writerLock says who may write. Its file is locked, which the operating system
// undoes when the process ends, and holds a random owner, which shows that
// nobody has replaced the file or the whole tree since.
type writerLock struct {
	store *Store

	mu    sync.RWMutex // held for reading by those who look whether all is as it was
	file  vfs.File     // nil while another process has it
	owner string
	seen  fileStamp // of the file when it was last read and had the owner in it
}

// try takes the lock if it's free; storage.ErrStandby if it isn't.
func (l *writerLock) try() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

func (l *writerLock) take() error {
	if l.file != nil {
		return nil
	}
	if err := l.inPlace(); err != nil {
		return err
	}
	f, err := l.store.fs.TryLock(lockName, true)
	if errors.Is(err, vfs.ErrLocked) {
		return storage.ErrStandby
	}
	if err != nil {
		return fmt.Errorf("take %s: %w", lockName, err)
	}
	owner := rand.Text()
	if err := writeOwner(f, owner); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", lockName, full(err)), f.Close())
	}
	err = l.store.beginJournal()
	if errors.Is(full(err), storage.ErrFull) && l.store.space.release() {
		err = l.store.beginJournal() // what it does again may need room
	}
	if err != nil {
		return errors.Join(full(err), f.Close())
	}
	l.file, l.owner, l.seen = f, owner, fileStamp{}
	l.store.suspect.begin()
	l.store.repos.forget() // what another process wrote until now isn't known here
	if err := l.store.sessions.forgetIdle(); err != nil {
		l.store.log().Warn("upload sessions", "error", err)
	}
	l.store.background.do(l.store.suspect.verifyAll)
	l.store.background.do(l.store.foldLeftovers)
	return nil
}

func writeOwner(f vfs.File, owner string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.WriteString(f, owner)
	return err
}

// check makes sure that this store is the writer still, taking the lock if it
// has become free.
func (l *writerLock) check() error {
	if err := l.store.mayWrite(); err != nil {
		return err
	}
	if l.isAsItWas() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return l.take()
	}
	err := l.sameOwner()
	if err == nil {
		err = l.inPlace()
	}
	if err == nil {
		return nil
	}
	// Somebody removed or replaced the file, or the tree. To write on would be to
	// write beside another owner, or where nobody looks any more.
	err = errors.Join(err, l.store.fs.Abandon(), l.file.Close())
	l.file = nil
	l.store.background.poke()
	return err
}

// isAsItWas is check of a lock that is held, and needn't be read again. All pushes ask
// at once, and each asks often. One look is enough if the file has no other name: as long
// as the root's path leads to it, and it wasn't renamed since (which sets its ctime), the
// folder that it's in is where it was.
func (l *writerLock) isAsItWas() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.file == nil || !telling {
		return false
	}
	fi, err := vfs.StatByPath(l.store.under, lockName)
	return err == nil && linkCount(fi) == 1 && l.isSeen(stampOf(fi))
}

func (l *writerLock) isSeen(now fileStamp) bool { return now == l.seen && now != (fileStamp{}) }

// tune begins or ends the journal as the options want it.
func (l *writerLock) tune() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	if err := l.store.beginJournal(); err != nil {
		l.store.log().Error("the journal", "error", err)
	}
}

// settle ends the journal, as long as the store may write.
func (l *writerLock) settle() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	if err := errors.Join(l.sameOwner(), l.inPlace()); err != nil {
		return l.store.fs.Abandon() // another one writes by now
	}
	return l.store.fs.End()
}

// sameOwner reads the file again if it may be another one.
func (l *writerLock) sameOwner() error {
	now := l.stamp()
	if l.isSeen(now) {
		return nil
	}
	owner, err := l.read()
	if err == nil && owner != l.owner {
		err = fs.ErrInvalid
	}
	if err != nil {
		return fmt.Errorf("%w: %s isn't the file it was: %w", storage.ErrStandby, lockName, err)
	}
	l.seen = now
	return nil
}

// inPlace fails if the tree was moved, or something was mounted over it.
func (l *writerLock) inPlace() error {
	if err := vfs.InPlace(l.store.under); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrStandby, err)
	}
	return nil
}

// stamp is zero where a stat can't tell a file from another one put in its place.
func (l *writerLock) stamp() fileStamp {
	fi, err := l.store.fs.Stat(lockName)
	if err != nil || !telling {
		return fileStamp{}
	}
	return stampOf(fi)
}

func (l *writerLock) read() (string, error) {
	f, err := l.store.fs.Open(lockName)
	if err != nil {
		return "", err
	}
	owner, err := io.ReadAll(io.LimitReader(f, 64))
	return string(owner), errors.Join(err, f.Close())
}

func (l *writerLock) held() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.file != nil
}

func (l *writerLock) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// zotLock is the file that a zot locks.
const zotLock = "cache.db"

// refuseZot fails if a running zot has the tree: it holds a lock on its cache
// as long as it runs, and two programs that rewrite one index.json lose tags.
func refuseZot(fsys vfs.FS) error {
	f, err := fsys.TryLock(zotLock, false)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, vfs.ErrLocked):
		return errors.New("cache.db is locked: a zot is running on this directory; stop it first")
	}
	return nil // there's none, or it can't be opened: not a zot's that runs as us
}
