//go:build real

package move

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestMemory moves much more than there's memory for, to a bucket, back, and in a
// file: 1 GiB at full size.
func TestMemory(t *testing.T) {
	t.Parallel()
	const repositories, most = 16, 300_000_000
	b, from := newBucket(t), filepath.Join(t.TempDir(), "from")
	fillLarge(t, from, repositories, tool.Sized[int64](24<<20, 64<<20))
	caddy := program(t, b)
	run := func(args ...string) {
		t.Helper()
		peak := caddy.Peak(append([]string{"oci-registry"}, args...)...)
		t.Logf("%s: at most %d MB", args[0], peak/1e6)
		if peak > most {
			t.Errorf("%v takes %d MB, want at most %d MB", args, peak/1e6, most/1_000_000)
		}
	}
	copied, imported := storeURL("s3", b.endpoint, "copied"), storeURL("s3", b.endpoint, "imported")
	back, file := filepath.Join(t.TempDir(), "back"), filepath.Join(t.TempDir(), "all.tar")
	run("copy", "--from", from, "--to", copied)
	run("copy", "--from", copied, "--to", back)
	run("export", "--store", copied, "--file", file)
	run("import", "--store", imported, "--file", file)
	run("check", "--store", imported)
	was := blobs(t, from)
	if is := blobs(t, back); len(was) != 2*repositories || !maps.Equal(was, is) {
		t.Errorf("the blobs were %v, and are %v", was, is)
	}
}

// fillLarge makes repositories in a folder, each with a layer of so many bytes.
func fillLarge(t *testing.T, root string, repositories int, size int64) {
	t.Helper()
	s, err := filesystem.Open(root, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range repositories {
		n, err := oci.ParseName(fmt.Sprint("large/", i))
		if err == nil {
			err = putLarge(t, s.Repository(n), byte(i), size)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func putLarge(t *testing.T, r storage.Repository, seed byte, size int64) error {
	t.Helper()
	content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{seed}), size) }
	d, err := digest.FromReader(content())
	if err != nil {
		return err
	}
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, d, size)
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, raw, digest.SHA256)
	if err != nil {
		return err
	}
	v, err := oci.ParseTag("v1")
	if err != nil {
		return err
	}
	_, err = storage.PutBlob(t.Context(), r, d, content(), storage.UploadOptions{Size: size})
	return errors.Join(err, storage.PutManifest(t.Context(), r, m, storage.PutOptions{Tags: []oci.Tag{v}}))
}
