//go:build real

// Package gc_test has clients push, move and delete tags of images that share
// layers, while the real program collects garbage all the time.
package gc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/age"
	"github.com/caddy-oci/oci-registry/test/tool"
)

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
	if removed == 0 && tool.Sized(false, true) {
		t.Error("nothing was removed while clients pushed")
	}
}
