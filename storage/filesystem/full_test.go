package filesystem_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// breaker makes one step fail.
type breaker struct {
	at  int // which of those that count
	err error
	of  func(vfs.Step) bool // which count

	mu     sync.Mutex
	count  int
	broken *vfs.Step // the one that failed
}

func changes(s vfs.Step) bool { return s.Changes() || s.Op == "openfile" }

func reads(s vfs.Step) bool { return !s.Changes() }

func (b *breaker) step(s vfs.Step) error {
	if !b.of(s) || strings.HasPrefix(s.Name, "_reserve") {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	if b.count != b.at+1 {
		return nil
	}
	b.broken = &s
	return b.err
}

// isBroken reports whether the step has failed by now.
func (b *breaker) isBroken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken != nil
}

// never is for a world that doesn't stop.
func never() bool { return false }

// doneOf are the ways in which a write of n bytes can fail: how many are written.
var doneOf = []func(n int) int{
	func(n int) int { return n / 2 },
	func(int) int { return 0 },
	func(n int) int { return n - 1 },
	func(n int) int { return n },
}

// TestOneStepThatFailsHarmsNothing makes each step fail, once in each run, and a
// write after some part of it. In the soak each fails in every way.
func TestOneStepThatFailsHarmsNothing(t *testing.T) {
	stride := 3
	if soak() {
		stride = 1
	}
	for name, opts := range syncing() {
		if opts.Direct && !soak() {
			continue
		}
		for n, errno := range []error{syscall.ENOSPC, syscall.EIO} {
			t.Run(fmt.Sprintf("%s, %v", name, errno), func(t *testing.T) {
				t.Parallel()
				steps := n * (stride - 1)
				for failParts(t, opts, errno, steps) {
					steps += stride
				}
				t.Logf("each %d of %d steps failed", stride, steps)
			})
		}
	}
}

// failParts makes a step fail, and if it's a write do so after each part, or one.
func failParts(t *testing.T, opts filesystem.Options, errno error, at int) bool {
	t.Helper()
	first := at / 2 % len(doneOf)
	for i := range doneOf {
		b := &breaker{at: at, err: vfs.Short{Err: errno, Done: doneOf[(first+i)%len(doneOf)]}, of: changes}
		if !replay(t, func(t *testing.T) bool { return failStep(t, opts, b) }) {
			return false
		}
		if !soak() || b.broken.Op != "write" {
			break
		}
	}
	return true
}

// TestOneReadThatFailsHarmsNothing: what can't be read at the moment isn't gone.
func TestOneReadThatFailsHarmsNothing(t *testing.T) {
	stride := 7
	if soak() {
		stride = 1
	}
	for name, opts := range map[string]filesystem.Options{"synced": {Recheck: -1}, "log only": {LogFrom: 1, Recheck: -1}} {
		for n, errno := range []error{syscall.EIO, syscall.EMFILE} {
			t.Run(fmt.Sprintf("%s, %v", name, errno), func(t *testing.T) {
				t.Parallel()
				steps := n
				for replay(t, func(t *testing.T) bool {
					return failStep(t, opts, &breaker{at: steps, err: errno, of: reads})
				}) {
					steps += stride
				}
				t.Logf("each %d of %d reads failed", stride, steps)
			})
		}
	}
}

// failStep plays the script with a step that fails, and what failed with it
// once more. It returns false if there was no such step.
func failStep(t *testing.T, opts filesystem.Options, b *breaker) bool {
	t.Helper()
	root := memoryDir(t)
	withReserve(t, root)
	tree := must(vfs.Dir(root))(t)
	p := &theatre{opts, vfs.NewFaulty(tree, b.step), never}
	f := &failing{t: t, root: root, breaker: b, theatre: p, names: make(meaning)}
	f.open()
	for _, a := range script(t) {
		if a == nil {
			f.close()
			f.open()
		} else {
			f.act(a)
		}
	}
	f.wantMeaning()
	f.close()
	f.open()
	f.wantMeaning()
	f.close()
	check(t, tree.Close(), os.RemoveAll(root))
	return b.isBroken()
}

// failing is a script that is being played while a step fails.
type failing struct {
	*theatre
	*breaker

	t     *testing.T
	root  string
	store *filesystem.Store
	names meaning
}

func (f *failing) fatalf(format string, args ...any) {
	f.t.Helper()
	f.t.Fatalf("step %d, %+v: %s", f.at, f.broken, fmt.Sprintf(format, args...))
}

