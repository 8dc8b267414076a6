package btree

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// number is a Key.
type number int

func (n number) Compare(other number) int { return int(n) - int(other) }

type (
	tree  = Tree[number, int]
	model = map[number]int
)

// FuzzTree does the same to a tree and to a map, and looks at trees of earlier
// moments again. Four bytes are a step: at which key it begins, with how many more
// keys it goes on, how far they are from each other, and whether they're set or deleted.
func FuzzTree(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1})
	for _, apart := range []byte{1, 2, 7, 1<<7 - 1} {
		var sets, deletes []byte
		for i := range byte(12) {
			sets = append(sets, i*21, i*67, 255, apart<<1)
			deletes = append(deletes, i*45, i*67, 255, apart<<1|1)
		}
		f.Add(sets)
		f.Add(slices.Concat(sets, deletes))
		f.Add(slices.Concat(sets, deletes[:16], sets[8:], deletes[24:]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 64 // steps
		var e Edit[number, int]
		is := make(model)
		var trees []tree
		var models []model
		for step := range slices.Chunk(data[:min(len(data), 4*most)/4*4], 4) {
			key := number(step[0]) | number(step[1]&15)<<8
			for i := range int(step[2]) + 1 {
				if step[3]&1 == 0 {
					old, had := e.Set(key, i)
					same(t, is, key, old, had)
					is[key] = i
				} else {
					old, had := e.Delete(key)
					same(t, is, key, old, had)
					delete(is, key)
				}
				key = (key + number(step[3]>>1)) % (1 << 12)
			}
			trees, models = append(trees, e.Tree()), append(models, maps.Clone(is))
		}
		for i := range trees {
			check(t, trees[i], models[i])
		}
	})
}

func same(t *testing.T, is model, key number, old int, had bool) {
	t.Helper()
	if want, ok := is[key]; ok != had || want != old {
		t.Fatalf("%d was %d %t, want %d %t", key, old, had, want, ok)
	}
}

// check compares a tree with the map that it should be.
func check(t *testing.T, is tree, want model) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	if is.Len() != len(keys) {
		t.Fatalf("%d keys, want %d", is.Len(), len(keys))
	}
	var got []number
	for k, v := range is.All() {
		if v != want[k] {
			t.Fatalf("%d is %d, want %d", k, v, want[k])
		}
		got = append(got, k)
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("keys are %v, want %v", got, keys)
	}
	for i, k := range keys {
		if v, ok := is.Get(k); !ok || v != want[k] {
			t.Fatalf("%d is %d %t, want %d", k, v, ok, want[k])
		}
		_, next := want[k+1]
		if _, ok := is.Get(k + 1); ok != next {
			t.Fatalf("%d is there: %t", k+1, ok)
		}
		if i%(1+len(keys)/50) == 0 {
			from(t, is, k, keys[i:])
			from(t, is, k+1, keys[i+1:])
		}
	}
	if is.root != nil {
		shape(t, is.root, true)
	}
}

// from looks at no more than a few of what should be all from lower on.
func from(t *testing.T, is tree, lower number, want []number) {
	t.Helper()
	const few = 3
	var got []number
	for k := range is.From(lower) {
		if got = append(got, k); len(got) == few {
			break
		}
	}
	if !slices.Equal(got, want[:min(few, len(want))]) {
		t.Fatalf("from %d there are %v, want %v", lower, got, want[:min(few, len(want))])
	}
}

// shape returns how deep a node is that is as it should be.
func shape(t *testing.T, n *node[number, int], root bool) int {
	t.Helper()
	if empty := root && n.children == nil; len(n.entries) > most || len(n.entries) == 0 && !empty {
		t.Fatalf("a node has %d entries", len(n.entries))
	}
	if n.children == nil {
		return 1
	}
	if len(n.children) != len(n.entries)+1 {
		t.Fatalf("%d children beside %d entries", len(n.children), len(n.entries))
	}
	deep := shape(t, n.children[0], false)
	for _, c := range n.children[1:] {
		if shape(t, c, false) != deep {
			t.Fatal("leaves aren't equally deep")
		}
	}
	return 1 + deep
}

// In whatever order keys come and go: up, down, and mixed.
func TestGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	const count = 20_000
	orders := map[string]func(i int) number{
		"up":    func(i int) number { return number(i) },
		"down":  func(i int) number { return number(count - 1 - i) },
		"mixed": func(i int) number { return number(i * 7919 % count) },
	}
	for grows, in := range orders {
		for shrinks, out := range orders {
			var e Edit[number, int]
			is := make(model)
			for i := range count {
				e.Set(in(i), i)
				is[in(i)] = i
			}
			check(t, e.Tree(), is)
			for i := range count {
				if old, had := e.Delete(out(i)); !had || old != is[out(i)] {
					t.Fatalf("grown %s, shrunk %s: %d was %d %t", grows, shrinks, out(i), old, had)
				}
				if delete(is, out(i)); i%(count/5) == 0 {
					check(t, e.Tree(), is)
				}
			}
			check(t, e.Tree(), is)
		}
	}
}

// Under the race detector: who reads a tree, and who changes copies of it, need no lock.
func TestReadersAndEditsOfOneTree(t *testing.T) {
	t.Parallel()
	var e Edit[number, int]
	want := make(model)
	for i := range 5000 {
		e.Set(number(i), i)
		want[number(i)] = i
	}
	one := e.Tree()
	var all sync.WaitGroup
	for seed := range uint64(4) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			own, has := one.Edit(), maps.Clone(want)
			for range 3000 {
				k := number(random.IntN(10_000))
				if k%2 == 0 {
					own.Set(k, -1)
					has[k] = -1
				} else {
					own.Delete(k)
					delete(has, k)
				}
			}
			check(t, own.Tree(), has)
			check(t, one, want)
		})
	}
	all.Go(func() { e.Set(-1, -1) })
	all.Wait()
	check(t, one, want)
}

// A change copies no more than a path, and where there's nothing to delete nothing.
func TestWhatIsSharedWithTheTreeBefore(t *testing.T) {
	t.Parallel()
	var e Edit[number, int]
	for i := range 100_000 {
		e.Set(number(i*7919%100_000), i)
	}
	before := e.Tree()
	nodes := make(map[*node[number, int]]bool)
	var count func(n *node[number, int]) (others int)
	count = func(n *node[number, int]) (others int) {
		if nodes[n] {
			return 0
		}
		nodes[n] = true
		others = 1
		for _, c := range n.children {
			others += count(c)
		}
		return others
	}
	count(before.root)
	e.Delete(-1)
	if after := e.Tree(); after != before {
		t.Error("deleting nothing has changed it")
	}
	for _, change := range []func(){func() { e.Set(50_000, -1) }, func() { e.Set(100_000, -1) }, func() { e.Delete(12_345) }} {
		change()
		if n := count(e.Tree().root); n == 0 || n > 6 {
			t.Errorf("a change made %d nodes", n)
		}
	}
}
