package journal

import (
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// appending is a file of a journal that holds "one", durably. before is called before
// each step; nil is no call.
type appending struct {
	*file

	t      *testing.T
	memory *vfs.Forgetful
	j      *FS

	mu     sync.Mutex
	before func(vfs.Step) error
}

func newAppending(t *testing.T) *appending {
	t.Helper()
	dir, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := &appending{t: t}
	if a.memory, err = vfs.NewForgetful(dir); err != nil {
		t.Fatal(err)
	}
	a.j = New(vfs.NewFaulty(a.memory, a.step), Options{Boot: "first"})
	a.check(a.j.Begin(func(string) error { return nil }))
	f, err := a.j.OpenFile("log", os.O_RDWR|os.O_CREATE)
	a.check(err)
	a.file, _ = f.(*file)
	a.check(a.Append([]byte("one")), a.j.SyncDir("."))
	return a
}

func (a *appending) step(s vfs.Step) error {
	a.mu.Lock()
	before := a.before
	a.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(s)
}

func (a *appending) watch(before func(vfs.Step) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before = before
}

func (a *appending) check(errs ...error) {
	a.t.Helper()
	if err := errors.Join(errs...); err != nil {
		a.t.Fatal(err)
	}
}

// stageLater records a file of another name that nobody waits for.
func (a *appending) stageLater(name string) {
	a.t.Helper()
	f, err := a.j.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	a.check(err)
	_, err = f.Write([]byte("content"))
	later, _ := f.(*file)
	a.check(err, later.SyncLater(), f.Close())
}

// afterPowerCut is what the file holds after a power cut and the recovery from it.
func (a *appending) afterPowerCut() string {
	a.t.Helper()
	root := a.t.TempDir()
	a.check(a.memory.PowerCut(root))
	dir, err := vfs.Dir(root)
	a.check(err)
	j := New(dir, Options{Boot: "second"})
	a.check(j.Begin(func(string) error { return nil }), j.End(), j.Close())
	data, err := os.ReadFile(root + "/log")
	a.check(err)
	return string(data)
}

func (a *appending) wantAfterPowerCut(want string) {
	a.t.Helper()
	if got := a.afterPowerCut(); got != want {
		a.t.Errorf("after a power cut the file holds %q, want %q", got, want)
	}
}

// hold has writes to what begins with a prefix wait until they're released.
func (a *appending) hold(prefix string) (release func()) {
	goOn := make(chan struct{})
	a.watch(func(s vfs.Step) error {
		if s.Op == "write" && strings.HasPrefix(s.Name, prefix) {
			<-goOn
		}
		return nil
	})
	return func() { close(goOn) }
}

// Nothing is in the file before what was recorded earlier is durable; and both are made
// so by one sync, unless the journal hasn't got what is in the file.
func TestAppendComesAfterWhatWasRecorded(t *testing.T) {
	for name, makeStrange := range map[string]func(*appending){
		"ahead": func(*appending) {},
		"in turn": func(a *appending) {
			_, err := a.Write([]byte(","))
			a.check(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAppending(t)
			makeStrange(a)
			a.stageLater("other")
			var steps []string
			a.watch(func(s vfs.Step) error {
				if s.Op == "sync" || s.Op == "write" && s.Name == "log" {
					steps = append(steps, s.Op+" "+strings.TrimSuffix(s.Name, "a"))
				}
				return nil
			})
			a.check(a.Append([]byte("two")))
			a.watch(nil)
			want := []string{"sync _journal/tmp-", "write log", "sync _journal/tmp-"}
			if name == "ahead" {
				want = want[:2]
			}
			for i := range steps {
				steps[i] = strings.TrimSuffix(steps[i], "b")
			}
			if !slices.Equal(steps, want) {
				t.Errorf("steps %q, want %q", steps, want)
			}
			if got := a.afterPowerCut(); !strings.HasSuffix(got, "two") {
				t.Errorf("after a power cut the file holds %q", got)
			}
		})
	}
}

// What is written while the files of its epoch are synced is synced too before the epoch
// is over.
func TestAppendWhileItsEpochIsSynced(t *testing.T) {
	t.Parallel()
	a := newAppending(t)
	e, seq := a.recordAhead([]byte("two"))
	a.check(a.tree.wait(seq))
	synced, written := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.watch(func(s vfs.Step) error {
		if s.Op == "syncdir" && s.Name == "." {
			once.Do(func() {
				close(synced)
				<-written
			})
		}
		return nil
	})
	a.turn()
	<-synced
	done, err := a.writeRecorded(e, []byte("two"))
	if a.check(err); !done {
		t.Fatal("the epoch isn't over yet")
	}
	close(written)
	a.tree.work.Wait()
	a.wantAfterPowerCut("onetwo")
}

// turn begins another epoch, and the end of the one that was.
func (a *appending) turn() {
	a.t.Helper()
	a.tree.wave.Lock()
	defer a.tree.wave.Unlock()
	a.check(a.tree.flush(true))
}

// An epoch isn't over while something is written that only its log has.
func TestEpochWaitsForAppend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		e, seq := a.recordAhead([]byte("two"))
		a.check(a.tree.wait(seq))
		release := a.hold("log")
		go func() {
			if done, err := a.writeRecorded(e, []byte("two")); !done || err != nil {
				t.Errorf("written: %v, %v", done, err)
			}
		}()
		synctest.Wait()
		a.turn()
		synctest.Wait()
		if e.isClosing() {
			t.Error("the epoch is over")
		}
		release()
		synctest.Wait()
		a.wantAfterPowerCut("onetwo")
		a.check(a.j.End())
	})
}

