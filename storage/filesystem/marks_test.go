package filesystem_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

var markedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (r repo) mark(d digest.Digest) {
	r.t.Helper()
	check(r.t, r.Update(r.t.Context(), func(e *storage.Edit) error { e.Mark(d, markedAt); return nil }))
}

func (r repo) dropMarked(d digest.Digest) {
	r.t.Helper()
	check(r.t, r.Update(r.t.Context(), func(e *storage.Edit) error { e.DropMarkedBlob(d, markedAt); return nil }))
}

func (r repo) marked(d digest.Digest) time.Time {
	r.t.Helper()
	for c, err := range r.Repository.(storage.Collectable).Contents(r.t.Context()) {
		check(r.t, err)
		if c.Digest == d {
			return c.Marked
		}
	}
	r.t.Fatalf("%s isn't there", d)
	return time.Time{}
}

// Who was told that a blob is there may rely on it after a power cut as well.
func TestMarksThatWereTakenOffStayOffAfterAPowerCut(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root, left := memoryDir(t), memoryDir(t)
				memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
				p := &theatre{opts, memory, never}
				s := must(p.open())(t)
				r := repository(t, s, "a")
				x, y := r.pushBlob("x"), r.pushBlob("y")
				r.push(image(t, "m", x, y), "v1")
				r.mark(x)
				r.mark(y)
				must(r.StatBlob(t.Context(), x))(t)
				check(t, memory.PowerCut(left))
				after := repository(t, open(t, left, filesystem.AfterReboot(opts)), "a")
				if got := after.marked(y); !got.Equal(markedAt) {
					t.Fatalf("y is marked since %v", got)
				}
				after.dropMarked(x)
				after.dropMarked(y)
				after.wantBlob("x")
				after.wantNoBlob(y)
				check(t, s.Close(), memory.Forget(), memory.Close())
			})
		})
	}
}

// Whoever hears that a blob is there, while it's being removed, finds it there.
func TestWhoIsToldOfABlobKeepsIt(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{Unsynced: true})
	r := repository(t, s, "a")
	kept, gone := 0, 0
	for i := range 300 {
		d := r.pushBlob(fmt.Sprint("blob ", i))
		r.mark(d)
		var told error
		var both sync.WaitGroup
		both.Go(func() { _, told = r.StatBlob(t.Context(), d) })
		both.Go(func() { r.dropMarked(d) })
		both.Wait()
		_, err := r.StatBlob(t.Context(), d)
		switch {
		case told == nil && err == nil:
			kept++
		case errors.Is(told, oci.BlobUnknown) && errors.Is(err, oci.BlobUnknown):
			gone++
		default:
			t.Fatalf("told %v, then %v", told, err)
		}
	}
	t.Logf("%d were kept, %d went", kept, gone)
}

// A push that finds its blob while that is being removed has it afterwards.
func TestAPushOfWhatIsBeingRemoved(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{Unsynced: true})
	r := repository(t, s, "a")
	for i := range 100 {
		content := fmt.Sprint("blob ", i)
		d := r.pushBlob(content)
		r.mark(d)
		var both sync.WaitGroup
		both.Go(func() { r.pushBlob(content) })
		both.Go(func() { r.dropMarked(d) })
		both.Wait()
		r.wantBlob(content)
	}
}

// On a full disk what is marked can be pulled, and stays as long as the process lives.
func TestMarksOnAFullDisk(t *testing.T) {
	t.Parallel()
	var full atomic.Bool // the store works in the background, too
	root := t.TempDir()
	s := openFaulty(t, root, filesystem.Options{Direct: true}, func(s vfs.Step) error {
		if full.Load() && s.Op == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	r.push(image(t, "m"), "v1")
	r.mark(x)
	full.Store(true)
	r.wantBlob("x")
	full.Store(false)
	r.dropMarked(x)
	r.wantBlob("x")
	r.pushBlob("y")
	r.mark(digest.FromString("y"))
	shut(t, s)
	r = repository(t, open(t, root, filesystem.Options{}), "a")
	r.dropMarked(x)
	r.wantBlob("x") // that it had no mark was written down with the next one
}

// The file is readable whatever is in it, and doesn't grow for ever.
func TestMarksFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{Unsynced: true})
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	for range 1200 {
		r.mark(x)
		must(r.StatBlob(t.Context(), x))(t)
	}
	r.mark(x)
	if lines := strings.Count(read(t, root, "_repos/a/marks"), "\n"); lines > 1100 {
		t.Fatalf("%d lines for one mark", lines)
	}
	shut(t, s)
	f := must(os.OpenFile(root+"/_repos/a/marks", os.O_APPEND|os.O_WRONLY, 0))(t)
	must(f.WriteString("garbage\n{\"digest\":\"sha2"))(t)
	check(t, f.Close())
	r = repository(t, open(t, root, filesystem.Options{Unsynced: true}), "a")
	if got := r.marked(x); !got.Equal(markedAt) {
		t.Fatalf("marked since %v", got)
	}
}