// open opens the store, at once or after a failure.
func (f *failing) open() {
	f.t.Helper()
	var err error
	if f.store, err = f.theatre.open(); err != nil && f.isBroken() {
		f.store, err = f.theatre.open()
	}
	if err != nil {
		f.fatalf("open: %v", err)
	}
	f.t.Cleanup(func() { _ = f.store.Close() }) // of a test that has failed
	synctest.Wait()                             // until what is done at the start is done
}

func (f *failing) close() {
	f.t.Helper()
	before := f.isBroken()
	if err := f.store.Close(); err != nil && before {
		f.fatalf("close: %v", err)
	}
}

func (f *failing) act(a *act) {
	f.t.Helper()
	before, after := f.isBroken(), maps.Clone(f.names)
	a.then(after)
	err := a.do(f.t.Context(), f.store)
	if err != nil {
		if before {
			f.fatalf("%s, after the failure: %v", a.name, err)
		}
		if errors.Is(f.err, syscall.ENOSPC) != errors.Is(err, storage.ErrFull) {
			f.fatalf("%s: error %v", a.name, err)
		}
		f.wantNothingLeft()
		if !maps.Equal(f.names, after) && f.happened(after) {
			f.names = after
			return
		}
		f.wantMeaning()
		if err := a.do(f.t.Context(), f.store); err != nil {
			f.fatalf("%s, once more: %v", a.name, err)
		}
	}
	f.names = after
}

// happened reports whether what failed has happened nevertheless, which is told
// only of what can't be taken back.
func (f *failing) happened(after meaning) bool {
	f.t.Helper()
	switch f.broken.Op {
	case "syncdir", "remove":
		return maps.Equal(f.meaning(after), after)
	}
	return false
}

func (f *failing) meaning(want meaning) meaning {
	f.t.Helper()
	before := f.isBroken()
	got, err := meaningOf(f.t.Context(), f.store)
	if !before && f.isBroken() && errors.Is(err, f.err) { // it was this that failed
		got, err = meaningOf(f.t.Context(), f.store)
	}
	if err != nil {
		f.fatalf("%v", err)
	}
	before = f.isBroken()
	without(f.t, f.store, want, got)
	if !before && f.isBroken() {
		without(f.t, f.store, want, got)
	}
	return got
}

func (f *failing) wantMeaning() {
	f.t.Helper()
	if got := f.meaning(f.names); !maps.Equal(got, f.names) {
		f.fatalf("there is %v, want %v", got, f.names)
	}
}

// wantNothingLeft fails if a failure leaves something that isn't a blob. Blobs
// without a name, and manifests among them, are the garbage collector's.
func (f *failing) wantNothingLeft() {
	f.t.Helper()
	if f.broken.Op == "remove" {
		return
	}
	for _, name := range files(f.t, f.root) {
		if strings.HasPrefix(name, "_journal/") {
			continue
		}
		if dir, own := strings.CutSuffix(name, "/tmp-log"); own && exists(f.t, f.root, dir, "log") {
			continue
		}
		if strings.HasPrefix(name, "_uploads/") && errors.Is(f.err, syscall.ENOSPC) ||
			strings.HasPrefix(filepath.Base(name), "tmp-") {
			f.fatalf("%s is left", name)
		}
	}
}

// disk is a disk that may be full. A reserve that is given up makes room for a few writes.
type disk struct {
	full atomic.Bool
	room atomic.Int64
}

func (d *disk) step(s vfs.Step) error {
	if !d.full.Load() {
		return nil
	}
	switch {
	case s.Op == "remove" && s.Name == "_reserve":
		d.room.Store(20)
	case s.Op != "write" && s.Op != "make", !strings.HasPrefix(s.Name, "_reserve") && d.room.Add(-1) >= 0:
	default:
		return syscall.ENOSPC
	}
	return nil
}

