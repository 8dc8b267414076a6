package filesystem_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// read reads a blob, and reports whether it came from memory.
func (r repo) read(d digest.Digest) (content string, inMemory bool, err error) {
	r.t.Helper()
	b, err := r.OpenBlob(r.t.Context(), d)
	if err != nil {
		return "", false, err
	}
	_, isFile := b.ReadSeekCloser.(*os.File)
	data, err := io.ReadAll(b)
	return string(data), !isFile, errors.Join(err, b.Close())
}

func settled(t *testing.T) (string, *filesystem.Store) {
	root := t.TempDir()
	return root, open(t, root, filesystem.AfterReboot(filesystem.Options{Direct: true}))
}

func TestWhatIsReadOftenIsKeptInMemory(t *testing.T) {
	t.Parallel()
	_, s := settled(t)
	for size, want := range map[int]bool{1: true, 64 << 10: true, 64<<10 + 1: false} {
		r := repository(t, s, fmt.Sprint("a", size))
		content := strings.Repeat("x", size)
		d := r.pushBlob(content)
		for i := range 5 {
			got, inMemory, err := r.read(d)
			if err != nil || got != content {
				t.Fatalf("read %d bytes, %v; want %d", len(got), err, size)
			}
			if inMemory != (want && i > 0) {
				t.Errorf("read the %d. time, %d bytes came from memory: %v", i+1, size, inMemory)
			}
		}
	}
}

// What is in memory counts as long as it's what the file holds.
func TestWhatIsKeptInMemoryIsTheFile(t *testing.T) {
	t.Parallel()
	root, s := settled(t)
	r := repository(t, s, "a")
	d := r.pushBlob("content")
	m := image(t, "v")
	r.push(m, "v")
	for range 3 {
		if _, _, err := r.read(d); err != nil {
			t.Fatal(err)
		}
		r.want("v", m)
	}
	file := filepath.Join(root, "a", "blobs", "sha256", d.Encoded())
	check(t, os.WriteFile(file, []byte("damaged"), 0o600)) // in place, as long as it was
	if got, _, err := r.read(d); err != nil || got != "damaged" {
		t.Errorf("read %q, %v", got, err)
	}
	check(t, os.WriteFile(file+".new", []byte("content"), 0o600), os.Rename(file+".new", file))
	if got, _, err := r.read(d); err != nil || got != "content" {
		t.Errorf("read %q, %v", got, err)
	}
	check(t, os.Remove(file))
	if _, _, err := r.read(d); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("a file that's gone: %v", err)
	}
}

// Each repository has what is its own: to have read a blob in one gives nobody the
// same blob in another.
func TestWhatIsKeptInMemoryIsOfARepository(t *testing.T) {
	t.Parallel()
	_, s := settled(t)
	r := repository(t, s, "a")
	d := r.pushBlob("content")
	for range 3 {
		if _, _, err := r.read(d); err != nil {
			t.Fatal(err)
		}
	}
	other := repository(t, s, "b")
	other.pushBlob("other")
	if _, _, err := other.read(d); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("in another repository: %v", err)
	}
	check(t, storage.DeleteBlob(t.Context(), r, d, ""))
	if _, _, err := r.read(d); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("deleted: %v", err)
	}
}

func TestMemoryOfSmallBlobsIsBounded(t *testing.T) {
	t.Parallel()
	_, s := settled(t)
	r := repository(t, s, "a")
	for i := range 200 {
		d := r.pushBlob(fmt.Sprintf("%d%s", i, strings.Repeat(" ", 60_000)))
		for range 3 {
			if _, _, err := r.read(d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := filesystem.SmallBytes(s); n > 8<<20 || n < 7<<20 {
		t.Errorf("%d bytes are kept", n)
	}
}
