package filesystem_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// soak reports whether tests are to be of their full size.
func soak() bool { return os.Getenv("OCI_SOAK") == "1" }

// TestPowerCutsThatKeepSomething cut the power at some step, and once more while
// the store recovers from that. Of what wasn't synced any part survives, by
// luck: each run has a seed, which a failure names. The soak has each step, and
// many seeds.
func TestPowerCutsThatKeepSomething(t *testing.T) {
	seeds, stride := uint64(1), int64(5)
	if soak() {
		seeds, stride = 40, 1
	}
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, runs := int64(0), 0
			for blown := true; blown; steps += stride {
				for seed := range seeds {
					blown = replay(t, func(t *testing.T) bool {
						u := unlucky{t: t, opts: opts, script: script(t), steps: steps, seed: seed}
						return u.play()
					})
					runs++
				}
			}
			t.Logf("the power was cut in %d runs, in each %d of %d steps", runs, stride, steps)
		})
	}
}

// unlucky is a script that two power cuts end.
type unlucky struct {
	t      *testing.T
	opts   filesystem.Options
	script []*act
	steps  int64 // until the first one
	seed   uint64

	luck *rand.Rand
	at   string    // what the power cuts came into
	may  []meaning // what may be there
}

// play returns false if the script came to its end before the first power cut.
func (u *unlucky) play() bool {
	u.t.Helper()
	defer func() {
		if u.t.Failed() {
			u.t.Logf("cut after %d steps, in %s; seed %d", u.steps, u.at, u.seed)
		}
	}()
	u.luck = rand.New(rand.NewPCG(u.seed, uint64(u.steps)))
	var blown bool
	root := u.cut(memoryDir(u.t), u.steps, func(p *theatre) {
		at, before, after := p.play(u.t, u.script)
		u.at, u.may = at, []meaning{before, after}
		blown = p.dead()
	})
	root = u.cut(root, u.luck.Int64N(60), u.recovers)
	withReserve(u.t, root)
	s := open(u.t, root, filesystem.AfterReboot(u.opts))
	u.look(s, never)
	if err := put(u.t.Context(), repository(u.t, s, "a/b"), image(u.t, "at last"), "last"); err != nil && !u.isBroken(err) {
		u.t.Fatalf("push at last: %v", err)
	}
	shut(u.t, s)
	check(u.t, os.RemoveAll(root))
	return blown
}

// cut lets something happen in a root until the power is cut, and returns the
// root that's left, in the place of the other one.
func (u *unlucky) cut(root string, steps int64, happen func(*theatre)) (left string) {
	u.t.Helper()
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(u.t)))(u.t)
	withReserve(u.t, root)
	fuse := vfs.NewFuse(memory, steps)
	share := u.luck.Float64() // drawn here: writes come from other goroutines too
	fuse.Torn = func(n int) int { return int(share * float64(n+1)) }
	happen(&theatre{filesystem.AfterReboot(u.opts), fuse, fuse.Blown})
	check(u.t, os.Remove(root+"/_reserve")) // it would only take time
	left = memoryDir(u.t)
	chance := u.luck.Float64()
	check(u.t, memory.PowerCutKeeping(left, func() bool { return u.luck.Float64() < chance }))
	check(u.t, memory.Forget(), memory.Close(), os.RemoveAll(root))
	return left
}

// recovers opens what's left, reads it and pushes to it.
func (u *unlucky) recovers(p *theatre) {
	u.t.Helper()
	u.at += ", and in the recovery"
	s, err := p.open()
	if err == nil {
		u.goOn(p, s)
		err = s.Close()
	}
	if !p.dead() && err != nil {
		u.t.Fatalf("recover: %v", err)
	}
}

func (u *unlucky) goOn(p *theatre, s *filesystem.Store) {
	u.t.Helper()
	if got, ok := u.look(s, p.dead); ok {
		u.may = []meaning{got}
	} else if p.dead() {
		return
	}
	more := putAct("a/b", image(u.t, "more"), "more")
	err := more.do(u.t.Context(), s)
	after := make([]meaning, 0, len(u.may))
	for _, m := range u.may {
		m = maps.Clone(m)
		more.then(m)
		after = append(after, m)
	}
	switch {
	case p.dead():
		u.may = append(u.may, after...)
	case err == nil:
		u.may = after
	case !u.isBroken(err):
		u.t.Fatalf("push: %v", err)
	}
}

// look returns what is there, and whether that could be read to its end. It has
// to be something that may be there. If nobody syncs anything may be, and
// nothing is returned, but what is there has to be what it's called.
func (u *unlucky) look(s storage.Store, dead func() bool) (meaning, bool) {
	u.t.Helper()
	if u.opts.Unsynced {
		if err := honest(u.t.Context(), s); err != nil && !dead() && !u.isBroken(err) {
			u.t.Fatalf("%v", err)
		}
		return nil, false
	}
	got, err := meaningOf(u.t.Context(), s)
	if dead() {
		return nil, false
	}
	if err != nil {
		u.t.Fatalf("%v", err)
	}
	for _, m := range u.may {
		without(u.t, s, m, got)
	}
	if dead() {
		return nil, false
	}
	if !slices.ContainsFunc(u.may, func(m meaning) bool { return maps.Equal(m, got) }) {
		u.t.Fatalf("there is %v,\nwant one of %v", got, u.may)
	}
	return got, true
}

// honest fails if a name stands for what isn't there, or a digest for other bytes
// than its own. Blobs may be missing: who pushes the image again brings them.
func honest(ctx context.Context, s storage.Store) error {
	for _, name := range []string{"a/b", "other"} {
		r := named(s, name)
		idx, err := r.Index(ctx)
		if errors.Is(err, oci.NameUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		for desc := range idx.Manifests() {
			if err := wholeBut(ctx, r, desc, oci.BlobUnknown); err != nil {
				return err
			}
		}
		for tag := range idx.Tags(oci.Tag{}) {
			if _, err := r.Resolve(ctx, oci.TagRef(tag)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isBroken reports whether names were lost, which may be only if nobody syncs.
func (u *unlucky) isBroken(err error) bool {
	return u.opts.Unsynced && errors.Is(err, storage.ErrBroken)
}
