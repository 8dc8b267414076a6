package journal

import (
	"errors"
	"path"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// Make implements vfs.Maker.
func (f *FS) Make(name string, data []byte) error {
	t, whole := f.tree, f.name(name)
	t.gate.RLock()
	defer t.gate.RUnlock()
	unlock := t.lockNames(whole, "")
	defer unlock()
	if err := vfs.Make(f.FS, name, data); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on {
		t.forget(whole)
		t.pend(whole)
		t.touchNames(whole)
	}
	t.changed(whole, 0)
	return nil
}

// MakeLater is Make of a file that is durable, with its name, when anything recorded
// later is, as after a Barrier. It fails with errors.ErrUnsupported, too, where there's no
// journal, where the directory isn't in doubt, and of more than the journal takes: a name
// comes after the bytes there, as by Rename.
func (f *FS) MakeLater(name string, data []byte) error {
	t, whole := f.tree, f.name(name)
	t.gate.RLock() // as long as there's a journal, it's there until the file is recorded
	defer t.gate.RUnlock()
	unlock := t.lockNames(whole, "")
	defer unlock()
	if len(data) > maxChange || !t.keepDoubt(path.Dir(whole)) {
		return errors.ErrUnsupported
	}
	err := vfs.Make(f.FS, name, data)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.letDoubtGo(path.Dir(whole))
	if err == nil {
		t.recordNew(whole, data)
	}
	return err
}

// keepDoubt has a directory that's in doubt stay so, however many epochs end, until
// letDoubtGo: a file may get its name in any of them. False if there's no doubt.
func (t *tree) keepDoubt(dir string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, doubted := t.doubted[dir]; !t.on || !doubted {
		return false
	}
	t.making[dir]++
	return true
}

// letDoubtGo ends keepDoubt. mu is held.
func (t *tree) letDoubtGo(dir string) {
	if t.making[dir]--; t.making[dir] == 0 {
		delete(t.making, dir)
	}
}

// recordNew records a file that wasn't there, and all that it holds. It isn't remembered
// once the epoch is over: what is made so isn't appended to.
func (t *tree) recordNew(name string, data []byte) {
	t.touch(t.newEntry(name, true))
	delete(t.dirty, name)
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
