//go:build real

// Package disk gives the real program disks as operators have them: a full one,
// and one that is mounted below its root.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const (
	diskSize  = 32 << 20
	layerSize = 1 << 20
)

func TestFull(t *testing.T) {
	t.Parallel()
	srv := registry.Serve(t, filepath.Join(mount(t), "root"))
	repository := srv.Repository("app")
	var stored []*image.Content
	for {
		c := image.Random(uint64(len(stored)), 3, layerSize)
		err := repository.Push(t.Context(), c, tag(len(stored)))
		if status := remote.Status(err); status == http.StatusInsufficientStorage {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if stored = append(stored, c); len(stored) > diskSize/layerSize {
			t.Fatalf("%d images on a disk for fewer", len(stored))
		}
	}
	t.Logf("full after %d images", len(stored))
	if len(stored) < 4 {
		t.Fatal("too few images, so that this test shows nothing")
	}

	wantStored(t, srv, stored)
	if _, err := repository.Resolve(t.Context(), tag(len(stored))); remote.Status(err) != http.StatusNotFound {
		t.Fatalf("the push that failed has left a tag: %v", err)
	}
	if files := unfinished(t, srv.Root); len(files) > 0 {
		t.Fatalf("the push that failed has left %q", files)
	}
	if err := srv.Get(t.Context(), "/health/readyz"); remote.Status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "full") {
		t.Fatalf("readiness on a full disk: %v, want 503 and full", err)
	}
	srv.Await("/health/livez")

	for _, c := range stored[:2] {
		remove(t, repository, c)
	}
	srv.Await("/health/readyz")
	stored = stored[2:]
	again := image.Random(1000, 3, layerSize)
	srv.Push(again, "app", "again")
	srv.Check("app", "again", again)
	for i, c := range stored {
		srv.Check("app", tag(i+2), c)
	}

	srv.Kill()
	srv = registry.Serve(t, srv.Root)
	srv.Check("app", "again", again)
}

// TestMountBelowTheRoot keeps some repositories on another file system, which no
// hard link and no rename reaches.
func TestMountBelowTheRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	tool.Mount(t, filepath.Join(root, "big"), diskSize)
	srv := registry.Serve(t, root)
	c, other := image.Random(1, 3, layerSize), image.Random(2, 2, layerSize)
	srv.Push(c, "small", "v1")
	srv.Push(c, "big/app", "v1") // its layers come from the pool, as far as that goes
	srv.Push(other, "big/app", "v1")
	srv.Check("big/app", "v1", other)
	srv.Check("big/app", c.Digest.String(), c)
	remove(t, srv.Repository("big/app"), c)
	srv.Check("small", "v1", c)
	srv.Kill()
	srv = registry.Serve(t, root)
	srv.Check("big/app", "v1", other)
	srv.Stop()
}

// TestFolderThatIsGone takes the folder from under a registry, and gives it back.
func TestFolderThatIsGone(t *testing.T) {
	t.Parallel()
	ways := map[string]struct{ take, giveBack func(root string) error }{
		"moved": {
			func(root string) error { return os.Rename(root, root+".moved") },
			func(root string) error { return os.Rename(root+".moved", root) },
		},
		"mounted over": {
			func(root string) error { return syscall.Mount("tmpfs", root, "tmpfs", 0, "size=1m") },
			func(root string) error { return syscall.Unmount(root, 0) },
		},
	}
	for way, do := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			srv := registry.Serve(t, filepath.Join(t.TempDir(), "root"))
			c, other := image.Random(1, 2, 10_000), image.Random(2, 2, 10_000)
			srv.Push(c, "app", "v1")
			if err := do.take(srv.Root); err != nil {
				t.Fatal(err)
			}
			if err := srv.Get(t.Context(), "/health/readyz"); remote.Status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "standby") {
				t.Errorf("readiness without the folder: %v, want 503 and standby", err)
			}
			if err := srv.Repository("app").Push(t.Context(), other, "v2"); remote.Status(err) != http.StatusServiceUnavailable {
				t.Errorf("push without the folder: %v, want 503", err)
			}
			srv.Check("app", "v1", c)
			if err := do.giveBack(srv.Root); err != nil {
				t.Fatal(err)
			}
			srv.Await("/health/readyz")
			srv.Push(other, "app", "v1")
			srv.Check("app", "v1", other)
		})
	}
}

func tag(i int) string { return fmt.Sprintf("v%d", i) }

func wantStored(t *testing.T, srv *registry.Server, stored []*image.Content) {
	t.Helper()
	for i, c := range stored {
		srv.Check("app", tag(i), c)
	}
}

// remove deletes an image and everything that nothing else needs.
func remove(t *testing.T, repository *remote.Repository, c *image.Content) {
	t.Helper()
	if err := repository.DeleteManifest(t.Context(), c.Digest.String()); err != nil {
		t.Fatal(err)
	}
	for _, b := range c.Blobs {
		if err := repository.DeleteBlob(t.Context(), b.Digest); err != nil {
			t.Fatal(err)
		}
	}
}

// unfinished lists what upload sessions have left behind.
func unfinished(t *testing.T, root string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Join(root, "_uploads"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// mount mounts a small file system, which the end of the test takes away.
func mount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tool.Mount(t, dir, diskSize)
	return dir
}
