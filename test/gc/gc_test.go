//go:build real

// Package gc_test has clients push, move and delete tags of images that share
// layers, while the real program collects garbage all the time.
package gc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/test/age"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const grace = time.Minute // as it says here:

const caddyfile = `{
	admin ADMIN
}
http://HOST {
	oci_registry {
		STORAGE
		anonymous all
		gc {
			every 1h
			grace 1m
			untagged_grace 1m
		}
	}
}
`

// Nothing goes of what is pushed, and what nothing needs goes, all of it. At CI's
// size time passes while the server is down; in the soak the real minute does.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	w := newWorld(t, strings.ReplaceAll(caddyfile, "STORAGE", "root "+root), tool.Sized(6, 50))
	removed := int64(0)
	for range tool.Sized(4, 3) {
		w.start(1)
		removed += w.work(tool.Sized(4*time.Second, 200*time.Second))
		w.stop()
		if age.Marks(t, root, tool.Sized(2*time.Minute, 0)) == 0 {
			t.Fatal("nothing is marked")
		}
	}
	if removed == 0 {
		t.Error("nothing was removed while clients pushed")
	}
	w.settle(root)
}

// Two processes serve a bucket, and both collect. Grace passes in the soak only.
func TestOnS3(t *testing.T) {
	t.Parallel()
	minio := tool.MinIO(t)
	tool.Bucket(t, minio, "registry")
	w := newWorld(t, strings.ReplaceAll(caddyfile, "STORAGE", `storage s3 {
			bucket     registry
			endpoint   `+minio+`
			path_style
			access_key `+tool.MinIOKey+`
			secret_key `+tool.MinIOSecret+`
		}`), tool.Sized(6, 50))
	w.start(2)
	removed := w.work(tool.Sized(8*time.Second, 10*time.Minute))
	w.stop()
	if !tool.Sized(false, true) {
		return
	}
	if removed == 0 {
		t.Error("nothing was removed while clients pushed")
	}
	w.settleSlowly()
}

// A repository full of garbage is marked in one round and emptied in another. The
// times are in the log.
func TestManyBlobs(t *testing.T) {
	t.Parallel()
	root, n := t.TempDir(), tool.Sized(2_000, 100_000)
	fill(t, root, n)
	w := newWorld(t, strings.ReplaceAll(caddyfile, "STORAGE", "root "+root), 0)
	for _, what := range []string{"marked", "removed"} {
		w.start(1)
		begun := time.Now()
		counts := w.collect(w.servers[0])
		t.Logf("%d blobs %s in %v: %v", n, what, time.Since(begun).Round(time.Millisecond), counts)
		if removed := counts["removed_blobs"]; what == "removed" && removed < int64(n) {
			t.Errorf("%d blobs removed, want %d", removed, n)
		}
		w.stop()
		age.Marks(t, root, 2*time.Minute)
	}
}

// fill makes a root with so many blobs that nothing needs.
func fill(t *testing.T, root string, n int) {
	t.Helper()
	s, err := filesystem.Open(root, filesystem.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	name, err := oci.ParseName("app")
	if err != nil {
		t.Fatal(err)
	}
	r := s.Repository(name)
	for i := range n {
		content := fmt.Sprint("blob ", i)
		if _, err := storage.PutBlob(t.Context(), r, digest.FromString(content), strings.NewReader(content), storage.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
