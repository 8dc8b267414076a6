package filesystem_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// begun leaves a session that holds content in a root, and returns its id.
func begun(t *testing.T, root, content string) string {
	t.Helper()
	s := open(t, root, filesystem.Options{})
	u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
	check(t, u.Close())
	shut(t, s)
	return u.ID()
}

// editState changes the state file of a session.
func editState(t *testing.T, root, id string, edit func(map[string]any)) {
	t.Helper()
	var state map[string]any
	check(t, json.Unmarshal([]byte(read(t, root, "_uploads", id, "state")), &state))
	edit(state)
	write(t, string(must(json.Marshal(state))(t)), root, "_uploads", id, "state")
}

func anotherBoot(state map[string]any) { state["boot"] = "another" }

func resume(t *testing.T, r repo, id string) storage.Upload {
	t.Helper()
	u, err := r.ResumeUpload(t.Context(), id)
	if err != nil {
		t.Fatalf("resume: %v", err)
	}
	t.Cleanup(func() { _ = u.Close() }) // after a test that has looked at its error, if it matters
	return u
}

func wantNoSession(t *testing.T, r repo, id string) {
	t.Helper()
	if _, err := r.ResumeUpload(t.Context(), id); !errors.Is(err, oci.BlobUploadUnknown) {
		t.Fatalf("session %q: error %v, want BLOB_UPLOAD_UNKNOWN", id, err)
	}
}

func wantNoUploads(t *testing.T, root string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(root, "_uploads"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Fatalf("_uploads has %v", left)
	}
}

// firstHalf and secondHalf are of a size that isn't a whole number of blocks of any hash.
var firstHalf, secondHalf = strings.Repeat("first ", 100_001), strings.Repeat("second", 33)

func TestSessionGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	for way, edit := range map[string]func(map[string]any){
		"same boot":    func(map[string]any) {},
		"another boot": anotherBoot,
		"no hash":      func(state map[string]any) { state["hash"] = "" },
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			id := begun(t, root, firstHalf)
			editState(t, root, id, edit)
			// What the dead process wrote after it saved the state.
			data := filepath.Join(root, "_uploads", id, "data")
			write(t, read(t, data)+"lost", data)
			r := repository(t, open(t, root, filesystem.Options{}), "a")
			u := resume(t, r, id)
			if u.Size() != int64(len(firstHalf)) {
				t.Fatalf("resumed at %d, want %d", u.Size(), len(firstHalf))
			}
			must(u.Append(t.Context(), u.Size(), strings.NewReader(secondHalf)))(t)
			must(u.Commit(t.Context(), digest.FromString(firstHalf+secondHalf)))(t)
			r.wantBlob(firstHalf + secondHalf)
			wantNoUploads(t, root)
		})
	}
}

func TestSessionIsCommittedWithoutWhatItsStateLacks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	id := begun(t, root, firstHalf)
	data := filepath.Join(root, "_uploads", id, "data")
	write(t, read(t, data)+"lost", data)
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	must(resume(t, r, id).Commit(t.Context(), digest.FromString(firstHalf)))(t)
	r.wantBlob(firstHalf)
}

func TestSessionWithLessDataThanItsStateIsUnknown(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	id := begun(t, root, firstHalf)
	data := filepath.Join(root, "_uploads", id, "data")
	check(t, os.Truncate(data, int64(len(firstHalf)-1)))
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	wantNoSession(t, r, id)
	check(t, os.Remove(data))
	wantNoSession(t, r, id)
}

func TestSessionOfAnotherBootIsReadAgain(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	id := begun(t, root, firstHalf)
	editState(t, root, id, anotherBoot)
	data := filepath.Join(root, "_uploads", id, "data")
	write(t, "F"+read(t, data)[1:], data) // what a power cut may do
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	_, err := resume(t, r, id).Commit(t.Context(), digest.FromString(firstHalf))
	if !errors.Is(err, oci.DigestInvalid) {
		t.Fatalf("error %v, want DIGEST_INVALID", err)
	}
	r.wantNoBlob(digest.FromString(firstHalf))
	wantNoUploads(t, root)
}

func TestSessionOfItsOwnRepositoryOnly(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	id := begun(t, root, firstHalf)
	s := open(t, root, filesystem.Options{})
	wantNoSession(t, repository(t, s, "b"), id)
	u := resume(t, repository(t, s, "a"), id)
	wantNoSession(t, repository(t, s, "b"), id) // nor while somebody is on it
	check(t, u.Close())
	wantNoSession(t, repository(t, s, "b"), id)
}

