package filesystem

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// due reports whether the repository has been left alone long enough, or its
// log has grown too long, to be settled.
func (r *repo) due() bool {
	if !r.commitMu.TryLock() {
		return false // it's being changed now
	}
	defer r.commitMu.Unlock()
	return time.Since(r.changed) > idleTime || r.log != nil && r.log.size > foldLimit
}

func (r *repo) isChanged() bool {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	return !r.changed.IsZero()
}

// settle folds the log into index.json and keeps a copy of it as the last good
// one. It does nothing if both are up to date, or may not be written.
func (r *repo) settle() error {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	if r.changed.IsZero() {
		return nil
	}
	if err := r.store.lock.check(); err != nil {
		return err
	}
	st, err := r.refresh()
	if err != nil {
		return err
	}
	if st.broken != nil || st.index == nil {
		r.changed = time.Time{} // nothing of ours is left to write; what's there stays as evidence
		r.closeLog()
		return nil
	}
	if err := r.fold(st); err != nil {
		return err
	}
	if err := r.store.disk.Replace(lastPath(r.name), ownDir(r.name), st.index.Bytes()); err != nil {
		return fmt.Errorf("keep the last good index.json: %w", err)
	}
	r.changed = time.Time{}
	return nil
}

// fold writes index.json and ends the log. A crash in between leaves both: the
// log's last record then says that index.json has everything.
func (r *repo) fold(st *state) error {
	if r.log == nil {
		return nil
	}
	sum := digest.Canonical.Digester()
	if err := st.index.Encode(sum.Hash()); err != nil {
		return err
	}
	if err := r.log.append(record{Fold: sum.Digest()}, r.store.disk.Sync); err != nil {
		return fmt.Errorf("end log: %w", err)
	}
	next := &state{index: st.index}
	var err error
	if next.stamp.index, next.size, err = r.replaceIndex(st.index); err != nil {
		return err
	}
	next.touch()
	r.state.Store(next)
	r.closeLog()
	if err := r.store.fs.Remove(logPath(r.name)); err != nil && !missing(err) {
		return err
	}
	return r.store.disk.SyncDir(ownDir(r.name))
}
