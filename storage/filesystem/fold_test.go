package filesystem_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// An index.json that a process has renamed, and that was killed before it could sync the
// folder, is durable before its successor removes the log.
func TestKilledInAFold(t *testing.T) {
	for name, opts := range syncing() {
		opts.LogFrom = 1
		t.Run(name, func(t *testing.T) {
			frozen(t, func(t *testing.T) { foldKilledThenCut(t, opts) })
		})
	}
}

func foldKilledThenCut(t *testing.T, opts filesystem.Options) {
	t.Helper()
	root, left := memoryDir(t), memoryDir(t)
	memory := must(vfs.NewForgetful(must(vfs.Dir(root))(t)))(t)
	withReserve(t, root)
	var armed, renamed, dead atomic.Bool
	p := &theatre{opts, vfs.NewFaulty(memory, func(s vfs.Step) error {
		switch {
		case dead.Load() || renamed.Load() && s.Op != "rename":
			dead.Store(true)
			return syscall.EIO
		case armed.Load() && s.Op == "rename" && s.Name == "a/index.json":
			renamed.Store(true)
		}
		return nil
	}), dead.Load}
	s := must(p.open())(t)
	r := repository(t, s, "a")
	first, second := image(t, "1"), image(t, "2")
	r.push(first, "v1")
	armed.Store(true)
	r.push(second, "v2")
	settle()
	if !dead.Load() {
		t.Fatal("not killed")
	}
	_ = s.Close()
	p = &theatre{opts, memory, never}
	s = must(p.open())(t)
	repository(t, s, "a").want("v2", second)
	settle()
	check(t, memory.PowerCut(left))
	_ = s.Close()
	s = open(t, left, filesystem.AfterReboot(opts))
	repository(t, s, "a").want("v1", first)
	repository(t, s, "a").want("v2", second)
}

// settle waits until repositories that are left alone have been settled.
func settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// A log that couldn't be begun, since the disk was full, is begun again with what it's for.
func TestLogIsBegunAgain(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := memoryDir(t)
		withReserve(t, root)
		var armed atomic.Bool
		p := &theatre{filesystem.Options{LogFrom: 1}, vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
			if s.Op == "write" && strings.HasSuffix(s.Name, "a/log") && armed.Swap(false) {
				return syscall.ENOSPC
			}
			return nil
		}), never}
		s := must(p.open())(t)
		r := repository(t, s, "a")
		r.push(image(t, "1"), "v1", "v2")
		settle()
		armed.Store(true)
		r.delete("v1") // which may use what is kept for a full disk
		if armed.Load() {
			t.Fatal("nothing was written to a log")
		}
		data := must(os.ReadFile(filepath.Join(root, "_repos", "a", "log")))(t)
		if first, _, _ := strings.Cut(string(data), "\n"); !strings.Contains(first, `"base"`) {
			t.Errorf("the log begins with %s", first)
		}
		check(t, s.Close())
	})
}

// Nothing is written behind a record that could be neither written nor taken back.
func TestFoldThatCantBeTakenBack(t *testing.T) {
	frozen(t, func(t *testing.T) {
		root := memoryDir(t)
		withReserve(t, root)
		var armed, cut atomic.Bool
		opts := filesystem.Options{LogFrom: 1}
		p := &theatre{opts, vfs.NewFaulty(must(vfs.Dir(root))(t), func(s vfs.Step) error {
			switch {
			case s.Op == "write" && strings.HasSuffix(s.Name, "a/log") && armed.Swap(false):
				cut.Store(true)
				return vfs.Short{Err: syscall.EIO, Done: func(n int) int { return n / 2 }}
			case s.Op == "truncate" && strings.HasSuffix(s.Name, "a/log") && cut.Swap(false):
				return syscall.EIO
			}
			return nil
		}), never}
		s := must(p.open())(t)
		r := repository(t, s, "a")
		first, second := image(t, "1"), image(t, "2")
		r.push(first, "v1")
		r.push(first, "v1a")
		armed.Store(true)
		for range 40 {
			if time.Sleep(100 * time.Millisecond); !armed.Load() {
				break
			}
		}
		if synctest.Wait(); armed.Load() || cut.Load() {
			t.Fatal("no fold has failed")
		}
		r.push(second, "v2")
		heir := open(t, snapshot(t, root), filesystem.AfterReboot(opts))
		repository(t, heir, "a").want("v2", second)
		check(t, s.Close())
	})
}
