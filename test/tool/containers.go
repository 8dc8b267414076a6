//go:build real

package tool

import (
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
