package journal

import (
	"errors"
	"path"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// Make implements vfs.Maker.
func (f *FS) Make(name string, data []byte) error {
	return f.tree.make(f.name(name), func() error { return vfs.Make(f.FS, name, data) }, func(t *tree, name string) {
		if t.on {
			t.forget(name)
			t.pend(name)
			t.touchNames(name)
		}
		t.changed(name, 0)
	})
}

// MakeLater is Make of a file that is durable, with its name, when anything recorded
// later is, as after a Barrier. It fails with errors.ErrUnsupported, too, where there's no
// journal, where the directory isn't in doubt, and of more than the journal takes: a name
// comes after the bytes there, as by Rename.
func (f *FS) MakeLater(name string, data []byte) error {
	if len(data) > maxChange {
		return errors.ErrUnsupported
	}
	make := func() error {
		if !f.tree.isDoubted(path.Dir(f.name(name))) {
			return errors.ErrUnsupported
		}
		return vfs.Make(f.FS, name, data)
	}
	return f.tree.make(f.name(name), make, func(t *tree, name string) { t.wroteNew(name, data) })
}

// make makes a file and records it, or fails.
func (t *tree) make(name string, do func() error, record func(t *tree, name string)) error {
	t.gate.RLock()
	defer t.gate.RUnlock()
	unlock := t.lockNames(name, "")
	defer unlock()
	if err := do(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	record(t, name)
	return nil
}

// isDoubted reports whether there's a journal, in which a directory is in doubt.
func (t *tree) isDoubted(dir string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, doubted := t.doubted[dir]
	return t.on && doubted
}

// wroteNew records a file that wasn't there, and all that it holds.
func (t *tree) wroteNew(name string, data []byte) {
	t.touch(t.newEntry(name, true))
	t.noteSynced(name)
	t.add(op{kind: opWrite, name: name, data: data})
	t.touchNames(name)
}

// newEntry is a file of which something is going to be recorded, everything if it's whole.
func (t *tree) newEntry(name string, whole bool) *entry {
	if whole {
		t.settled(name)
	}
	t.forget(name)
	e := &entry{name: name, whole: whole}
	t.files[name] = e
	return e
}

var _ vfs.Maker = (*FS)(nil)