// Once the epoch is over its log counts no more, although that isn't said in it yet.
func TestAppendAfterItsEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		e, seq := a.recordAhead([]byte("two"))
		a.check(a.tree.wait(seq))
		a.turn()
		release := a.hold("_journal")
		synctest.Wait()
		if done, err := a.writeRecorded(e, []byte("two")); done || err != nil {
			t.Errorf("it was written (%v) as if the journal had it, %v", done, err)
		}
		release()
		a.check(a.j.End())
	})
}

// What nothing is remembered of, since there's too much, isn't taken for durable.
func TestAppendToWhatIsForgotten(t *testing.T) {
	t.Parallel()
	a := newAppending(t)
	_, err := a.Write([]byte(","))
	a.check(err)
	a.tree.mu.Lock()
	for i := range maxRemembered {
		a.tree.changed(strconv.Itoa(i), 0)
	}
	a.tree.mu.Unlock()
	a.check(a.Append([]byte("two")))
	a.wantAfterPowerCut("one,two")
}

// Of what was made in one step nothing is in memory once its epoch is over, and it can
// be appended to as any file.
func TestAppendToWhatWasMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		a.check(a.j.Doubt("."), a.j.SyncDir("."), a.j.Remove("log"), a.j.MakeLater("log", []byte("three")), a.j.Barrier())
		a.turn()
		a.turn() // in which it's said that the first is over
		synctest.Wait()
		a.tree.mu.Lock()
		if n := len(a.tree.files) + len(a.tree.based); n > 0 {
			t.Errorf("%d files are remembered", n)
		}
		a.tree.mu.Unlock()
		f, err := a.j.OpenFile("log", os.O_RDWR)
		a.check(err)
		log, _ := f.(*file)
		_, err = log.Seek(0, io.SeekEnd)
		a.check(err, log.Append([]byte("four")))
		a.wantAfterPowerCut("threefour")
		a.check(f.Close(), a.j.End())
	})
}

