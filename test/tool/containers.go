//go:build real

package tool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Podman returns podman, which keeps everything in a folder of the test's own.
// The storage driver vfs needs nothing of the kernel, so this works inside of a
// container too.
func Podman(t *testing.T) *Tool {
	t.Helper()
	c := Find(t, "podman")
	c.Args = append(c.storage(t), c.podman()...)
	return c
}

func (c *Tool) podman() []string {
	return []string{"--tmpdir", filepath.Join(c.Dir, "tmp"), "--events-backend", "none", "--cgroup-manager", "cgroupfs"}
}

// PartialPodman returns podman as it is set up to pull no more of a layer than
// what it lacks. That takes the storage driver overlay, on a disk that has no
// overlay below.
func PartialPodman(t *testing.T) *Tool {
	t.Helper()
	c := Find(t, "podman")
	c.Args = c.podman()
	config := filepath.Join(c.Dir, "storage.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, partialStorage, c.Dir, running(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Env = append(c.Env, "CONTAINERS_STORAGE_CONF="+config)
	return c
}

const partialStorage = `[storage]
driver = "overlay"
graphroot = "%[1]s/store"
runroot = "%[2]s"
[storage.options]
pull_options = {enable_partial_images = "true"}
`

// Buildah returns buildah, in the same way.
func Buildah(t *testing.T) *Tool {
	t.Helper()
	c := Find(t, "buildah")
	c.Args = c.storage(t)
	return c
}

func (c *Tool) storage(t *testing.T) []string {
	t.Helper()
	return []string{"--root", filepath.Join(c.Dir, "store"), "--runroot", running(t), "--storage-driver", "vfs"}
}

// running is a folder whose path is short, whatever TMPDIR is: podman refuses one of more
// than 50 bytes.
func running(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
