package btree

import (
	"iter"
	"slices"
	"sync/atomic"
)

// Edit is a Tree in the making. One goroutine uses it.
type Edit[K Key[K], V any] struct {
	tree  Tree[K, V]
	owner uint64 // of the nodes that no Tree has yet; 0 before the first change
}

// owners is the last owner there was.
var owners atomic.Uint64

// Edit begins a changed copy of t.
func (t Tree[K, V]) Edit() Edit[K, V] { return Edit[K, V]{tree: t} }

// Tree returns what there is now. It stays so whatever is done with e.
func (e *Edit[K, V]) Tree() Tree[K, V] {
	e.owner = 0
	return e.tree
}

// Get returns the value of key.
func (e *Edit[K, V]) Get(key K) (value V, ok bool) { return e.tree.Get(key) }

// From yields what isn't less than lower, in order. Until it's done e doesn't change.
func (e *Edit[K, V]) From(lower K) iter.Seq2[K, V] { return e.tree.From(lower) }

// Set gives key a value, and returns the one that it had.
func (e *Edit[K, V]) Set(key K, value V) (old V, had bool) {
	e.begin()
	root := e.own(e.tree.root)
	if old, had = root.set(e, key, value); !had {
		e.tree.len++
	}
	if len(root.entries) > most {
		middle, right := root.split(e, key)
		root = &node[K, V]{e.owner, []entry[K, V]{middle}, []*node[K, V]{root, right}}
	}
	e.tree.root = root
	return old, had
}

// Delete removes key, and returns the value that it had. Where there's no such
// key nothing is copied.
func (e *Edit[K, V]) Delete(key K) (old V, had bool) {
	if old, had = e.Get(key); !had {
		return old, false
	}
	e.begin()
	root := e.own(e.tree.root)
	root.remove(e, key)
	if len(root.entries) == 0 && root.children != nil {
		root = root.children[0]
	}
	e.tree.root = root
	e.tree.len--
	return old, true
}

func (e *Edit[K, V]) begin() {
	if e.owner == 0 {
		e.owner = owners.Add(1)
	}
}

// own returns n, or a copy, that e may change: with room for one more.
func (e *Edit[K, V]) own(n *node[K, V]) *node[K, V] {
	switch {
	case n == nil:
		return &node[K, V]{owner: e.owner}
	case n.owner == e.owner:
		return n
	}
	own := &node[K, V]{owner: e.owner, entries: clone(n.entries, 1)}
	if n.children != nil {
		own.children = clone(n.children, 1)
	}
	return own
}

func (e *Edit[K, V]) child(n *node[K, V], i int) *node[K, V] {
	n.children[i] = e.own(n.children[i])
	return n.children[i]
}

// clone is a copy of s with room for so many more.
func clone[T any](s []T, room int) []T {
	return append(slices.Grow([]T(nil), len(s)+room), s...)
}

// insert is slices.Insert for one value, that makes room by a quarter: nodes
// stay small for long, and would be half empty if they doubled.
func insert[T any](s []T, i int, v T) []T {
	if len(s) == cap(s) {
		s = clone(s, 1+len(s)/4)
	}
	return slices.Insert(s, i, v)
}

// The receivers of what follows belong to e.

func (n *node[K, V]) set(e *Edit[K, V], key K, value V) (old V, had bool) {
	i, found := n.search(key)
	if found {
		old, n.entries[i].value = n.entries[i].value, value
		return old, true
	}
	if n.children == nil {
		n.entries = insert(n.entries, i, entry[K, V]{key, value})
		return old, false
	}
	child := e.child(n, i)
	old, had = child.set(e, key, value)
	if len(child.entries) > most {
		middle, right := child.split(e, key)
		n.entries = insert(n.entries, i, middle)
		n.children = insert(n.children, i+1, right)
	}
	return old, had
}

// split leaves a part in n and returns the rest. It's half of each, unless key,
// which was added, is the last: then more are likely to follow, and n stays full.
func (n *node[K, V]) split(e *Edit[K, V], key K) (middle entry[K, V], right *node[K, V]) {
	at := len(n.entries) / 2
	if last := len(n.entries) - 1; n.children == nil && n.entries[last].key.Compare(key) == 0 {
		at = last - 1
	}
	middle = n.entries[at]
	right = &node[K, V]{owner: e.owner, entries: clone(n.entries[at+1:], 0)}
	n.entries = clone(n.entries[:at], 0)
	if n.children != nil {
		right.children = clone(n.children[at+1:], 0)
		n.children = clone(n.children[:at+1], 0)
	}
	return middle, right
}

// remove removes a key that is there. It may leave n with too few entries.
func (n *node[K, V]) remove(e *Edit[K, V], key K) {
	i, found := n.search(key)
	switch {
	case n.children == nil:
		n.entries = slices.Delete(n.entries, i, i+1)
		return
	case found:
		n.entries[i] = e.child(n, i).removeLast(e)
	default:
		e.child(n, i).remove(e, key)
	}
	n.mend(e, i)
}

func (n *node[K, V]) removeLast(e *Edit[K, V]) entry[K, V] {
	i := len(n.entries)
	if n.children == nil {
		last := n.entries[i-1]
		n.entries = slices.Delete(n.entries, i-1, i)
		return last
	}
	last := e.child(n, i).removeLast(e)
	n.mend(e, i)
	return last
}

// mend sees to it that the child i, which was removed from, has enough.
func (n *node[K, V]) mend(e *Edit[K, V], i int) {
	if len(n.children[i].entries) >= least {
		return
	}
	i = min(i, len(n.entries)-1)
	left, right := n.children[i], n.children[i+1]
	switch {
	case len(left.entries)+1+len(right.entries) <= most:
		n.merge(e, i)
	case len(left.entries) < len(right.entries):
		n.moveLeft(e, i)
	default:
		n.moveRight(e, i)
	}
}

// merge makes one of the children beside the entry i, with that between them.
func (n *node[K, V]) merge(e *Edit[K, V], i int) {
	left, right := e.child(n, i), n.children[i+1]
	left.entries = append(append(left.entries, n.entries[i]), right.entries...)
	left.children = append(left.children, right.children...)
	n.entries = slices.Delete(n.entries, i, i+1)
	n.children = slices.Delete(n.children, i+1, i+2)
}

// moveLeft moves an entry to the child before the entry i from the one behind it.
func (n *node[K, V]) moveLeft(e *Edit[K, V], i int) {
	left, right := e.child(n, i), e.child(n, i+1)
	left.entries = insert(left.entries, len(left.entries), n.entries[i])
	n.entries[i] = right.entries[0]
	right.entries = slices.Delete(right.entries, 0, 1)
	if right.children != nil {
		left.children = insert(left.children, len(left.children), right.children[0])
		right.children = slices.Delete(right.children, 0, 1)
	}
}

// moveRight moves an entry to the child behind the entry i from the one before it.
func (n *node[K, V]) moveRight(e *Edit[K, V], i int) {
	left, right := e.child(n, i), e.child(n, i+1)
	last := len(left.entries) - 1
	right.entries = insert(right.entries, 0, n.entries[i])
	n.entries[i] = left.entries[last]
	left.entries = slices.Delete(left.entries, last, last+1)
	if left.children != nil {
		right.children = insert(right.children, 0, left.children[last+1])
		left.children = slices.Delete(left.children, last+1, last+2)
	}
}
