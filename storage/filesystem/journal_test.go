package filesystem_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// An upload that a restart interrupts is whole after a power cut.
func TestResumedUploadSurvivesAPowerCut(t *testing.T) {
	for name, opts := range syncing() {
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) {
				root, left := memoryDir(t), memoryDir(t)
				memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
				withReserve(t, root)
				p := &theatre{filesystem.AfterReboot(opts), memory, never}
				s := must(p.open())(t)
				u := must(repository(t, s, "a").NewUpload(t.Context(), storage.UploadOptions{}))(t)
				must(u.Append(t.Context(), 0, strings.NewReader(firstHalf)))(t)
				id := u.ID()
				check(t, u.Close(), s.Close())

				s = must(p.open())(t)
				r := repository(t, s, "a")
				u = must(r.ResumeUpload(t.Context(), id))(t)
				must(u.Append(t.Context(), int64(len(firstHalf)), strings.NewReader(secondHalf)))(t)
				d := digest.FromString(firstHalf + secondHalf)
				must(u.Commit(t.Context(), d))(t)
				check(t, u.Close())
				m := image(t, "v1", d)
				r.push(m, "v1")
				check(t, memory.PowerCut(left), s.Close())

				s = open(t, left, filesystem.AfterReboot(opts))
				r = repository(t, s, "a")
				r.want("v1", m)
				if err := readBlob(t.Context(), r, d); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A writer whose lock was taken from it leaves the other one's journal alone.
func TestCloseLeavesTheJournalOfAnother(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first := open(t, root, filesystem.Options{})
	check(t, os.Remove(filepath.Join(root, "_lock")))
	second := open(t, root, filesystem.Options{})
	repository(t, second, "a").push(image(t, "v2"), "v2")
	shut(t, first)
	repository(t, second, "a").push(image(t, "v3"), "v3")
	if !exists(t, root, "_journal", "tmp-a") || !exists(t, root, "_journal", "tmp-b") {
		t.Fatal("the second one's journal is gone, and it goes on acknowledging")
	}
}

// A record that was written and not synced when the process was killed, and that
// another one takes for good, is durable with what that appends.
func TestLogAppendedToAfterAKill(t *testing.T) {
	for name, opts := range syncing() {
		opts.LogFrom = 1
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) { killThenCut(t, filesystem.AfterRebootLarge(opts)) })
		})
	}
}

func killThenCut(t *testing.T, opts filesystem.Options) {
	t.Helper()
	root, left := memoryDir(t), memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	withReserve(t, root)
	var armed, dead atomic.Bool
	p := &theatre{opts, vfs.NewFaulty(memory, func(s vfs.Step) error {
		switch {
		case dead.Load():
			return syscall.EIO
		case armed.Load() && s.Op == "write" && strings.HasSuffix(s.Name, "/log"):
			dead.Store(true) // killed when the whole record is written
			return vfs.Short{Err: syscall.EIO, Done: func(n int) int { return n }}
		}
		return nil
	}), dead.Load}
	s := must(p.open())(t)
	r := repository(t, s, "a")
	for start := time.Now(); time.Since(start) < 41*time.Second; time.Sleep(400 * time.Millisecond) {
		r.push(image(t, fmt.Sprint(time.Now())), "v")
	}
	armed.Store(true)
	if put(t.Context(), r, image(t, "killed"), "killed") == nil {
		t.Fatal("not killed")
	}
	_ = s.Close()
	p = &theatre{opts, memory, never}
	s = must(p.open())(t)
	m := image(t, "last")
	repository(t, s, "a").push(m, "last")
	check(t, memory.PowerCut(left))
	_ = s.Close()
	s = open(t, left, opts)
	repository(t, s, "a").want("last", m)
}
