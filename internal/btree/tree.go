// Package btree is a persistent B-tree: an ordered map that never changes, and
// whose changed copies share with it what is the same. Keys and values lie in
// the nodes themselves, some dozens in each, so that a large map is few objects.
package btree

import (
	"iter"
	"strings"
)

const (
	most  = 32       // entries of a node
	least = most / 4 // entries below which a node is merged with the one beside it, or gets one of its
)

// Key is what a Tree is sorted by. Compare returns less than 0, 0 or more than
// 0, as cmp.Compare does.
type Key[K any] interface{ Compare(other K) int }

// String is a Key in byte order.
type String string

// Compare compares bytes.
func (s String) Compare(other String) int { return strings.Compare(string(s), string(other)) }

// Tree maps keys to values. The zero Tree is empty. A Tree doesn't change, and any
// number of goroutines may use it, and begin an Edit of it, at once.
type Tree[K Key[K], V any] struct {
	root *node[K, V] // nil if it's empty
	len  int
}

// node is a leaf, or has a child before, between and behind its entries. Leaves
// are equally deep; only the root of an empty tree has no entries.
type node[K Key[K], V any] struct {
	owner    uint64 // the Edit that may change it
	entries  []entry[K, V]
	children []*node[K, V] // none in a leaf
}

type entry[K, V any] struct {
	key   K
	value V
}

// Len is how many keys there are.
func (t Tree[K, V]) Len() int { return t.len }

// Get returns the value of key.
func (t Tree[K, V]) Get(key K) (value V, ok bool) {
	for n := t.root; n != nil; {
		i, found := n.search(key)
		if found {
			return n.entries[i].value, true
		}
		if n.children == nil {
			break
		}
		n = n.children[i]
	}
	return value, false
}

// All yields everything in order.
func (t Tree[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root != nil {
			t.root.all(yield)
		}
	}
}

// From yields what isn't less than lower, in order.
func (t Tree[K, V]) From(lower K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if t.root != nil {
			t.root.from(lower, yield)
		}
	}
}

// search returns where the key is, or where it would be.
func (n *node[K, V]) search(key K) (i int, found bool) {
	low, high := 0, len(n.entries)
	for low < high {
		mid := int(uint(low+high) / 2)
		switch c := n.entries[mid].key.Compare(key); {
		case c == 0:
			return mid, true
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return low, false
}

// all and from report whether yield wants more.
func (n *node[K, V]) all(yield func(K, V) bool) bool {
	if n.children != nil && !n.children[0].all(yield) {
		return false
	}
	return n.rest(0, yield)
}

func (n *node[K, V]) from(lower K, yield func(K, V) bool) bool {
	i, found := n.search(lower)
	if n.children != nil && !found && !n.children[i].from(lower, yield) {
		return false
	}
	return n.rest(i, yield)
}

// rest yields the entries from i on, and what is behind each of them.
func (n *node[K, V]) rest(i int, yield func(K, V) bool) bool {
	for ; i < len(n.entries); i++ {
		if e := &n.entries[i]; !yield(e.key, e.value) {
			return false
		}
		if n.children != nil && !n.children[i+1].all(yield) {
			return false
		}
	}
	return true
}
