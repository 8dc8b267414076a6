package vfs

import (
	"bytes"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// block is how much a disk writes at once, in bytes: of one all is there or nothing.
const block = 512

// PowerCut makes, in the empty directory to, what would be there after one, if
// the system had written nothing but what it was told to. Nothing may be going
// on in the tree.
func (f *Forgetful) PowerCut(to string) error {
	return f.PowerCutKeeping(to, func() bool { return false })
}

// PowerCutKeeping is PowerCut if the system had written some of the rest. keep is
// asked for each name that has changed since its directory was synced, for each
// block of a file that isn't as it was synced, and for the file's size, whether
// that is there as it was last, or as it was synced.
func (f *Forgetful) PowerCutKeeping(to string, keep func() bool) error {
	root, err := f.node(".")
	if err != nil {
		return err
	}
	f.memory.one.Lock() // who is in the middle of a Sync may end it
	defer f.memory.one.Unlock()
	c := &cut{f, keep, make(map[*node]string)}
	return c.directory(root, ".", to)
}

// cut is a power cut. What it makes it asks for in order of names, so that the
// same answers make the same tree.
type cut struct {
	tree *Forgetful
	keep func() bool
	made map[*node]string // the files that are there already
}

// directory restores what is in a directory, which is called name now if it's
// still there.
func (c *cut) directory(n *node, name, to string) error {
	now, err := c.tree.entries(n, name)
	if err != nil {
		return err
	}
	for _, entry := range slices.Sorted(maps.Keys(union(now, n.names))) {
		child := n.names[entry]
		if now[entry] != child && c.keep() {
			child = now[entry]
		}
		if child == nil {
			continue
		}
		if err := c.entry(child, path.Join(name, entry), filepath.Join(to, entry)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cut) entry(n *node, name, to string) error {
	if n.info.IsDir() {
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		return c.directory(n, name, to)
	}
	if first, linked := c.made[n]; linked {
		return os.Link(first, to)
	}
	c.made[n] = to
	now, err := n.content()
	if err != nil {
		return err
	}
	return os.WriteFile(to, c.mix(n, now), 0o600)
}

// mix is what a file may hold: what it was, with some of what it is.
func (c *cut) mix(n *node, now []byte) []byte {
	c.tree.memory.mu.Lock() // somebody may be writing, who waits for no sync
	defer c.tree.memory.mu.Unlock()
	size := len(n.data)
	if len(now) != size && c.keep() {
		size = len(now)
	}
	mixed := make([]byte, size)
	copy(mixed, n.data)
	for at := 0; at < size; at += block {
		was, is := slice(n.data, at), slice(now, at)
		if !n.lost[at/block] && !bytes.Equal(was, is) && c.keep() {
			copy(mixed[at:], is)
		}
	}
	return mixed
}

// slice is the block of data at a place, as far as there's any.
func slice(data []byte, at int) []byte { return data[min(at, len(data)):min(at+block, len(data))] }

func union(a, b map[string]*node) map[string]*node {
	all := maps.Clone(a)
	if all == nil {
		all = make(map[string]*node)
	}
	maps.Copy(all, b)
	return all
}
