//go:build unix

package filesystem_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// pipe puts a named pipe in the place of a file, with both of its ends open: who
// opens it and reads waits for ever.
func pipe(t *testing.T, elem ...string) {
	t.Helper()
	name := filepath.Join(elem...)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	check(t, syscall.Mkfifo(name, 0o600))
	f := must(os.OpenFile(name, os.O_RDWR, 0))(t)
	t.Cleanup(func() { check(t, f.Close()) })
}

// A named pipe in the place of a blob.
func TestPipeInsteadOfBlob(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	r := repository(t, s, "a")
	l := r.pushBlob(large("layer"))
	m := image(t, "m", l)
	r.push(m, "v1")
	for _, d := range []digest.Digest{l, m.Digest} {
		pipe(t, blobFile(root, "a", d))
		r.wantNoBlob(d)
		if _, err := r.OpenBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
			t.Fatalf("error %v, want BLOB_UNKNOWN", err)
		}
	}
	if err := put(t.Context(), r, image(t, "n", l), "v2"); !errors.Is(err, oci.ManifestBlobUnknown) {
		t.Fatalf("a manifest that names a pipe: error %v, want MANIFEST_BLOB_UNKNOWN", err)
	}
	repository(t, s, "b").push(image(t, "other"), "v1")
	r.pushBlob(large("layer")) // takes its place
	r.wantBlob(large("layer"))
	r.push(m, "v1")
	r.want("v1", m)
}

// A named pipe, or a folder, in the place of index.json: the last good names are
// served, as when it can't be parsed.
func TestPipeInsteadOfIndex(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(t *testing.T, elem ...string){
		"pipe": pipe,
		"folder": func(t *testing.T, elem ...string) {
			check(t, os.Remove(filepath.Join(elem...)), os.Mkdir(filepath.Join(elem...), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, watchful)
			r := repository(t, s, "a")
			m := image(t, "m")
			r.push(m, "v1")
			good := read(t, root, "a/index.json")
			shut(t, s)

			replace(t, root, "a/index.json")
			s = open(t, root, watchful)
			r = repository(t, s, "a")
			r.want("v1", m)
			r.wantBroken()
			wantCatalog(t, s, "a")
			repository(t, s, "b").push(m, "v1")

			check(t, os.Remove(filepath.Join(root, "a/index.json")))
			write(t, good, root, "a/index.json")
			r.push(image(t, "n"), "v2")
			r.wantTags("v1", "v2")
		})
	}
}

// Named pipes wherever the store keeps something of its own: what needs it may
// fail, and nothing waits.
func TestPipesInPlacesOfOurs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"_repos/a/log", "_repos/a/history", "_repos/a/index.json", "_repos/a/pulls", "a/oci-layout", "a/blobs/sha512",
		"_reserve", "_unsynced", "_pool", "_uploads",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			s := open(t, root, filesystem.Options{LogFrom: 1})
			r := repository(t, s, "a")
			m := image(t, "m", r.pushBlob(large("layer")))
			r.push(m, "v1")
			recordPull(r, m.Digest)
			shut(t, s)
			check(t, os.RemoveAll(filepath.Join(root, name)))
			pipe(t, root, name)

			s = open(t, root, filesystem.Options{LogFrom: 1})
			r = repository(t, s, "a")
			r.wantBlob(large("layer"))
			r.want("v1", m)
			wantCatalog(t, s, "a")
			_, blob := pushBlob(t.Context(), r, "more")
			t.Logf("push of a blob %v, of a manifest %v", blob, put(t.Context(), r, image(t, "n"), "v2"))
			repository(t, s, "b").push(image(t, "other"), "v1")
			shut(t, s)
		})
	}
}

// A named pipe in the place of a session's files.
func TestPipeInsteadOfSession(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"data", "state"} {
		root := t.TempDir()
		id := begun(t, root, "begun")
		r := repository(t, open(t, root, filesystem.Options{}), "a")
		pipe(t, root, "_uploads", id, name)
		if again, err := r.ResumeUpload(t.Context(), id); err == nil {
			_, err = again.Append(t.Context(), -1, io.LimitReader(endless{}, 10))
			if check(t, again.Close()); err == nil {
				t.Fatalf("%s: the session goes on", name)
			}
		}
	}
}

// endless has no end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