// wantNoRoom fails unless nothing can be pushed, nor m get another tag.
func wantNoRoom(t *testing.T, s *filesystem.Store, r repo, m oci.Manifest) {
	t.Helper()
	_, blob := pushBlob(t.Context(), r, "y")
	_, layer := pushBlob(t.Context(), repository(t, s, "b"), strings.Repeat("z", 1<<20))
	for what, err := range map[string]error{
		"a blob": blob, "a layer": layer, "Ready": s.Ready(t.Context()),
		"a manifest": put(t.Context(), r, image(t, "o"), "v4"),
		"a tag":      put(t.Context(), r, m, "v3"),
	} {
		if !errors.Is(err, storage.ErrFull) {
			t.Fatalf("%s: error %v, want ErrFull", what, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				d := new(disk)
				s := openFaulty(t, root, opts, d.step)
				r := repository(t, s, "a")
				m, n := image(t, "m", r.pushBlob("x")), image(t, "n")
				for range 2 {
					r.push(m, "v1", "v2")
					r.push(n, "v3")
				}
				synctest.Wait()
				if !exists(t, root, "_reserve") || stat(t, filepath.Join(root, "_reserve")).Size() != 4<<20 {
					t.Fatal("there's no reserve")
				}
				before, history := files(t, root, "a"), read(t, root, "_repos/a/history")
				d.full.Store(true)

				wantNoRoom(t, s, r, m)
				wantFilesIn(t, before, files(t, root, "a"))
				if got := read(t, root, "_repos/a/history"); !strings.HasPrefix(got, history) || !strings.HasSuffix(got, "\n") {
					t.Fatalf("history ends in %q", got[len(history):])
				}
				wantNoUploads(t, root)
				wantCatalog(t, s, "a")
				repository(t, s, "b").wantUnknown()
				r.want("v1", m)
				r.want("v3", n)
				r.wantBlob("x")

				r.delete("v1")
				r.delete(n.Digest.String())
				r.wantTags("v2")
				if exists(t, root, "_reserve") {
					t.Fatal("the reserve wasn't needed?")
				}
				time.Sleep(time.Minute)
				if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrFull) {
					t.Fatalf("Ready: error %v, want ErrFull", err)
				}

				d.full.Store(false)
				time.Sleep(time.Minute)
				synctest.Wait()
				check(t, s.Ready(t.Context()))
				if !exists(t, root, "_reserve") || exists(t, root, "_reserve.new") {
					t.Fatal("the reserve isn't made again")
				}
				r.push(n, "v3")
				shut(t, s)
				r = repository(t, open(t, root, opts), "a")
				r.want("v2", m)
				r.want("v3", n)
				r.wantTags("v2", "v3")
			})
		})
	}
}

// wantFilesIn fails if there are files now that weren't there before.
func wantFilesIn(t *testing.T, before, now []string) {
	t.Helper()
	was := make(map[string]bool)
	for _, name := range before {
		was[name] = true
	}
	for _, name := range now {
		if !was[name] {
			t.Fatalf("%s is left", name)
		}
	}
}

func TestFullDiskEndsTheSession(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := new(disk)
	s := openFaulty(t, root, filesystem.Options{}, d.step)
	r := repository(t, s, "a")
	for _, saved := range []bool{false, true} {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		if saved {
			check(t, u.Close())
			u = resume(t, r, u.ID())
		}
		d.full.Store(true)
		if _, err := u.Append(t.Context(), 0, strings.NewReader(onDisk("x"))); !errors.Is(err, storage.ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
		d.full.Store(false)
		check(t, u.Close())
		wantNoSession(t, r, u.ID())
		wantNoUploads(t, root)
	}
}

func TestFullDiskEndsTheSessionAtItsCommit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if strings.HasPrefix(step.Name, "a/") && (step.Op == "rename" || step.Op == "openfile" || step.Op == "make") {
			return syscall.ENOSPC
		}
		return nil
	})
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	check(t, u.Close())
	u = resume(t, r, u.ID())
	if _, err := u.Commit(t.Context(), digestOf("x")); !errors.Is(err, storage.ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	check(t, u.Close())
	wantNoSession(t, r, u.ID())
	wantNoUploads(t, root)
	r.wantUnknown()
}

func TestFullDiskTakesBackWhatItHasWritten(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		var full atomic.Pointer[string] // the file that can't grow while there's a reserve
		s := openFaulty(t, root, filesystem.Options{LogFrom: 1}, func(step vfs.Step) error {
			name := full.Load()
			if step.Op == "remove" && step.Name == "_reserve" {
				full.Store(nil)
			}
			if name != nil && step.Op == "write" && step.Name == *name {
				return syscall.ENOSPC
			}
			return nil
		})
		r := repository(t, s, "a")
		for range 2 {
			r.push(image(t, "m"), "v1", "v2")
		}
		synctest.Wait()
		history, log := "_repos/a/history", "_repos/a/log"
		full.Store(&history)
		if err := put(t.Context(), r, image(t, "n"), "v3"); !errors.Is(err, storage.ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
		r.wantNoBlob(image(t, "n").Digest)

		before := len(lines(t, root, history))
		full.Store(&log)
		r.delete("v1")
		if got := len(lines(t, root, history)); got != before+1 {
			t.Fatalf("%d lines in the history, want %d", got, before+1)
		}
		r.wantTags("v2")
	})
}

