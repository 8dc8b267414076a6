package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// rot damages a file without a trace: its time stays as it was.
func rot(t testing.TB, name string) {
	t.Helper()
	fi := must(os.Stat(name))(t)
	check(t, os.Chmod(name, 0o600))
	f := must(os.OpenFile(name, os.O_RDWR, 0))(t)
	var b [1]byte
	must(f.ReadAt(b[:], fi.Size()/2))(t)
	b[0] ^= 1
	must(f.WriteAt(b[:], fi.Size()/2))(t)
	check(t, f.Close(), os.Chmod(name, fi.Mode()), os.Chtimes(name, fi.ModTime(), fi.ModTime()))
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Quarantine(t, func(t *testing.T) (storage.Store, storagetest.Damage) {
				root := t.TempDir()
				return open(t, root, opts), func(t testing.TB, in oci.Name, d digest.Digest) {
					rot(t, blobFile(root, in.String(), d))
				}
			})
		})
	}
}

// quarantine has a blob looked at again.
func (r repo) quarantine(d digest.Digest, want storage.Outcome) {
	r.t.Helper()
	q, _ := r.Repository.(storage.Quarantiner)
	if got := must(q.Quarantine(r.t.Context(), d))(r.t); got != want {
		r.t.Fatalf("the blob is %s, want %s", got, want)
	}
}

func (r repo) quarantined() (all []digest.Digest) {
	r.t.Helper()
	q, _ := r.Repository.(storage.Quarantiner)
	for d, err := range q.Quarantined(r.t.Context()) {
		check(r.t, err)
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

// vouch has all that a repository holds vouched for, as if it had been read.
func (r repo) vouch() {
	r.t.Helper()
	q, _ := r.Repository.(storage.Quarantiner)
	for c, err := range q.Contents(r.t.Context()) {
		check(r.t, err, q.Vouch(r.t.Context(), c))
	}
}

// A file that's linked under a wrong name too stays what its right name says.
func TestQuarantineOfAWrongName(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	r := repository(t, s, "a")
	content := large("right")
	right, wrong := r.pushBlob(content), r.pushBlob(large("other"))
	check(t, os.Remove(blobFile(root, "a", wrong)), os.Link(blobFile(root, "a", right), blobFile(root, "a", wrong)))
	r.quarantine(wrong, storage.Replaced) // the pool still has it
	r.wantBlob(content)
	r.wantBlob(large("other"))
	r.quarantine(right, storage.Sound)
	repository(t, s, "b").pushBlob(content)
	if !same(t, blobFile(root, "a", right), blobFile(root, "b", right)) {
		t.Fatal("the right one isn't shared")
	}
}

func TestQuarantineOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	r, b := repository(t, s, "a/b"), repository(t, s, "b")
	content := large("layer")
	layer := r.pushBlob(content)
	m := image(t, "m", layer)
	r.push(m, "v1")
	b.pushBlob(content)
	b.push(image(t, "b's", layer), "v1")
	rot(t, blobFile(root, "a/b", layer))
	rot(t, blobFile(root, "a/b", m.Digest))
	r.quarantine(layer, storage.Taken)
	r.quarantine(m.Digest, storage.Taken)
	b.wantNoBlob(layer) // it has the same file
	shut(t, s)

	s = open(t, root, filesystem.Options{})
	r, b = repository(t, s, "a/b"), repository(t, s, "b")
	r.wantNoBlob(layer)
	r.wantNone("v1", m.Digest.String())
	r.wantTags("v1")
	want := []digest.Digest{layer, m.Digest}
	slices.Sort(want)
	if got := r.quarantined(); !slices.Equal(got, want) {
		t.Fatalf("in quarantine are %v, want %v", got, want)
	}
	wantSwept(t, swept(t, s, time.Now().Add(time.Hour), false)) // bad bytes stay as long as there are no others
	b.quarantine(layer, storage.Taken)
	r.pushBlob(content)
	r.push(m, "v2")
	r.want("v1", m)
	r.wantBlob(content)
	wantSwept(t, swept(t, s, time.Now().Add(time.Hour), false),
		"leftover _repos/a,b/_quarantine/sha256-"+layer.Encoded(), "leftover _repos/a,b/_quarantine/sha256-"+m.Digest.Encoded())
	if got := r.quarantined(); len(got) > 0 || exists(t, root, "_repos/a,b/_quarantine") {
		t.Fatalf("in quarantine are %v", got)
	}
	b.pushBlob(content)
	if !same(t, blobFile(root, "a/b", layer), blobFile(root, "b", layer)) {
		t.Fatal("what came again isn't shared")
	}
}

func TestQuarantineOfARepositoryThatIsGone(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, watchful)
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	rot(t, blobFile(root, "a", d))
	r.quarantine(d, storage.Taken)
	check(t, os.RemoveAll(filepath.Join(root, "a")))
	wantSwept(t, swept(t, s, time.Now().Add(time.Hour), false), "leftover _repos/a/_quarantine/sha256-"+d.Encoded())
}

