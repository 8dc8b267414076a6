package filesystem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Restorer = (*Store)(nil)

// breakages are the repositories whose names couldn't be read when they were last.
type breakages struct {
	mu sync.Mutex
	of map[oci.Name]bool
}

// note notes what a repository's files were when they were read.
func (b *breakages) note(n oci.Name, st *state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.broken == nil {
		delete(b.of, n)
		return
	}
	if b.of == nil {
		b.of = make(map[oci.Name]bool)
	}
	b.of[n] = true
}

func (b *breakages) names() []oci.Name {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.of), oci.Name.Compare)
}

// Broken implements storage.Restorer.
func (s *Store) Broken(context.Context) ([]storage.Breakage, error) {
	var all []storage.Breakage
	for _, n := range s.broken.names() {
		repo, err := (&Repository{store: s, name: n}).use()
		if err != nil {
			return nil, err
		}
		st, err := repo.current() // somebody may have put it right
		repo.done()
		if err != nil {
			return nil, err
		}
		if st.broken != nil {
			all = append(all, storage.Breakage{Name: n, Cause: st.broken, LastGood: st.index != nil})
		}
	}
	return all, nil
}

// Restore implements storage.Restorer.
func (s *Store) Restore(_ context.Context, name oci.Name) error {
	repo, err := (&Repository{store: s, name: name}).use()
	if err != nil {
		return err
	}
	defer repo.done()
	repo.commitMu.Lock()
	defer repo.commitMu.Unlock()
	if err := s.lock.check(); err != nil {
		return err
	}
	st, err := repo.refresh()
	switch {
	case err != nil:
		return err
	case !st.exists():
		return oci.Errorf(oci.NameUnknown, "%s", name)
	case st.broken == nil:
		return nil
	case st.index == nil:
		return st.broken
	}
	if err := repo.restore(st); err != nil {
		return fmt.Errorf("restore %s: %w", name, s.space.note(err))
	}
	s.log().Info("index.json is restored", "repository", name.String(), "manifests", st.index.Len())
	return nil
}

// restore writes the names anew. A log counts for nothing as soon as it's no
// original any more and index.json isn't its base; see format.md.
func (r *repo) restore(st *state) error {
	for _, name := range []string{indexPath(r.name), logPath(r.name)} {
		if err := r.keepAside(name); err != nil {
			return err
		}
	}
	if err := r.makeDirs(&state{}); err != nil {
		return err
	}
	r.closeLog()
	if err := r.store.fs.Remove(originalPath(r.name)); err != nil && !missing(err) {
		return err
	}
	if err := r.store.disk.SyncDir(ownDir(r.name)); err != nil {
		return err
	}
	if err := r.store.disk.Replace(indexPath(r.name), r.stageDir(), st.index.Bytes()); err != nil {
		return err
	}
	if err := r.store.fs.Remove(logPath(r.name)); err != nil && !missing(err) {
		return err
	}
	if err := r.store.disk.SyncDir(ownDir(r.name)); err != nil {
		return err
	}
	r.changed = timeNow() // so that the copy is made anew
	r.store.background.wake(r)
	now, err := r.refresh()
	if err == nil && now.broken != nil {
		err = now.broken
	}
	return err
}

// keepAside copies what is damaged, for whoever wants to know. What isn't a file
// can't be copied.
func (r *repo) keepAside(name string) error {
	data, err := r.readFile(name)
	switch {
	case missing(err), irregular(err):
		return nil
	case err != nil:
		return err
	}
	if err := r.store.disk.MakeDir(ownDir(r.name)); err != nil {
		return err
	}
	err = r.store.disk.Replace(path.Join(ownDir(r.name), "damaged-"+path.Base(name)), ownDir(r.name), data)
	if err != nil {
		return errors.Join(errors.New("keep what is damaged"), err)
	}
	return nil
}
