package journal

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	if got := a.afterPowerCut(); got != "onetwo" {
		t.Errorf("after a power cut the file holds %q", got)
	}
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
		writes := make(chan struct{})
		a.watch(func(s vfs.Step) error {
			if s.Op == "write" && s.Name == "log" {
				<-writes
			}
			return nil
		})
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
		close(writes)
		synctest.Wait()
		if got := a.afterPowerCut(); got != "onetwo" {
			t.Errorf("after a power cut the file holds %q", got)
		}
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
		isOver := make(chan struct{})
		a.watch(func(s vfs.Step) error {
			if s.Op == "write" && strings.HasPrefix(s.Name, "_journal") {
				<-isOver
			}
			return nil
		})
		synctest.Wait()
		if done, err := a.writeRecorded(e, []byte("two")); done || err != nil {
			t.Errorf("it was written (%v) as if the journal had it, %v", done, err)
		}
		close(isOver)
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
	if got := a.afterPowerCut(); got != "one,two" {
		t.Errorf("after a power cut the file holds %q", got)
	}
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
	a.stageLater("other")
	a.check(a.j.Barrier())
	if got := a.afterPowerCut(); got != "one" {
		t.Errorf("after a power cut the file holds %q", got)
	}
	a.check(a.Append([]byte("three")))
	if got := a.afterPowerCut(); got != "onetthree" {
		t.Errorf("after another append the file holds %q", got)
	}
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
	if got := a.afterPowerCut(); got != "onetwo" {
		t.Errorf("after a power cut the file holds %q", got)
	}
}
