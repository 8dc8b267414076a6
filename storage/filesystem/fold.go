package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// due reports whether the repository has been left alone long enough, or its
// log has grown too long, to be settled.
func (r *repo) due() bool {
	if !r.commitMu.TryLock() {
		return false // it's being changed now
	}
	defer r.commitMu.Unlock()
	if time.Now().Before(r.retry) {
		return false
	}
	return time.Since(r.changed) > idleTime || r.log != nil && r.log.size > r.longLog()
}

// longLog is how many bytes of log are folded however busy the repository is: a
// fold writes all names, so it's put off the longer the more there are.
func (r *repo) longLog() int64 {
	size := 0
	if st := r.state.Load(); st != nil {
		size = st.size
	}
	return int64(min(max(4*size, foldFrom), foldLimit))
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
	err := r.trySettle()
	if errors.Is(err, storage.ErrStandby) {
		r.closeLog() // it's the new writer's; who becomes the writer reads it again
		err = nil
	}
	if err != nil {
		r.closeLog() // what is in it isn't known: read what the files say before going on
		r.state.Store(nil)
		r.retry = time.Now().Add(retryTime)
		return err
	}
	r.changed, r.retry = time.Time{}, time.Time{}
	return nil
}

func (r *repo) trySettle() error {
	if err := r.store.lock.check(); err != nil {
		return err
	}
	st, err := r.refresh()
	if err != nil {
		return err
	}
	if st.broken != nil || st.index == nil {
		r.closeLog() // nothing of ours is left to write; what's there stays as evidence
		return nil   //nolint:nilerr // what's broken was said when it was read
	}
	if err := r.endLog(st); err != nil {
		return err
	}
	if err := r.store.disk.Replace(lastPath(r.name), ownDir(r.name), st.index.Bytes()); err != nil {
		return fmt.Errorf("keep the last good index.json: %w", err)
	}
	return nil
}

// endLog ends the log, if there's one, with an index.json that has all of it.
func (r *repo) endLog(st *state) (err error) {
	switch {
	case r.log == nil:
	case r.log.spent:
		err = r.removeLog()
	default:
		err = r.fold(st)
	}
	if err != nil {
		return fmt.Errorf("fold the log: %w", err)
	}
	return nil
}

// fold writes index.json and ends the log. A crash in between leaves both: the
// log's last record then says whether index.json has everything.
func (r *repo) fold(st *state) error {
	rec, data, err := r.stageFold(st.index)
	if err != nil {
		return err
	}
	staged := path.Join(r.stageDir(), rec.Staged)
	before := r.log.size
	if err := r.log.append(r.store.disk, rec); err != nil {
		return errors.Join(err, r.store.fs.Remove(staged))
	}
	if err := r.store.fs.Rename(staged, indexPath(r.name)); err != nil {
		if cut := errors.Join(r.log.cut(before), r.store.disk.Sync(r.log.file)); cut != nil {
			return errors.Join(err, cut) // the record stands, and so does the file, which proves it untrue
		}
		return errors.Join(err, r.store.fs.Remove(staged))
	}
	if err := r.store.disk.SyncDir(r.name.String()); err != nil {
		return err
	}
	fi, err := r.store.fs.Stat(indexPath(r.name))
	if err != nil {
		return err
	}
	next := &state{index: st.index, stamp: stamp{index: stampOf(fi)}, size: len(data), sum: rec.Fold}
	next.touch()
	r.state.Store(next)
	return r.removeLog()
}

// stageFold writes the new index.json beside the log. It's durable with the log's next record.
func (r *repo) stageFold(idx *layout.Index) (rec record, data []byte, err error) {
	old, err := r.readFile(indexPath(r.name))
	if err != nil {
		return record{}, nil, err
	}
	data = idx.Bytes()
	staged, err := r.store.disk.StageLater(r.stageDir(), bytes.NewReader(data), 0)
	if err != nil {
		return record{}, nil, err
	}
	if err := r.store.disk.SyncDirLater(r.stageDir()); err != nil {
		return record{}, nil, errors.Join(err, r.store.fs.Remove(staged))
	}
	return record{Fold: digest.FromBytes(data), Base: digest.FromBytes(old), Staged: path.Base(staged)}, data, nil
}

// removeLog removes a log that index.json has all of. If a dead process has renamed that,
// its name is made durable first.
func (r *repo) removeLog() error {
	if r.log.spent {
		if err := r.store.disk.SyncDir(r.name.String()); err != nil {
			return err
		}
	}
	names := make([]string, 0, 2+len(r.log.staged))
	names = append(names, logPath(r.name), originalPath(r.name))
	for _, name := range r.log.staged {
		names = append(names, path.Join(r.stageDir(), name))
	}
	r.closeLog()
	if _, err := r.removeAll(names...); err != nil { // the log first: the others say what its records mean
		return err
	}
	return r.store.disk.SyncDir(ownDir(r.name))
}

// foldLeftovers settles the logs that a dead process left, so that other tools
// see what was acknowledged even of repositories that nobody asks for here.
func (s *Store) foldLeftovers(ctx context.Context) {
	entries, err := s.fs.ReadDir(reposDir)
	if err != nil && !missing(err) {
		s.log().Warn("logs of an earlier process aren't looked for", "error", err)
	}
	for _, e := range entries {
		name, err := ownName(e.Name())
		if ctx.Err() != nil || err != nil {
			continue
		}
		if _, err := s.fs.Stat(logPath(name)); err != nil {
			continue
		}
		r := s.repos.use(name)
		if _, err := r.current(); err != nil { // reading it makes it due
			s.log().Error("the log of an earlier process can't be read", "repository", name.String(), "error", err)
		}
		s.repos.done(r)
	}
}
