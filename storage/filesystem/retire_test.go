package filesystem_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// logging are the ways to write with a log.
func logging() map[string]filesystem.Options {
	return map[string]filesystem.Options{
		"journal":  {LogFrom: 1},
		"direct":   {LogFrom: 1, Direct: true},
		"unsynced": {LogFrom: 1, Unsynced: true},
	}
}

// retirement empties a repository, of which only the log says that, and retires it.
func retirement(t testing.TB) []*act {
	t.Helper()
	x := digest.FromString("x")
	v1, v2 := image(t, "v1", x), image(t, "v2")
	return []*act{
		blobAct("a/b", "x"),
		putAct("a/b", v1, "v1"),
		nil, // index.json has it now, and so has the copy
		putAct("a/b", v2, "v2"),
		deleteAct("a/b", v1), deleteAct("a/b", v2),
		dropAct(v1.Digest), dropAct(v2.Digest), dropAct(x),
		{"retire", func(ctx context.Context, s storage.Store) error {
			_, err := retire(ctx, s)
			return err
		}, func(meaning) {}},
	}
}

func retire(ctx context.Context, s storage.Store) (bool, error) {
	c, ok := storage.As[storage.Collectable](named(s, "a/b"))
	if !ok {
		panic("not collectable")
	}
	return c.Retire(ctx)
}

// trial is a repository of which only the log says that it's empty, until it's retired.
type trial struct {
	t      *testing.T
	root   string
	memory *vfs.Forgetful
	store  *filesystem.Store
	before atomic.Pointer[func(vfs.Step) error] // called before each change of the tree, if it isn't nil
}

func newTrial(t *testing.T, opts filesystem.Options) *trial {
	t.Helper()
	tr := &trial{t: t, root: memoryDir(t)}
	tr.memory = must(vfs.NewForgetful(must(vfs.Dir(tr.root))(t)))(t)
	withReserve(t, tr.root)
	p := &theatre{opts, vfs.NewFaulty(tr.memory, tr.step), never}
	acts := retirement(t)
	tr.store = must(p.open())(t)
	for _, a := range acts[:len(acts)-1] {
		if a != nil {
			check(t, a.do(t.Context(), tr.store))
			continue
		}
		check(t, tr.store.Close())
		tr.store = must(p.open())(t)
	}
	return tr
}

func (tr *trial) step(s vfs.Step) error {
	if before := tr.before.Load(); before != nil && s.Changes() {
		return (*before)(s)
	}
	return nil
}

// retire retires the repository. From one step on changes fail, so many of them.
func (tr *trial) retire(from, failures int64) (failed bool, err error) {
	var done atomic.Int64
	fail := func(vfs.Step) error {
		if n := done.Add(1) - 1 - from; n >= 0 && n < failures {
			return syscall.EIO
		}
		return nil
	}
	tr.before.Store(&fail)
	_, err = retire(tr.t.Context(), tr.store)
	return done.Load() > from, err
}

// kill closes a store whose tree doesn't change any more.
func (tr *trial) kill() { _ = tr.store.Close() }

// end gives back what the trial has used.
func (tr *trial) end() {
	check(tr.t, tr.memory.Forget(), tr.memory.Close(), os.RemoveAll(tr.root))
}

// wantEmpty opens what is left in a root, in which nothing may have come back, and pushes
// to the repository.
func wantEmpty(t *testing.T, left string, opts filesystem.Options, when string) {
	t.Helper()
	s := open(t, left, opts)
	if got, err := meaningOf(t.Context(), s); err != nil || len(got) > 0 {
		t.Errorf("%s there is %v, %v", when, got, err)
	}
	if err := put(t.Context(), repository(t, s, "a/b"), image(t, "more"), "more"); err != nil {
		t.Errorf("push when it was %s: %v", when, err)
	}
	shut(t, s)
}