func TestSessionWithAStrangeStateIsUnknown(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	id := begun(t, root, firstHalf)
	good := read(t, root, "_uploads", id, "state")
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	for _, bad := range []string{"", "{", "[]", strings.Replace(good, `"a"`, `"../a"`, 1), strings.Replace(good, "sha256", "md5", 1)} {
		write(t, bad, root, "_uploads", id, "state")
		wantNoSession(t, r, id)
	}
	write(t, good, root, "_uploads", id, "state")
	editState(t, root, id, func(state map[string]any) { state["size"] = -1 })
	wantNoSession(t, r, id)
	for _, id := range []string{"", ".", "..", "../_uploads/" + id, id + "/", strings.ToLower(id), "x\x00", strings.Repeat("x", 1000)} {
		if _, err := r.ResumeUpload(t.Context(), id); err == nil {
			t.Fatalf("session %q exists", id)
		}
	}
	write(t, good, root, "_uploads", id, "state")
	resume(t, r, id)
}

func TestSessionLeavesNothingWhenItEnds(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, u storage.Upload){
		"commit": func(t *testing.T, u storage.Upload) {
			must(u.Commit(t.Context(), digest.FromString("x")))(t)
		},
		"commit of another algorithm": func(t *testing.T, u storage.Upload) {
			must(u.Commit(t.Context(), digest.SHA512.FromString("x")))(t)
		},
		"cancel": func(t *testing.T, u storage.Upload) { check(t, u.Cancel(t.Context())) },
		"wrong digest": func(t *testing.T, u storage.Upload) {
			if _, err := u.Commit(t.Context(), digest.FromString("y")); !errors.Is(err, oci.DigestInvalid) {
				t.Fatalf("error %v, want DIGEST_INVALID", err)
			}
		},
	}
	for how, end := range ends {
		for _, resumed := range []bool{false, true} {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				s := open(t, root, filesystem.Options{})
				r := repository(t, s, "a")
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
				if resumed {
					check(t, u.Close())
					u = resume(t, r, u.ID())
				}
				end(t, u)
				wantNoUploads(t, root)
				check(t, u.Close())
				wantNoUploads(t, root)
				wantNoSession(t, r, u.ID())
			})
		}
	}
}

// TestSessionIsNotReadAgain: between two requests nothing is opened or read.
func TestSessionIsNotReadAgain(t *testing.T) {
	frozen(t, func(t *testing.T) {
		rec := new(recorder)
		r := repository(t, openFaulty(t, t.TempDir(), filesystem.Options{}, rec.step), "a")
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		check(t, u.Close())
		u = resume(t, r, u.ID())
		must(u.Append(t.Context(), 0, strings.NewReader("first")))(t)
		check(t, u.Close())
		rec.reset()
		u = resume(t, r, u.ID())
		if got := append(rec.ops("open"), append(rec.ops("openfile"), rec.ops("stat")...)...); len(got) > 0 {
			t.Fatalf("to resume looked at %v", got)
		}
		must(u.Append(t.Context(), -1, strings.NewReader("second")))(t)
		must(u.Commit(t.Context(), digest.FromString("firstsecond")))(t)
		r.wantBlob("firstsecond")
	})
}

// TestSessionIsWrittenDownBeforeItGoesOn: a request may take long, and what an
// earlier one was told that's there must not wait for it.
func TestSessionIsWrittenDownBeforeItGoesOn(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root, crashed := t.TempDir(), t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{}), "a")
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader("first")))(t)
		body, ended := make(chan string), make(chan error)
		go func() {
			_, err := u.Append(t.Context(), 5, &chanReader{from: body})
			ended <- err
		}()
		body <- "second"
		synctest.Wait() // nothing comes or goes while it's copied
		check(t, os.CopyFS(crashed, os.DirFS(root)))
		close(body)
		if err := <-ended; err == nil {
			t.Fatal("a body that broke off is no error")
		}
		after := resume(t, repository(t, open(t, crashed, filesystem.Options{}), "a"), u.ID())
		if after.Size() != 5 {
			t.Fatalf("after a crash it has %d bytes, want 5", after.Size())
		}
		check(t, u.Close())
	})
}

func TestManyIdleSessions(t *testing.T) {
	t.Parallel()
	const most = 256
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	r := repository(t, s, "a")
	ids := make([]string, most+44)
	for i := range ids {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader(onDisk(u.ID()))))(t)
		check(t, u.Close())
		ids[i] = u.ID()
	}
	if known, open := filesystem.KnownSessions(s); known != most || open != most {
		t.Fatalf("%d sessions are known, %d have a file open, want %d", known, open, most)
	}
	for _, id := range ids {
		must(resume(t, r, id).Commit(t.Context(), digest.FromString(onDisk(id))))(t)
	}
	wantNoUploads(t, root)
}

// onDisk is content that is too large for a session in memory.
func onDisk(s string) string { return s + strings.Repeat("x", 64<<10) }

