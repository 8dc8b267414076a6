package filesystem

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Sweeper = (*Store)(nil)

// Sweep implements storage.Sweeper. It looks at the upload sessions, at files that
// were on their way to a name, at bytes that are only in the pool, and at what zot
// leaves behind where it was stopped. Their age is that of the file: none of it is
// content that somebody could have asked for. It does little that isn't yielded, and
// doesn't wait for that.
func (s *Store) Sweep(ctx context.Context, opts storage.SweepOptions) iter.Seq2[storage.Swept, error] {
	return func(yield func(storage.Swept, error) bool) {
		w := &sweep{store: s, ctx: ctx, before: opts.Before, dry: opts.Dry, yield: yield}
		if err := s.enter(); err != nil {
			yield(storage.Swept{}, err)
			return
		}
		defer s.leave()
		if err := s.lock.check(); err != nil {
			yield(storage.Swept{}, err)
			return
		}
		w.uploads()
		w.staged(uploadsDir)
		w.staged(notesDir)
		w.own()
		w.pool()
		w.repositories()
	}
}

// sweep is one round. It's over once yield has returned false, or ctx has ended.
type sweep struct {
	store  *Store
	ctx    context.Context //nolint:containedctx // of the one call that it lives for
	before time.Time
	dry    bool
	yield  func(storage.Swept, error) bool
	over   bool
}

// found hands over a thing and removes it.
func (w *sweep) found(what storage.Swept, remove func() error) {
	if w.over = w.over || w.ctx.Err() != nil || !w.yield(what, nil); w.over || w.dry {
		return
	}
	w.fail(remove())
}

// fail tells of an error. The round goes on.
func (w *sweep) fail(err error) {
	if err != nil && !missing(err) && !w.over {
		w.over = !w.yield(storage.Swept{}, err)
	}
}

// entries are those of a folder that may be missing.
func (w *sweep) entries(dir string) []fs.DirEntry {
	if w.over || w.ctx.Err() != nil {
		return nil
	}
	entries, err := w.store.fs.ReadDir(dir)
	w.fail(err)
	return entries
}

// old reports whether a file was last changed before the time in question.
func (w *sweep) old(name string) (size int64, old bool) {
	fi, err := w.store.fs.Stat(name)
	if err != nil {
		w.fail(err)
		return 0, false
	}
	return fi.Size(), fi.ModTime().Before(w.before)
}

// uploads are sessions that nobody has gone on with.
func (w *sweep) uploads() {
	for _, e := range w.entries(uploadsDir) {
		if !e.IsDir() || len(e.Name()) != idLength || w.store.sessions.isBusy(e.Name(), w.before) {
			continue
		}
		size, idle := int64(0), true
		for _, f := range w.entries(sessionDir(e.Name())) {
			n, old := w.old(path.Join(sessionDir(e.Name()), f.Name()))
			size, idle = size+n, idle && old
		}
		if _, old := w.old(sessionDir(e.Name())); idle && old {
			w.found(storage.Swept{Kind: storage.SweptUpload, Name: e.Name(), Size: size}, func() error {
				return w.store.sessions.giveUp(e.Name(), w.before)
			})
		}
	}
}

// giveUp removes a session that nobody has been on since before. Who asks for it
// meanwhile waits, and doesn't find it.
func (s *sessionSet) giveUp(id string, before time.Time) error {
	s.mu.Lock()
	if s.inUse(id, before) {
		s.mu.Unlock()
		return nil // somebody has gone on with it since
	}
	if n := s.open[id]; n != nil {
		s.take(n)
		s.mu.Unlock()
		n.mu.Lock()
		err := n.end()
		n.mu.Unlock()
		return errors.Join(err, s.leave(n))
	}
	loaded := s.load(id)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		loaded()
		s.mu.Unlock()
	}()
	for _, name := range []string{"data", "state", "state.new"} {
		if err := s.store.fs.Remove(path.Join(sessionDir(id), name)); err != nil && !missing(err) {
			return err
		}
	}
	return s.store.fs.Remove(sessionDir(id))
}

