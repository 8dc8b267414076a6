package journal

import (
	"errors"
	"io/fs"
	"path"
)

// move renames or links. A file that the journal has is there by its new name once
// that is in the journal too, and not before: on the disk it may be torn. In a
// directory that's in doubt it may be.
func (t *tree) move(k kind, from, to string, do func() error) error {
	if err := t.letGo(from); err != nil {
		return err
	}
	link, seq := t.announce(k, from, to)
	if err := t.wait(seq); err != nil {
		return err
	}
	err := t.change(from, to, do, func(t *tree) { t.moved(k, from, to, link) })
	if err != nil && link != nil {
		return errors.Join(err, t.retract(from), t.retract(to))
	}
	return err
}

// announce records what is about to be done, if the journal has the file: it returns
// what a link is going to be, and nil if nothing is recorded; and what has to be
// durable before it is done.
func (t *tree) announce(k kind, from, to string) (link *entry, seq uint64) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	_, doubted := t.doubted[path.Dir(to)]
	switch {
	case !t.on || doubted:
		return nil, t.durable
	case !t.has(from):
		return nil, t.seq
	}
	return t.recordMove(k, from, to), t.seq
}

// recordMove returns what a link is in the journal, as yet without a name.
func (t *tree) recordMove(k kind, from, to string) *entry {
	t.add(op{kind: k, name: to, from: from})
	t.touchNames(from, to)
	link := &entry{whole: true}
	if k == opLink {
		t.touch(link)
		t.shareBytes(link, t.files[from])
	}
	return link
}

// shareBytes has a link be synced with each epoch that has bytes of what it's a
// link to.
func (t *tree) shareBytes(link, of *entry) {
	for _, e := range []*epoch{t.past, t.now} {
		if e != nil && e.files[of] {
			e.files[link] = true
		}
	}
}

// has reports whether the journal has a file as it is.
func (t *tree) has(name string) bool {
	_, changed := t.dirty[name]
	return t.files[name].complete() && !changed && !t.isPending(name)
}

// retract makes durable what a name is after all.
func (t *tree) retract(name string) error {
	if err := t.syncNamed(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.gate.RLock()
	t.mu.Lock()
	if t.on {
		t.pend(name)
	}
	t.mu.Unlock()
	seq, err := t.reallySyncDir(path.Dir(name))
	t.gate.RUnlock()
	if err != nil {
		return err
	}
	return t.wait(seq)
}

// moved records a rename or a link, unless it was announced. A file that the
// journal hasn't got all of, or not any more, is pending: its name is durable when
// the directory is synced.
func (t *tree) moved(k kind, from, to string, link *entry) {
	e := t.files[from]
	known := t.on && t.has(from) && (link == nil || k != opLink || link.complete())
	t.movedDirty(k, from, to)
	if !t.on {
		return
	}
	t.settled(to)
	t.forget(to)
	if k == opRename {
		t.settled(from)
		delete(t.files, from)
	}
	if !known {
		t.pend(to)
		if k == opRename {
			t.pend(from)
		}
		t.touchNames(from, to)
		return
	}
	if link == nil {
		link = t.recordMove(k, from, to)
	}
	t.touchDirs(from, to)
	if k == opLink {
		e = link
	}
	e.name = to
	t.files[to] = e
}

func (t *tree) movedDirty(k kind, from, to string) {
	low, changed := t.dirty[from]
	delete(t.dirty, to)
	delete(t.based, to)
	if k == opRename {
		delete(t.dirty, from)
		delete(t.based, from)
	}
	if changed {
		t.dirty[to] = low
	}
}

// touch notes that something of a file was recorded.
func (t *tree) touch(e *entry) {
	if !t.next.files[e] {
		t.next.files[e] = true
		e.unwritten++
	}
}

// gone records that a name is nothing any more.
func (t *tree) gone(name string) {
	delete(t.dirty, name)
	delete(t.based, name)
	if !t.on {
		return
	}
	t.settled(name)
	t.forget(name)
	delete(t.made, name)
	delete(t.synced, name)
	delete(t.pending, name)
	delete(t.changes, name)
	t.add(op{kind: opGone, name: name})
	t.touchNames(name)
}

func (t *tree) dirMade(name string) {
	if !t.on {
		return
	}
	t.made[name], t.next.made[name] = true, true
	delete(t.synced, name)
	t.add(op{kind: opDir, name: name})
	t.touchNames(name)
}

// forget lets the file called name go.
func (t *tree) forget(name string) {
	if e := t.files[name]; e != nil {
		e.name = ""
		delete(t.files, name)
	}
}

func (t *tree) pend(name string) {
	dir := path.Dir(name)
	if t.pending[dir] == nil {
		t.pending[dir] = make(map[string]uint64)
	}
	t.seq++ // which says when
	t.pending[dir][name] = t.seq
}

func (t *tree) isPending(name string) bool {
	_, is := t.pending[path.Dir(name)][name]
	return is
}

// letGo is called before a name comes to be another file's, or nothing. If the
// journal has only changes of the file, they mustn't be done to that other one.
func (t *tree) letGo(name string) error { return t.letGoUnless(name, (*entry).complete) }

// letGoUnless is letGo with another word for when there's nothing to let go. mu is held
// when that is asked.
func (t *tree) letGoUnless(name string, fine func(*entry) bool) error {
	t.mu.Lock()
	e := t.files[name]
	_, changed := t.dirty[name]
	known, whole := t.on && e != nil, fine(e)
	t.mu.Unlock()
	if !known || whole && !changed {
		return nil
	}
	if err := t.syncNamed(name); err != nil || whole {
		return err
	}
	t.mu.Lock()
	if t.on && t.files[name] == e {
		t.add(op{kind: opStands, name: name})
		t.forget(name)
	}
	seq := t.seq
	t.mu.Unlock()
	return t.wait(seq)
}

// isInOneLog reports whether one log has the whole file, and all that is recorded of it.
// Where the past epoch's has it and this one's has changes, those are left when the past
// one is over: of a name that is another file's by then, which may be recorded only later.
func (t *tree) isInOneLog(e *entry) bool {
	return e.complete() && e.unwritten == 0 && (t.past == nil || !t.past.files[e] || e.epoch == t.past)
}

func (t *tree) settled(name string) {
	dir := path.Dir(name)
	if delete(t.pending[dir], name); len(t.pending[dir]) == 0 {
		delete(t.pending, dir)
	}
}
