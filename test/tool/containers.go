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
	c.Args = append(c.storage(), "--tmpdir", filepath.Join(c.Dir, "tmp"), "--events-backend", "none", "--cgroup-manager", "cgroupfs")
	return c
}

// PartialPodman returns podman as it is set up to pull no more of a layer than
// what it lacks. That takes the storage driver overlay, on a disk that has no
// overlay below.
func PartialPodman(t *testing.T) *Tool {
	t.Helper()
	c := Podman(t)
	config := filepath.Join(c.Dir, "storage.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, partialStorage, c.Dir), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Args = c.Args[len(c.storage()):]
	c.Env = append(c.Env, "CONTAINERS_STORAGE_CONF="+config)
	return c
}

const partialStorage = `[storage]
driver = "overlay"
graphroot = "%[1]s/store"
runroot = "%[1]s/running"
[storage.options]
pull_options = {enable_partial_images = "true"}
`

// Buildah returns buildah, in the same way.
func Buildah(t *testing.T) *Tool {
	t.Helper()
	c := Find(t, "buildah")
	c.Args = c.storage()
	return c
}

func (c *Tool) storage() []string {
	return []string{"--root", filepath.Join(c.Dir, "store"), "--runroot", filepath.Join(c.Dir, "running"), "--storage-driver", "vfs"}
}
