package journal

import "errors"

// Append writes p where f was left off and makes it durable, both together with all
// that was recorded before: one sync does what takes two by Barrier, Write and Sync.
// Nothing of p is in the file before what was recorded earlier is durable. If it fails a
// part of p may be in the file, which the caller cuts off.
func (f *file) Append(p []byte) error {
	e, seq := f.recordAhead(p)
	if e == nil {
		return f.appendInTurn(p)
	}
	if err := f.tree.wait(seq); err != nil {
		f.changed(f.pos)
		return err
	}
	done, err := f.writeRecorded(e, p)
	if err != nil {
		return errors.Join(err, f.tree.barrier()) // it doesn't come back
	}
	if done {
		return nil
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	return f.Sync()
}

// appendInTurn is Append of what the journal can't have before the file has it.
func (f *file) appendInTurn(p []byte) error {
	if err := f.tree.barrier(); err != nil {
		return err
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	return f.Sync()
}

// recordAhead records that f has p behind what it has. It returns nil if that can't
// be: what f has isn't durable, nor in the journal, or p is too much.
func (f *file) recordAhead(p []byte) (e *entry, seq uint64) {
	t := f.tree
	t.gate.RLock()
	defer t.gate.RUnlock()
	unlock := t.lockNames(f.name, "")
	defer unlock()
	if f.appends || len(p) > maxChange || !t.isRecorded(f) {
		return nil, 0
	}
	seq = t.wrote(f, f.pos, p)
	return f.entry, seq
}

// isRecorded reports whether all of f is durable, or going to be.
func (t *tree) isRecorded(f *file) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, changed := t.dirty[f.name]
	known := t.files[f.name] != nil || t.based[f.name]
	return t.on && known && !changed && !t.isPending(f.name) && (f.entry == nil || f.entry.name == f.name)
}

// writeRecorded writes what the journal has durably. False if it hasn't any more: the
// epoch is over, and its files were synced without that.
func (f *file) writeRecorded(e *entry, p []byte) (done bool, err error) {
	t := f.tree
	t.gate.RLock()
	defer t.gate.RUnlock()
	in := t.beginWrite(f.name, e)
	if in == nil {
		return false, nil
	}
	at := f.pos
	n, err := f.File.Write(p)
	f.pos = at + int64(n)
	t.endWrite(e, in)
	if err != nil {
		f.changed(at)
		f.recall(e, at)
	}
	return err == nil, err
}

// beginWrite keeps the epoch whose log has what is going to be written from being over.
// It's nil if it is.
func (t *tree) beginWrite(name string, e *entry) *epoch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[name] != e || e.unwritten > 0 || e.epoch.closing {
		return nil
	}
	e.epoch.writing++
	return e.epoch
}

// endWrite has e synced again by whoever has just done that for the epoch.
func (t *tree) endWrite(e *entry, in *epoch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in.writing--
	in.late[e] = true
	t.stopped.Broadcast()
}

// recall records that the file ends where it did before it was to have more. What the
// journal has of it may be nothing by now, since the epoch is over.
func (f *file) recall(e *entry, end int64) {
	t := f.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[f.name] != e {
		return
	}
	if e.isClosing() {
		t.forget(f.name)
		e = &entry{name: f.name}
		t.files[f.name], f.entry = e, e
	}
	t.touch(e)
	t.add(op{kind: opWrite, name: f.name, off: end})
	t.touchNames(f.name)
}