// TestSmallSessionIsInMemory: a small push writes each blob once, and nothing else.
func TestSmallSessionIsInMemory(t *testing.T) {
	frozen(t, func(t *testing.T) {
		rec := new(recorder)
		root := t.TempDir()
		r := repository(t, openFaulty(t, root, filesystem.Options{}, rec.step), "a")
		r.push(image(t, "m", r.pushBlob("x")), "v1")
		synctest.Wait()
		rec.reset()
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		check(t, u.Close())
		u = resume(t, r, u.ID())
		must(u.Append(t.Context(), 0, strings.NewReader("first")))(t)
		check(t, u.Close())
		if got := append(rec.ops("mkdir"), append(rec.ops("openfile"), rec.ops("write")...)...); len(got) > 0 {
			t.Fatalf("before the commit there was %v", got)
		}
		must(resume(t, r, u.ID()).Commit(t.Context(), digestOf("first")))(t)
		want := map[string]int{"make": 1}
		if err := vfs.Make(must(vfs.Dir(t.TempDir()))(t), "x", nil); errors.Is(err, errors.ErrUnsupported) {
			want = map[string]int{"make": 1, "openfile": 1, "write": 1, "rename": 1}
		}
		for _, op := range []string{"make", "openfile", "write", "rename"} {
			if got := rec.ops(op); len(got) != want[op] {
				t.Errorf("%s: %v, want it %d times", op, got, want[op])
			}
		}
		if got := rec.ops("sync"); len(got) > 0 {
			t.Errorf("synced %v, which is for who names it", got)
		}
		wantNoUploads(t, root)
	})
}

// eventful is content in whose middle something happens.
type eventful struct {
	*greedy

	after   int // bytes
	happens func()
}

func (r *eventful) Read(p []byte) (int, error) {
	if r.happens != nil && r.sent >= r.after {
		r.happens()
		r.happens = nil
	}
	return r.greedy.Read(p)
}

// A handle that's closed writes the session's state, whatever another one is doing: a
// process that is killed then leaves a state that is true of the bytes it's about.
func TestStateIsTrueBesideAnAppend(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	var killed string
	content := &eventful{&greedy{left: 12 << 20}, 6 << 20, func() {
		check(t, resume(t, r, u.ID()).Close())
		killed = snapshot(t, root)
	}}
	must(u.Append(t.Context(), 0, content))(t)
	check(t, u.Close())
	heir := resume(t, repository(t, open(t, killed, filesystem.Options{}), "a"), u.ID())
	if heir.Size() < 6<<20 {
		t.Errorf("it goes on at %d bytes", heir.Size())
	}
	must(heir.Commit(t.Context(), digestOf(strings.Repeat("\x00", int(heir.Size())))))(t)
}

// TestSessionThatRestsIsWrittenDown: a client that pauses finds its session again
// after a crash.
func TestSessionThatRestsIsWrittenDown(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root, crashed := t.TempDir(), t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{}), "a")
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		check(t, u.Close())
		empty := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		check(t, empty.Close())
		u = resume(t, r, u.ID())
		must(u.Append(t.Context(), 0, strings.NewReader("first")))(t)
		check(t, u.Close())
		time.Sleep(time.Second)
		synctest.Wait()
		check(t, os.CopyFS(crashed, os.DirFS(root)))
		after := repository(t, open(t, crashed, filesystem.Options{}), "a")
		if size := resume(t, after, empty.ID()).Size(); size != 0 {
			t.Fatalf("the empty session has %d bytes", size)
		}
		for _, r := range []repo{after, r} {
			again := resume(t, r, u.ID())
			must(again.Append(t.Context(), 5, strings.NewReader("second")))(t)
			must(again.Commit(t.Context(), digestOf("firstsecond")))(t)
			r.wantBlob("firstsecond")
		}
	})
}

// TestSessionGrowsOutOfMemory: wherever the limit falls, the content is the same.
func TestSessionGrowsOutOfMemory(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	root := t.TempDir()
	r := repository(t, open(t, root, filesystem.Options{}), "a")
	for _, sizes := range [][]int{{limit}, {limit + 1}, {limit, 1}, {1, limit - 1, 1}, {limit - 1, 3 << 20}, {1, 1, 1}} {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		content := ""
		for i, size := range sizes {
			chunk := strings.Repeat(string(rune('a'+i)), size)
			must(u.Append(t.Context(), int64(len(content)), strings.NewReader(chunk)))(t)
			check(t, u.Close())
			u = resume(t, r, u.ID())
			content += chunk
		}
		must(u.Commit(t.Context(), digest.SHA512.FromString(content)))(t)
		b := must(r.OpenBlob(t.Context(), digest.SHA512.FromString(content)))(t)
		if got := must(io.ReadAll(b))(t); string(got) != content {
			t.Fatalf("%v: there are %d other bytes, want %d", sizes, len(got), len(content))
		}
		check(t, b.Close())
	}
	wantNoUploads(t, root)
}