// isBusy reports whether somebody is on a session, or was since before.
func (s *sessionSet) isBusy(id string, before time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse(id, before)
}

// inUse is isBusy for who holds mu.
func (s *sessionSet) inUse(id string, before time.Time) bool {
	n := s.open[id]
	return s.loading[id] != nil || n != nil && (n.idle == nil || !n.left.Before(before))
}

// staged are files on their way to a name, which a crash has left there.
func (w *sweep) staged(dir string) {
	for _, e := range w.entries(dir) {
		if name := path.Join(dir, e.Name()); strings.HasPrefix(e.Name(), "tmp-") && !e.IsDir() && e.Name() != path.Base(originalPath(oci.Name{})) {
			w.leftover(name)
		}
	}
}

// leftover is a file that means nothing.
func (w *sweep) leftover(name string) {
	if size, old := w.old(name); old {
		w.found(storage.Swept{Kind: storage.SweptLeftover, Name: name, Size: size}, func() error { return w.store.fs.Remove(name) })
	}
}

// own are our folders beside the repositories.
func (w *sweep) own() {
	for _, e := range w.entries(reposDir) {
		if !e.IsDir() {
			continue
		}
		w.staged(path.Join(reposDir, e.Name()))
		if n, err := ownName(e.Name()); err == nil {
			w.quarantine(n, path.Join(reposDir, e.Name(), quarantineName))
		}
	}
}

// quarantine is bad bytes of blobs that have come again, or of a repository that's
// gone. Others stay: they may be all that there is.
func (w *sweep) quarantine(n oci.Name, dir string) {
	entries := w.entries(dir)
	for _, e := range entries {
		d, ok := ofQuarantined(e.Name())
		if _, err := w.store.fs.Stat(blobPath(n, d)); ok && (err == nil || !w.exists(n)) {
			w.leftover(path.Join(dir, e.Name()))
		}
	}
	if len(entries) > 0 && !w.dry && !w.over {
		_ = w.store.fs.Remove(dir) // unless something is left in it
	}
}

// exists is true if that isn't known.
func (w *sweep) exists(n oci.Name) bool {
	there, err := newRepo(w.store, n).hasLayout()
	w.fail(err)
	return there || err != nil
}

// pool is bytes that no repository has. To lose a race costs the sharing, never a blob.
func (w *sweep) pool() {
	for _, a := range w.entries(poolDir) {
		for _, p := range w.entries(path.Join(poolDir, a.Name())) {
			dir := path.Join(poolDir, a.Name(), p.Name())
			for _, e := range w.entries(dir) {
				w.pooled(path.Join(dir, e.Name()))
			}
		}
	}
}

func (w *sweep) pooled(name string) {
	fi, err := w.store.fs.Stat(name)
	if !isFile(fi, err) || linkCount(fi) != 1 {
		return
	}
	w.found(storage.Swept{Kind: storage.SweptBlob, Name: path.Base(name), Size: fi.Size()}, func() error { return w.store.fs.Remove(name) })
}

// repositories are those of all tools. zot keeps uploads inside them, and what it
// mirrors in .sync.
func (w *sweep) repositories() {
	if w.over {
		return
	}
	w.folder(".sync")
	w.fail(w.store.catalog.descend(w.ctx, ".", func(n oci.Name) {
		w.staged(n.String())
		w.quarantine(n, path.Join(n.String(), quarantineName))
		w.folder(path.Join(n.String(), ".uploads"))
	}))
}

// folder is one that zot leaves behind, with what is old enough in it. It goes
// itself when it's empty.
func (w *sweep) folder(dir string) {
	entries := w.entries(dir)
	for _, e := range entries {
		if name := path.Join(dir, e.Name()); e.IsDir() {
			w.folder(name)
		} else {
			w.leftover(name)
		}
	}
	if len(entries) > 0 && !w.dry && !w.over {
		_ = w.store.fs.Remove(dir) // unless something is left in it
	}
}