// eachStep calls a run for each step of a retirement, until one returns false: there's no
// such step.
func eachStep(t *testing.T, all map[string]filesystem.Options, run func(t *testing.T, opts filesystem.Options, step int64) bool) {
	t.Helper()
	t.Parallel()
	for name, opts := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			step := int64(0)
			for replay(t, func(t *testing.T) bool { return run(t, opts, step) }) {
				step++
			}
			t.Logf("%d steps", step)
		})
	}
}

// Nothing that was deleted comes back, and the repository can be pushed to, at whichever
// step a process is killed.
func TestKilledRetiring(t *testing.T) {
	eachStep(t, logging(), func(t *testing.T, opts filesystem.Options, step int64) bool {
		tr := newTrial(t, opts)
		killed, _ := tr.retire(step, math.MaxInt64)
		tr.kill()
		wantEmpty(t, tr.root, opts, fmt.Sprint("killed at step ", step))
		tr.end()
		return killed
	})
}

// So it is when the power is cut, whatever of what wasn't synced survives that.
func TestPowerCutRetiring(t *testing.T) {
	all := logging()
	delete(all, "unsynced")
	seeds := uint64(8)
	if soak() {
		seeds = 200
	}
	eachStep(t, all, func(t *testing.T, opts filesystem.Options, step int64) bool {
		opts = filesystem.AfterReboot(opts)
		tr := newTrial(t, opts)
		killed, _ := tr.retire(step, math.MaxInt64)
		tr.kill()
		tr.cut(opts, seeds, fmt.Sprint("at step ", step))
		tr.end()
		return killed
	})
}

// cut cuts the power, and has any part survive of what wasn't synced.
func (tr *trial) cut(opts filesystem.Options, seeds uint64, when string) {
	tr.t.Helper()
	for seed := range seeds {
		luck := rand.New(rand.NewPCG(seed, 7))
		left := memoryDir(tr.t)
		withReserve(tr.t, left)
		check(tr.t, tr.memory.PowerCutKeeping(left, func() bool { return luck.Uint64N(seeds) < seed }))
		wantEmpty(tr.t, left, opts, fmt.Sprintf("cut %s, with seed %d,", when, seed))
		check(tr.t, os.RemoveAll(left))
	}
}

// A sync that failed isn't missed when the repository is retired after all.
func TestPowerCutRetiringAgain(t *testing.T) {
	all := logging()
	delete(all, "unsynced")
	eachStep(t, all, func(t *testing.T, opts filesystem.Options, step int64) bool {
		opts = filesystem.AfterReboot(opts)
		tr := newTrial(t, opts)
		failed, _ := tr.retire(step, 1)
		var dead atomic.Bool
		die := func(s vfs.Step) error {
			if s.Op == "remove" && s.Name == "a/b/oci-layout" || dead.Load() {
				dead.Store(true)
				return syscall.EIO
			}
			return nil
		}
		tr.before.Store(&die)
		_, _ = retire(t.Context(), tr.store)
		tr.kill()
		tr.cut(opts, 8, fmt.Sprintf("when step %d had failed", step))
		tr.end()
		return failed
	})
}

// TestPowerCutsRetiring cut the power again in the recovery.
func TestPowerCutsRetiring(t *testing.T) {
	t.Parallel()
	seeds, stride := uint64(1), int64(5)
	if soak() {
		seeds, stride = 40, 1
	}
	for name, opts := range logging() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for steps, blown := int64(0), true; blown; steps += stride {
				for seed := range seeds {
					blown = replay(t, func(t *testing.T) bool {
						u := unlucky{t: t, opts: opts, script: retirement(t), steps: steps, seed: seed}
						return u.play()
					})
				}
			}
		})
	}
}