// What can't be written doesn't come back by a power cut, nor does it harm what comes after it.
func TestAppendThatFails(t *testing.T) {
	t.Parallel()
	a := newAppending(t)
	a.watch(func(s vfs.Step) error {
		if s.Op == "write" && s.Name == "log" {
			return vfs.Short{Err: syscall.ENOSPC, Done: func(int) int { return 1 }}
		}
		return nil
	})
	if err := a.Append([]byte("two")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	a.watch(nil)
	a.wantAfterPowerCut("one")
	a.check(a.Append([]byte("three")))
	a.wantAfterPowerCut("onetthree")
}

// Too much for a frame goes to the file alone.
func TestAppendOfMuch(t *testing.T) {
	t.Parallel()
	a := newAppending(t)
	var bySelf bool
	a.watch(func(s vfs.Step) error {
		bySelf = bySelf || s.Op == "sync" && s.Name == "log"
		return nil
	})
	much := strings.Repeat("x", maxChange+1)
	a.check(a.Append([]byte(much)))
	if got := a.afterPowerCut(); got != "one"+much || !bySelf {
		t.Errorf("after a power cut the file holds %d bytes; synced by itself: %v", len(got), bySelf)
	}
}

// A handle that always writes at the end doesn't know where that is.
func TestAppendAtTheEnd(t *testing.T) {
	t.Parallel()
	a := newAppending(t)
	f, err := a.j.OpenFile("log", os.O_RDWR|os.O_APPEND)
	a.check(err)
	end, _ := f.(*file)
	a.check(end.Append([]byte("two")), f.Close())
	a.wantAfterPowerCut("onetwo")
}

// What is appended after an epoch doesn't keep that from being over: it's the next one's.
func TestEpochEndsWhileOthersAppend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		var first sync.Once
		var syncs atomic.Int64
		a.watch(func(s vfs.Step) error {
			if s.Op == "sync" && s.Name == "log" {
				syncs.Add(1)
			}
			if s.Op == "syncdir" && s.Name == "." {
				first.Do(func() { a.check(a.Append([]byte("two"))) })
			}
			return nil
		})
		a.turn()
		synctest.Wait()
		if n := syncs.Load(); n != 1 || a.tree.past != nil {
			t.Errorf("the file was synced %d times for the epoch, want once", n)
		}
		a.wantAfterPowerCut("onetwo")
		a.check(a.j.End())
	})
}

// The journal may be given up while somebody waits for what is written.
func TestJournalEndsWhileAnEpochWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		a.check(a.j.Mkdir("d"), a.j.Barrier())
		synced, goOn := make(chan struct{}), make(chan struct{})
		var first sync.Once
		a.watch(func(s vfs.Step) error {
			if s.Op == "syncdir" && s.Name == "." {
				first.Do(func() {
					close(synced)
					<-goOn
				})
			}
			return nil
		})
		e := a.tree.files["log"]
		a.turn()
		<-synced
		in := a.tree.beginWrite("log", e)
		close(goOn)
		synctest.Wait() // until it waits for the write
		a.tree.mu.Lock()
		in.writing--
		a.tree.stopped.Broadcast()
		a.tree.reset() // as what ends the journal does, if it's faster
		a.tree.mu.Unlock()
		synctest.Wait()
	})
}

// What is taken back once its epoch is over isn't all that the journal has of a file.
func TestTakenBackAfterItsEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAppending(t)
		e, seq := a.recordAhead([]byte("two"))
		a.check(a.tree.wait(seq))
		a.tree.endWrite(e, a.tree.beginWrite("log", e)) // of nothing
		a.changed(3)
		a.turn()
		release := a.hold("_journal")
		synctest.Wait()
		a.recall(e, 3)
		release()
		a.check(a.Truncate(3))
		_, err := a.Seek(3, io.SeekStart)
		a.check(err, a.Append([]byte("two")))
		if a.tree.files["log"].complete() {
			t.Error("the journal takes what it has for the whole file")
		}
		synctest.Wait()
		a.wantAfterPowerCut("onetwo")
		a.check(a.j.End())
	})
}

// What the journal has of a file is remembered, however many there are.
func TestSyncOfWhatIsForgotten(t *testing.T) {
	for name, change := range map[string]func(*appending, func()){
		"by the handle that wrote": func(a *appending, others func()) {
			_, err := a.Write([]byte(",two,three"))
			others()
			a.check(err, a.Sync())
		},
		"by another handle": func(a *appending, others func()) {
			for _, more := range []string{",two", ",three"} {
				f, err := a.j.OpenFile("log", os.O_RDWR|os.O_APPEND)
				a.check(err)
				_, err = f.Write([]byte(more))
				if a.check(err); more == ",three" {
					a.check(f.Sync())
				}
				a.check(f.Close())
				others()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAppending(t)
			change(a, func() {
				a.tree.mu.Lock()
				defer a.tree.mu.Unlock()
				for i := range maxRemembered {
					a.tree.changed(strconv.Itoa(i), 0)
				}
			})
			a.wantAfterPowerCut("one,two,three")
		})
	}
}