func TestFullDiskKeepsPullsInMemory(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		d := new(disk)
		s := openFaulty(t, root, filesystem.Options{}, d.step)
		r := repository(t, s, "a")
		m, n := r.push(image(t, "m"), "v1"), r.push(image(t, "n"), "v2")
		begin := time.Now()
		recordPull(r, m)
		recordPull(r, n)
		d.full.Store(true)
		time.Sleep(2 * time.Minute)
		later := time.Now()
		recordPull(r, n)
		d.full.Store(false)
		time.Sleep(2 * time.Minute)
		wantPulls(t, root, map[digest.Digest]time.Time{m: begin, n: later}, 2)
	})
}

func TestSessionThatCannotBeSavedIsNoSession(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := new(disk)
	r := repository(t, openFaulty(t, root, filesystem.Options{}, d.step), "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader(onDisk("x"))))(t)
	d.full.Store(true)
	if err := u.Close(); !errors.Is(err, storage.ErrFull) {
		t.Fatalf("close: error %v, want ErrFull", err)
	}
	wantNoSession(t, r, u.ID())
	wantNoUploads(t, root)
}

// TestFullDiskEndsTheSessionInMemory: at its commit, or once it has rested.
func TestFullDiskEndsTheSessionInMemory(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		d := new(disk)
		r := repository(t, openFaulty(t, root, filesystem.Options{}, d.step), "a")
		begin := func() string {
			u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
			must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
			check(t, u.Close())
			return u.ID()
		}
		committed, rested := begin(), begin()
		d.full.Store(true)
		if _, err := resume(t, r, committed).Commit(t.Context(), digestOf("x")); !errors.Is(err, storage.ErrFull) {
			t.Fatalf("commit: error %v, want ErrFull", err)
		}
		wantNoSession(t, r, committed)
		time.Sleep(time.Second)
		synctest.Wait()
		wantNoSession(t, r, rested)
		wantNoUploads(t, root)
		r.wantUnknown()
	})
}

// TestFailedReadBackDoesNotMoveTheEnd: a Commit that has to read everything
// leaves the file's position anywhere when that fails.
func TestFailedReadBackDoesNotMoveTheEnd(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	s := openFaulty(t, t.TempDir(), filesystem.Options{}, func(step vfs.Step) error {
		if failing.Load() && step.Op == "read" && strings.HasPrefix(step.Name, "_uploads/") {
			return syscall.EIO
		}
		return nil
	})
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader(firstHalf)))(t)
	failing.Store(true)
	if _, err := u.Commit(t.Context(), digest.SHA512.FromString(firstHalf)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v, want EIO", err)
	}
	failing.Store(false)
	must(u.Append(t.Context(), int64(len(firstHalf)), strings.NewReader(secondHalf)))(t)
	must(u.Commit(t.Context(), digest.FromString(firstHalf+secondHalf)))(t)
	r.wantBlob(firstHalf + secondHalf)
	check(t, u.Close())
}

func TestTroubleWithReadingIsNotDamage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	repository(t, s, "a").push(image(t, "m"), "v1")
	shut(t, s)
	write(t, record(`{"changes":[{"untag":"nothing"}]}`), root, "_repos/a/log")
	for _, name := range []string{"_repos/a/log", "a/index.json"} {
		var failing atomic.Bool
		failing.Store(true) // before the store looks for logs by itself
		s := openFaulty(t, root, watchful, func(step vfs.Step) error {
			if failing.Load() && step.Name == name && step.Op == "open" {
				return syscall.EMFILE
			}
			return nil
		})
		r := repository(t, s, "a")
		for range 2 {
			_, err := r.Index(t.Context())
			if !errors.Is(err, syscall.EMFILE) || errors.Is(err, storage.ErrBroken) || errors.Is(err, oci.NameUnknown) {
				t.Fatalf("%s: error %v, want EMFILE", name, err)
			}
		}
		failing.Store(false)
		r.want("v1", image(t, "m"))
		r.push(image(t, "n"), "v2")
		shut(t, s)
		write(t, record(`{"changes":[{"untag":"nothing"}]}`), root, "_repos/a/log")
	}
}
