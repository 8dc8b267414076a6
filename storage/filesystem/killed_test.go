package filesystem_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// A process is killed before a small blob is durable, and another one starts in the same
// boot, where the blob is as it should be. After that nobody doubts it any more, so it
// has to be durable by then: a power cut leaves all of it, or nothing.
func TestBlobOfAKilledProcessIsMadeDurable(t *testing.T) {
	frozen(t, func(t *testing.T) {
		memory := must(vfs.NewForgetful(must(vfs.Dir(memoryDir(t)))(t)))(t)
		var killed atomic.Bool
		s := must(filesystem.OpenFS(vfs.NewFaulty(must(memory.Sub("."))(t), func(vfs.Step) error {
			if killed.Load() {
				return errors.New("killed")
			}
			return nil
		}), filesystem.Options{}))(t)
		r := repository(t, s, "a")
		r.push(image(t, "first"), "v1")
		r.pushBlob("a small blob")
		killed.Store(true)
		_ = s.Close() // the dead write nothing
		second := must(filesystem.OpenFS(must(memory.Sub("."))(t), filesystem.Options{}))(t)
		repository(t, second, "a").wantBlob("a small blob")
		left := memoryDir(t)
		check(t, memory.PowerCut(left), second.Close())
		third := repository(t, open(t, left, filesystem.AfterReboot(filesystem.Options{})), "a")
		if desc, err := third.StatBlob(t.Context(), digestOf("a small blob")); err == nil {
			third.wantBlob("a small blob")
		} else if !errors.Is(err, oci.BlobUnknown) {
			t.Errorf("%d bytes, %v", desc.Size, err)
		}
		check(t, memory.Forget(), memory.Close())
	})
}
