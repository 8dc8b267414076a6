package journal

import (
	"maps"
	"path"
	"slices"
)

// syncDir is SyncDirLater of a name in the whole tree. It returns what has to be
// durable for the names to be.
func (t *tree) syncDir(dir string) (seq uint64, err error) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	t.mu.Lock()
	seq, cheap := t.changes[dir], t.on && t.synced[dir] && len(t.pending[dir]) == 0
	t.mu.Unlock()
	if cheap {
		return seq, nil
	}
	return t.reallySyncDir(dir)
}

// reallySyncDir syncs a directory itself, below those whose names only the
// journal has. It returns what has to be durable for all its names to be.
func (t *tree) reallySyncDir(dir string) (seq uint64, err error) {
	t.mu.Lock()
	on, made := t.on, t.madeAbove(dir)
	pending := maps.Clone(t.pending[dir])
	t.mu.Unlock()
	for _, d := range made {
		if err := t.under.SyncDir(path.Dir(d)); err != nil {
			return 0, err
		}
	}
	if err := t.under.SyncDir(dir); err != nil || !on {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range made {
		delete(t.made, d)
	}
	if len(t.synced) >= maxRemembered {
		clear(t.synced)
	}
	t.synced[dir] = true
	for name, at := range pending {
		if t.pending[dir][name] != at {
			continue // it has changed meanwhile
		}
		t.settled(name)
		t.forget(name)
		t.add(op{kind: opStands, name: name})
	}
	return t.seq, nil
}

// madeAbove are dir and the directories above it whose names only the journal
// has, the topmost first.
func (t *tree) madeAbove(dir string) []string {
	var made []string
	for ; dir != "."; dir = path.Dir(dir) {
		if t.made[dir] {
			made = append(made, dir)
		}
	}
	slices.Reverse(made)
	return made
}

// doubt is Doubt of a name in the whole tree.
func (t *tree) doubt(dir string) error {
	t.gate.RLock()
	t.mu.Lock()
	_, known := t.doubted[dir]
	seq, epoch := t.durable, t.now
	if t.on && !known {
		t.add(op{kind: opDoubt, name: dir})
		seq = t.seq
	} else if t.on {
		t.doubted[dir] = true
	}
	t.mu.Unlock()
	t.gate.RUnlock()
	if err := t.wait(seq); err != nil || known {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on && t.now == epoch {
		t.doubted[dir] = true
	}
	return nil
}