// unshared makes a file one of its own.
func unshared(t *testing.T, name string) {
	t.Helper()
	content := read(t, name)
	check(t, os.Remove(name))
	write(t, content, name)
	check(t, os.Chmod(name, 0o444))
}

func TestQuarantineTakesAnotherFileOfThePool(t *testing.T) {
	t.Parallel()
	for name, poolIsBad := range map[string]bool{"right": false, "bad as well": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, filesystem.Options{})
			a, b := repository(t, s, "a"), repository(t, s, "b")
			content := large("layer")
			d := a.pushBlob(content)
			b.pushBlob(content)
			unshared(t, blobFile(root, "a", d))
			rot(t, blobFile(root, "a", d))
			if poolIsBad {
				rot(t, poolFile(root, d))
				a.quarantine(d, storage.Taken)
				if exists(t, poolFile(root, d)) {
					t.Fatal("the pool has it still")
				}
				a.pushBlob(content)
				b.quarantine(d, storage.Replaced) // by what a has given the pool
			} else {
				a.quarantine(d, storage.Replaced)
			}
			a.wantBlob(content)
			b.wantBlob(content)
			if !same(t, blobFile(root, "a", d), poolFile(root, d)) {
				t.Fatal("it isn't the pool's")
			}
			if got := a.quarantined(); len(got) > 0 {
				t.Fatalf("%v wait for other bytes", got)
			}
		})
	}
}

// Two repositories share a file that rots, and one of them gets a good copy, as does the
// pool. Whoever brings the blob to the other one brings it, although the bad one has the
// name still.
func TestGoodCopyOverABadOneOfThePool(t *testing.T) {
	t.Parallel()
	content := large("layer")
	for name, bring := range map[string]func(t *testing.T, a, b repo){
		"pushed": func(_ *testing.T, _, b repo) { b.pushBlob(content) },
		"mounted": func(t *testing.T, a, b repo) {
			t.Helper()
			must(b.MountBlob(t.Context(), digestOf(content), a.Name()))(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, filesystem.Options{})
			a, b := repository(t, s, "a"), repository(t, s, "b")
			d := a.pushBlob(content)
			b.pushBlob(content)
			rot(t, blobFile(root, "b", d))
			a.quarantine(d, storage.Taken)
			a.pushBlob(content)
			bring(t, a, b)
			b.wantBlob(content)
		})
	}
}

func TestQuarantineSurvivesAPowerCut(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				steps, stride := int64(0), int64(5)
				if soak() {
					stride = 1
				}
				root, m := rottenRoot(t)
				for cutQuarantine(t, opts, root, m, steps) {
					steps += stride
				}
				t.Logf("the power was cut at each %d of %d steps", stride, steps)
			})
		})
	}
}

// rottenRoot has an image of which all is damaged.
func rottenRoot(t *testing.T) (string, oci.Manifest) {
	t.Helper()
	root := memoryDir(t)
	s := open(t, root, filesystem.Options{Direct: true})
	r := repository(t, s, "a")
	m := image(t, "m", r.pushBlob(large("layer")), r.pushBlob("small"))
	r.push(m, "v1")
	shut(t, s)
	for _, d := range []digest.Digest{m.Digest, m.Blobs[0].Digest, m.Blobs[1].Digest} {
		rot(t, blobFile(root, "a", d))
	}
	return root, m
}

// cutQuarantine cuts the power after some steps of a quarantine, and a push that
// heals. It returns false when all came to its end.
func cutQuarantine(t *testing.T, opts filesystem.Options, rotten string, m oci.Manifest, steps int64) bool {
	t.Helper()
	root, left := snapshot(t, rotten), memoryDir(t)
	withReserve(t, root)
	bad := []digest.Digest{m.Digest, m.Blobs[0].Digest, m.Blobs[1].Digest}
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	fuse := vfs.NewFuse(memory, steps)
	p := &theatre{filesystem.AfterReboot(opts), fuse, fuse.Blown}
	taken, healed := p.quarantineAndHeal(t, m, bad)
	check(t, memory.PowerCut(left), memory.Forget(), memory.Close(), os.RemoveAll(root))

	withReserve(t, left)
	s := open(t, left, filesystem.AfterReboot(opts))
	r := repository(t, s, "a")
	for i, d := range bad {
		err := readBlob(t.Context(), r, d)
		if healed && err != nil || i < taken && err != nil && !errors.Is(err, oci.BlobUnknown) {
			t.Fatalf("cut after %d steps: %d taken, healed: %v: %v", steps, taken, healed, err)
		}
	}
	r.wantTags("v1")
	shut(t, s)
	check(t, os.RemoveAll(left))
	return fuse.Blown()
}

