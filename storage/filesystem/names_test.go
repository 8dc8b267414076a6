package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

func TestTreeHasMoreThanRepositories(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	m := image(t, "secret")
	layOut(t, outside, "repo", index(entry(m, "v1")), m.Raw)
	for _, name := range []string{"ok", "_x", ".x", "Upper", "sub/_y", "a-", "blobs"} {
		layOut(t, root, name, index(entry(m, "v1")), m.Raw)
	}
	layOut(t, root, "ok/blobs/below", index(entry(m, "v1")), m.Raw) // not a name: it's inside ok's layout
	write(t, "a file", root, "file")
	check(t,
		os.MkdirAll(filepath.Join(root, "empty", "blobs", "sha256"), 0o700),
		os.Symlink(filepath.Join(outside, "repo"), filepath.Join(root, "out")),
		os.Symlink("../"+filepath.Base(outside)+"/repo", filepath.Join(root, "up")),
		os.Symlink("ok", filepath.Join(root, "in")),
		os.Symlink(".", filepath.Join(root, "loop")),
		os.Symlink("nowhere", filepath.Join(root, "dangling")),
	)
	s := open(t, root, filesystem.Options{})
	wantCatalog(t, s, "blobs", "in", "ok")
	repository(t, s, "in").want("v1", m)
	for _, name := range []string{"file", "file/below", "empty", "dangling", "nothing"} {
		repository(t, s, name).wantUnknown()
	}
	for _, name := range []string{"out", "up"} {
		r := repository(t, s, name)
		_, err := r.Index(t.Context())
		_, rerr := r.Resolve(t.Context(), reference(t, "v1"))
		_, berr := r.OpenBlob(t.Context(), m.Digest)
		_, perr := pushBlob(t.Context(), r, "x")
		if err == nil || rerr == nil || berr == nil || perr == nil {
			t.Fatalf("%s, which leaves the tree: %v, %v, %v, %v", name, err, rerr, berr, perr)
		}
	}
	if got := files(t, outside); len(got) != 3 {
		t.Fatalf("outside there is %v", got)
	}
}

func TestBlobThatLeavesTheTreeIsNotServed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, "secret", secret)
	s := open(t, root, filesystem.Options{})
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m, "v1")
	d := image(t, "no blob").Digest
	check(t, os.Symlink(secret, blobFile(root, "a", d)))
	if b, err := r.OpenBlob(t.Context(), d); err == nil {
		t.Fatalf("served %v", errors.Join(b.Close()))
	}
	dir := image(t, "a folder").Digest
	check(t, os.Mkdir(blobFile(root, "a", dir), 0o700))
	r.wantNoBlob(dir)
	if _, err := r.OpenBlob(t.Context(), dir); !errors.Is(err, oci.BlobUnknown) {
		t.Fatalf("a folder: error %v, want BLOB_UNKNOWN", err)
	}
}

func TestNamesInNamesDoNotMix(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{LogFrom: 1})
	names := []string{"a", "a/b", "a/b/c", "a-b", "a.b", "a__b", "blobs"}
	for _, name := range names {
		r := repository(t, s, name)
		r.push(image(t, name), "v1")
		r.push(image(t, name+" again"), "v2")
	}
	shut(t, s)
	s = open(t, root, filesystem.Options{})
	for _, name := range names {
		r := repository(t, s, name)
		r.want("v1", image(t, name))
		r.wantNone(image(t, "other").Digest.String())
	}
	var _ storage.Store = s
	wantCatalog(t, s, "a", "a-b", "a.b", "a/b", "a/b/c", "a__b", "blobs")
}
