package journal_test

import (
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/internal/journal"
	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// TestWhatWasSyncedSurvivesAPowerCut plays at random until the power is cut,
// recovers until it's cut again, recovers, and looks at what is there.
func TestWhatWasSyncedSurvivesAPowerCut(t *testing.T) {
	for seed := range seeds(150) {
		synctest.Test(t, func(t *testing.T) { cutTwice(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func seeds(n uint64) uint64 {
	switch {
	case os.Getenv("OCI_SOAK") == "1":
		return n * 20
	case testing.Short():
		return n / 5
	}
	return n
}

// Two sync one file at once, and one of them hears that it has failed. It takes a few
// runs until they meet.
func TestFailureBesideAnotherSync(t *testing.T) {
	for range 25 {
		synctest.Test(t, func(t *testing.T) { failOnce(t, 133) })
		if t.Failed() {
			return
		}
	}
}

// TestOneFailureHarmsNothing makes one step fail, and goes on. In the end the power is cut.
func TestOneFailureHarmsNothing(t *testing.T) {
	for seed := range seeds(150) {
		synctest.Test(t, func(t *testing.T) { failOnce(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func failOnce(t *testing.T, seed uint64) {
	t.Helper()
	luck := rand.New(rand.NewPCG(seed, 2))
	m := newModel(t, luck, seed)
	m.goOn = true
	root := memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	at := luck.IntN(600)
	short := vfs.Short{Err: []error{syscall.EIO, syscall.ENOSPC}[luck.IntN(2)], Done: part(luck)}
	var mu sync.Mutex
	fail := func(s vfs.Step) error {
		mu.Lock()
		defer mu.Unlock()
		if at--; at != 0 || !s.Changes() && s.Op != "openfile" {
			return nil
		}
		m.note("    %s %s fails", s.Op, s.Name)
		return short
	}
	memory.FailSync(func(name string) error { return fail(vfs.Step{Op: "sync", Name: name}) })
	play(m, vfs.NewFaulty(memory, func(s vfs.Step) error {
		if s.Op == "sync" {
			return nil // see FailSync
		}
		return fail(s)
	}))
	left := memoryDir(t)
	chance := luck.Float64()
	check(t, memory.PowerCutKeeping(left, func() bool { return luck.Float64() < chance }))
	check(t, memory.Forget(), memory.Close(), os.RemoveAll(root))
	tree := must(vfs.Dir(left))(t)
	j := journal.New(tree, options("third"))
	check(t, j.Begin(m.verify))
	m.holds(tree)
	check(t, j.End(), j.Close(), os.RemoveAll(left))
}

func options(boot string) journal.Options {
	return journal.Options{Limit: 24 << 10, After: time.Minute, Boot: boot}
}

func newModel(t *testing.T, luck *rand.Rand, seed uint64) *model {
	m := &model{
		t: t, luck: luck,
		names: make(map[string]binding), open: make(map[string]vfs.File), doubted: make(map[string]bool),
	}
	m.note("seed %d", seed)
	return m
}

func cutTwice(t *testing.T, seed uint64) {
	t.Helper()
	luck := rand.New(rand.NewPCG(seed, 1))
	m := newModel(t, luck, seed)
	root := powerCut(t, luck, memoryDir(t), luck.Int64N(400), func(fsys vfs.FS) {
		play(m, fsys)
	})
	root = powerCut(t, luck, root, luck.Int64N(40), func(fsys vfs.FS) {
		j := journal.New(fsys, options("second"))
		_ = j.Begin(m.verify)
		_ = j.End()
	})
	tree := must(vfs.Dir(root))(t)
	j := journal.New(tree, options("third"))
	check(t, j.Begin(m.verify))
	m.holds(tree)
	check(t, j.End())
	m.holds(tree)
	check(t, j.Close(), os.RemoveAll(root))
}

// play does things until the world stops, or for long enough.
func play(m *model, fsys vfs.FS) {
	j := journal.New(fsys, options("first"))
	defer func() {
		if !m.goOn {
			_ = j.End()
		}
		for _, f := range m.open {
			_ = f.Close()
		}
	}()
	if !m.check(j.Begin(func(string) error { return nil })) {
		return
	}
	m.fs = j
	for range 300 {
		if m.luck.IntN(30) == 0 {
			m.note("time passes")
			time.Sleep(2 * time.Minute) // of the bubble's clock
			synctest.Wait()
		}
		if m.luck.IntN(60) == 0 && !m.again(j) {
			return
		}
		if !m.mkdirs() && !m.goOn || !m.do() {
			return
		}
	}
}

// again ends the journal and begins it anew.
func (m *model) again(j *journal.FS) bool {
	m.note("end and begin")
	return m.check(j.End()) && m.check(j.Begin(func(string) error { return nil }))
}

// powerCut lets something happen in a root until a number of steps is done, and
// returns what is left, in which some of what wasn't synced survives.
func powerCut(t *testing.T, luck *rand.Rand, root string, steps int64, happen func(vfs.FS)) (left string) {
	t.Helper()
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	fuse := vfs.NewFuse(memory, steps)
	fuse.Torn = part(luck)
	happen(fuse)
	left = memoryDir(t)
	chance := luck.Float64()
	check(t, memory.PowerCutKeeping(left, func() bool { return luck.Float64() < chance }))
	check(t, memory.Forget(), memory.Close(), os.RemoveAll(root))
	return left
}

// part is how much is done of a write of n bytes. It's drawn beforehand: writes
// come from the journal's goroutines too.
func part(luck *rand.Rand) func(n int) int {
	share := luck.Float64()
	return func(n int) int { return int(share * float64(n+1)) }
}