// quarantineAndHeal returns what was acknowledged.
func (p *theatre) quarantineAndHeal(t *testing.T, m oci.Manifest, bad []digest.Digest) (taken int, healed bool) {
	t.Helper()
	s, err := p.open()
	if err != nil {
		return 0, false
	}
	defer func() { _ = s.Close() }() // the fuse may be blown
	r := repository(t, s, "a")
	q, _ := r.Repository.(storage.Quarantiner)
	for _, d := range bad {
		if _, err = q.Quarantine(t.Context(), d); err != nil || p.dead() {
			return taken, false
		}
		taken++
	}
	for _, content := range []string{large("layer"), "small"} {
		if _, err := pushBlob(t.Context(), r, content); err != nil {
			return taken, false
		}
	}
	err = storage.PutManifest(t.Context(), r, m, storage.PutOptions{})
	return taken, err == nil && !p.dead()
}

// What can't be read at the moment isn't bad.
func TestQuarantineOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var failing atomic.Bool
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if failing.Load() && step.Op == "read" {
			return syscall.EIO
		}
		return nil
	})
	r := repository(t, s, "a")
	d := r.pushBlob(large("x"))
	failing.Store(true)
	if _, err := r.Repository.(storage.Quarantiner).Quarantine(t.Context(), d); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v, want EIO", err)
	}
	failing.Store(false)
	r.wantBlob(large("x"))
}

func TestQuarantineWaitsForARestore(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, watchful)
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	r.push(image(t, "m", d), "v1")
	write(t, "", root, "a/index.json")
	rot(t, blobFile(root, "a", d))
	if _, err := r.Repository.(storage.Quarantiner).Quarantine(t.Context(), d); !errors.Is(err, storage.ErrBroken) {
		t.Fatalf("error %v, want ErrBroken", err)
	}
	if !exists(t, blobFile(root, "a", d)) {
		t.Fatal("it was moved")
	}
}

// A manifest that's lost may come again, and needs its blobs then.
func TestBlobsOfALostManifestStay(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := repository(t, open(t, root, watchful), "a")
	d := r.pushBlob("x")
	m := r.push(image(t, "m", d), "v1")
	rot(t, blobFile(root, "a", m))
	r.quarantine(m, storage.Taken)
	if err := storage.DeleteBlob(t.Context(), r, d, ""); !errors.Is(err, oci.Denied) {
		t.Fatalf("error %v, want DENIED", err)
	}
	r.push(image(t, "m", d), "v1")
	r.want("v1", image(t, "m", d))
	r.delete(m.String())
	check(t, storage.DeleteBlob(t.Context(), r, d, ""))
}

// Who only reads leaves everything where it is.
func TestQuarantineIsForTheWriter(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := repository(t, open(t, root, filesystem.Options{}), "a").pushBlob(large("layer"))
	standby := repository(t, open(t, root, filesystem.Options{}), "a").Repository.(storage.Quarantiner)
	rot(t, blobFile(root, "a", d))
	if _, err := standby.Quarantine(t.Context(), d); !errors.Is(err, storage.ErrStandby) {
		t.Fatalf("error %v, want ErrStandby", err)
	}
	if err := standby.Vouch(t.Context(), storage.Content{Digest: d, Size: 1 << 20, Object: "1.2"}); !errors.Is(err, storage.ErrStandby) {
		t.Fatalf("error %v, want ErrStandby", err)
	}
	if !exists(t, blobFile(root, "a", d)) || !exists(t, poolFile(root, d)) {
		t.Fatal("something has gone")
	}
}

func TestPoolIsMadeAnew(t *testing.T) {
	t.Parallel()
	content := large("layer")
	for name, lose := range map[string]func(t *testing.T, root string, d digest.Digest){
		"removed": func(t *testing.T, root string, _ digest.Digest) { check(t, os.RemoveAll(filepath.Join(root, "_pool"))) },
		"copied":  func(t *testing.T, root string, d digest.Digest) { unshared(t, poolFile(root, d)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, filesystem.Options{})
			a, b := repository(t, s, "a"), repository(t, s, "b")
			d := a.pushBlob(content)
			m := manifest(t, oci.MediaTypeImageManifest, fields{"annotations": fields{"a": large("long")}})
			a.push(m, "v1")
			lose(t, root, d)
			a.wantBlob(content)
			a.vouch()
			b.pushBlob(content)
			if !same(t, blobFile(root, "a", d), blobFile(root, "b", d), poolFile(root, d)) {
				t.Fatal("the blob isn't shared")
			}
			if exists(t, poolFile(root, m.Digest)) {
				t.Fatal("a manifest is in the pool")
			}
		})
	}
}

// What only the pool has isn't read by anybody, and may have rotted there.
func TestPoolOnlyGivesWhatARepositoryHas(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	content := large("layer")
	d := repository(t, s, "a").pushBlob(content)
	check(t, os.Remove(blobFile(root, "a", d)))
	rot(t, poolFile(root, d))
	b := repository(t, s, "b")
	b.pushBlob(content)
	b.wantBlob(content)
}