// TestSessionOfAnotherProcess: what this process remembers of a session doesn't
// count once another one may have gone on with it.
func TestSessionOfAnotherProcess(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		id := begun(t, root, "first")
		s := open(t, root, filesystem.Options{})
		r := repository(t, s, "a")
		check(t, resume(t, r, id).Close())
		write(t, read(t, root, "_lock")+"x", root, "_lock") // another one's
		if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrStandby) {
			t.Fatalf("Ready: error %v, want ErrStandby", err)
		}
		check(t, os.RemoveAll(filepath.Join(root, "_uploads")))
		check(t, s.Ready(t.Context()))
		wantNoSession(t, r, id)
	})
}

func TestSessionIsTakenOver(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := t.TempDir()
		r := repository(t, open(t, root, filesystem.Options{}), "a")
		first := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
		must(first.Append(t.Context(), 0, strings.NewReader(firstHalf)))(t)
		second := resume(t, r, first.ID())

		body, lost := make(chan string), make(chan error)
		go func() {
			_, err := first.Append(t.Context(), -1, &chanReader{from: body})
			lost <- err
		}()
		body <- strings.Repeat("z", 300<<10) // more than a chunk, so some of it counts
		body <- ""
		second2 := resume(t, r, first.ID())
		at := second2.Size()
		must(second2.Append(t.Context(), at, strings.NewReader(secondHalf)))(t)
		body <- "not any more"
		close(body)
		var oe *oci.Error
		if err := <-lost; !errors.As(err, &oe) || oe.HTTPStatus() != 416 {
			t.Fatalf("error %v, want a range error", err)
		}
		want := firstHalf + strings.Repeat("z", int(at)-len(firstHalf)) + secondHalf
		must(second2.Commit(t.Context(), digest.FromString(want)))(t)
		r.wantBlob(want)
		check(t, first.Close(), second.Close(), second2.Close())
		wantNoUploads(t, root)
	})
}

// chanReader reads what comes along a channel, to its end. An empty string gives
// the reader time to have dealt with the one before.
type chanReader struct {
	from chan string
	rest string
}

func (r *chanReader) Read(p []byte) (int, error) {
	for r.rest == "" {
		s, ok := <-r.from
		if !ok {
			return 0, errors.New("the end")
		}
		r.rest = s
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// TestSessionOnASlowDiskHoldsUpNoOther: neither one that is written down nor one
// that is read.
func TestSessionOnASlowDiskHoldsUpNoOther(t *testing.T) {
	for op, slow := range map[string]func(*testing.T, repo, string){
		"read": func(t *testing.T, r repo, id string) { resume(t, r, id) },
		"write": func(t *testing.T, r repo, _ string) { // one too many
			for range 257 {
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
				check(t, u.Close())
			}
		},
	} {
		t.Run(op, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root := t.TempDir()
				id := begun(t, root, "content")
				var reached, proceed atomic.Pointer[chan struct{}]
				s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
					if wait := proceed.Load(); wait != nil && step.Op == op && strings.Contains(step.Name, "/state") &&
						proceed.CompareAndSwap(wait, nil) {
						close(*reached.Load())
						<-*wait
					}
					return nil
				})
				r := repository(t, s, "a")
				at, on := make(chan struct{}), make(chan struct{})
				reached.Store(&at)
				proceed.Store(&on)
				var g errgroup.Group
				g.Go(func() error { slow(t, r, id); return nil })
				<-at
				u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
				check(t, u.Close())
				resume(t, r, u.ID())
				close(on)
				check(t, g.Wait())
				resume(t, r, id)
			})
		})
	}
}

// TestSessionThatCannotBecomeABlobGoesOn, and so it may be written again.
func TestSessionThatCannotBecomeABlobGoesOn(t *testing.T) {
	t.Parallel()
	root, content := t.TempDir(), onDisk("content")
	var fail atomic.Bool
	s := openFaulty(t, root, filesystem.Options{}, func(step vfs.Step) error {
		if fail.Load() && step.Op == "rename" && strings.Contains(step.Name, "/blobs/") {
			return syscall.EIO
		}
		return nil
	})
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
	fail.Store(true)
	if _, err := u.Commit(t.Context(), digestOf(content)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v, want EIO", err)
	}
	if mode := stat(t, filepath.Join(root, "_uploads", u.ID(), "data")).Mode(); mode.Perm() != 0o600 {
		t.Fatalf("its data has mode %v", mode)
	}
	fail.Store(false)
	must(u.Commit(t.Context(), digestOf(content)))(t)
	check(t, u.Close())
	r.wantBlob(content)
	wantNoUploads(t, root)
}