// A disk that fails once or twice, at whichever step, does no harm: what is pushed next is
// there after a crash, and nothing else.
func TestPushAfterRetiringFails(t *testing.T) {
	for _, failures := range []int64{1, 2} {
		t.Run(fmt.Sprint(failures), func(t *testing.T) {
			eachStep(t, logging(), func(t *testing.T, opts filesystem.Options, step int64) bool {
				tr := newTrial(t, opts)
				failed, err := tr.retire(step, failures)
				tr.before.Store(nil)
				more := image(t, "more")
				repository(t, tr.store, "a/b").push(more, "more")
				left := snapshot(t, tr.root)
				heir := open(t, left, opts)
				r := repository(t, heir, "a/b")
				if got := r.tags(); len(got) != 1 || got["more"] != more.Digest {
					t.Errorf("after step %d fails (%v) there is %v", step, err, got)
				}
				shut(t, heir)
				check(t, tr.store.Close())
				tr.end()
				return failed
			})
		})
	}
}

// Once it's left alone nothing has come back either, and who tries again retires it.
func TestRetiringFails(t *testing.T) {
	eachStep(t, logging(), func(t *testing.T, opts filesystem.Options, step int64) bool {
		tr := newTrial(t, opts)
		failed, err := tr.retire(step, 1)
		tr.before.Store(nil)
		settle()
		wantEmpty(t, snapshot(t, tr.root), opts, fmt.Sprintf("after step %d fails (%v)", step, err))
		if gone, gerr := retire(t.Context(), tr.store); !gone || gerr != nil {
			t.Errorf("after step %d fails (%v): retired %v, %v", step, err, gone, gerr)
		}
		wantCatalog(t, tr.store)
		check(t, tr.store.Close())
		tr.end()
		return failed
	})
}

// A blob may come while its repository is retired: it stays, in a repository that has no
// manifest, even if the process is killed then.
func TestBlobComesWhileRetiring(t *testing.T) {
	y := digest.FromString("y")
	eachStep(t, logging(), func(t *testing.T, opts filesystem.Options, step int64) bool {
		tr := newTrial(t, opts)
		var done atomic.Int64
		var come sync.Once
		die := func(vfs.Step) error {
			if done.Load() == 0 && exists(t, tr.root, "a/b/blobs") {
				return nil
			}
			come.Do(func() {
				check(t, os.MkdirAll(filepath.Dir(blobFile(tr.root, "a/b", y)), 0o700))
				write(t, "y", blobFile(tr.root, "a/b", y))
			})
			if done.Add(1) > step {
				return syscall.EIO
			}
			return nil
		}
		tr.before.Store(&die)
		_, _ = retire(t.Context(), tr.store)
		killed := done.Load() > step
		tr.kill()
		wantEmpty(t, tr.root, opts, fmt.Sprint("killed at step ", step))
		s := open(t, tr.root, opts)
		repository(t, s, "a/b").wantBlob("y")
		shut(t, s)
		tr.end()
		return killed
	})
}

// A repository whose folder somebody has removed doesn't miss its index.json after a power
// cut, when a blob has come since.
func TestPowerCutAfterRemovalByOthers(t *testing.T) {
	all := logging()
	delete(all, "unsynced")
	for name, opts := range all {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				opts = filesystem.AfterReboot(opts)
				tr := newTrial(t, opts)
				r := repository(t, tr.store, "a/b")
				r.push(image(t, "v1"), "v1")
				settle() // the copy has it
				check(t, os.RemoveAll(filepath.Join(tr.root, "a/b")))
				r.pushBlob("y")
				for seed := range uint64(400) {
					luck := rand.New(rand.NewPCG(seed, 7))
					left := memoryDir(t)
					withReserve(t, left)
					check(t, tr.memory.PowerCutKeeping(left, func() bool { return luck.Uint64N(400) < seed }))
					s := open(t, left, opts)
					repository(t, s, "a/b").push(image(t, "more"), "more")
					shut(t, s)
					check(t, os.RemoveAll(left))
				}
				tr.kill()
				tr.end()
			})
		})
	}
}
