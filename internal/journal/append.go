package journal

// Append writes p where f was left off and makes it durable, both together with all
// that was recorded before: one sync does what takes two by Barrier, Write and Sync.
// Nothing of p is in the file before what was recorded earlier is durable. If it fails a
// part of p may be in the file, which the caller cuts off; after a power cut p may be
// there until something that was recorded later is durable.
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
	if done || err != nil {
		return err
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
	if f.low >= 0 || f.appends || len(p) > maxChange || !t.isRecorded(f) {
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
	if !t.beginWrite(f.name, e) {
		return false, nil
	}
	at := f.pos
	n, err := f.File.Write(p)
	f.pos = at + int64(n)
	t.endWrite(e)
	if err != nil {
		f.changed(at)
		t.recall(f.name, e, at)
	}
	return err == nil, err
}

// beginWrite keeps the epoch of e from being over, if it isn't.
func (t *tree) beginWrite(name string, e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[name] != e || e.isClosing() {
		return false
	}
	e.moving++
	return true
}

// endWrite has e synced again by whoever has just done that.
func (t *tree) endWrite(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.moving--
	e.late = true
	t.stopped.Broadcast()
}

// recall records that a file ends where it did before it was to have more.
func (t *tree) recall(name string, e *entry, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files[name] == e {
		t.touch(e)
		t.add(op{kind: opWrite, name: name, off: end})
		t.touchNames(name)
	}
}
