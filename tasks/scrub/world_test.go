package scrub_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// world is a store whose bytes rot, and what a round has found in it.
type world struct {
	storage.Store

	t       *testing.T
	root    string
	found   []scrub.Finding
	checked int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	s, err := filesystem.Open(root, filesystem.Options{Unsynced: true, Recheck: -1})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return &world{Store: s, t: t, root: root}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// try does a round from a place on.
func (w *world) try(from scrub.Place, opts scrub.Options) error {
	return w.round(from, func(scrub.Place) {}, opts)
}

func (w *world) round(from scrub.Place, at func(scrub.Place), opts scrub.Options) error {
	w.found, w.checked = nil, 0
	opts.Found = func(f scrub.Finding) { w.found = append(w.found, f) }
	opts.Checked = func(int64) { w.checked++ }
	return scrub.Scrub(w.t.Context(), w.Store, from, at, opts)
}

// scrub does a whole round.
func (w *world) scrub(opts scrub.Options) {
	w.t.Helper()
	check(w.t, w.try(scrub.Place{}, opts))
}

// scrubFrom reports whether the round is over.
func (w *world) scrubFrom(from scrub.Place, at func(scrub.Place), opts scrub.Options) bool {
	w.t.Helper()
	err := w.round(from, at, opts)
	if !errors.Is(err, errStopped) {
		check(w.t, err)
	}
	return err == nil
}

// wantFound fails unless these were found, in whatever order.
func (w *world) wantFound(want ...scrub.Finding) {
	w.t.Helper()
	left := append([]scrub.Finding(nil), w.found...)
	for _, f := range want {
		found := false
		for i := range left {
			if reflect.DeepEqual(left[i], f) {
				left, found = append(left[:i:i], left[i+1:]...), true
				break
			}
		}
		if !found {
			w.t.Fatalf("not found: %+v\nin %+v", f, w.found)
		}
	}
	if len(left) > 0 {
		w.t.Fatalf("found %+v", left)
	}
}

func (w *world) repository(name string) storage.Repository {
	w.t.Helper()
	n, err := oci.ParseName(name)
	check(w.t, err)
	return w.Repository(n)
}

// image pushes an image of layers with these contents.
func (w *world) image(name, tag string, layers ...string) oci.Manifest {
	w.t.Helper()
	digests := make([]digest.Digest, 0, len(layers))
	for _, content := range layers {
		d := digest.FromString(content)
		_, err := storage.PutBlob(w.t.Context(), w.repository(name), d, strings.NewReader(content), storage.UploadOptions{})
		if err != nil {
			w.t.Error(err) // it may be another goroutine
		}
		digests = append(digests, d)
	}
	m := imageOf(w.t, digests...)
	w.put(name, tag, m)
	return m
}

func (w *world) put(name, tags string, m oci.Manifest) {
	w.t.Helper()
	opts := storage.PutOptions{Sparse: storage.SparseAll, Tags: []oci.Tag{tag(w.t, tags)}}
	if err := storage.PutManifest(w.t.Context(), w.repository(name), m, opts); err != nil {
		w.t.Error(err)
	}
}

func (w *world) tag(name, s string, m oci.Manifest) {
	w.t.Helper()
	w.put(name, s, m)
}

func (w *world) index(name, tag string, children ...oci.Manifest) {
	w.t.Helper()
	list := make([]oci.Descriptor, 0, len(children))
	for _, m := range children {
		list = append(list, oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size})
	}
	w.put(name, tag, manifest(w.t, oci.MediaTypeImageIndex, map[string]any{"manifests": list}))
}

func imageOf(t *testing.T, layers ...digest.Digest) oci.Manifest {
	t.Helper()
	list := make([]oci.Descriptor, 0, len(layers))
	for _, d := range layers {
		list = append(list, oci.Descriptor{MediaType: "application/x.layer", Digest: d, Size: 1})
	}
	return manifest(t, oci.MediaTypeImageManifest, map[string]any{"layers": list})
}

func manifest(t *testing.T, mediaType string, f map[string]any) oci.Manifest {
	t.Helper()
	f["schemaVersion"], f["mediaType"] = 2, mediaType
	raw, err := json.Marshal(f)
	check(t, err)
	m, err := oci.ParseManifest(mediaType, raw, digest.Canonical)
	check(t, err)
	return m
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(s)
	check(t, err)
	return v
}

// large is a blob that the pool shares.
func large(seed string) string { return strings.Repeat(seed+" ", 100_000/len(seed)) }

func (w *world) wantBlob(name string, d digest.Digest) {
	w.t.Helper()
	b, err := w.repository(name).OpenBlob(w.t.Context(), d)
	if err != nil {
		w.t.Errorf("%s of %s: %v", d, name, err)
		return
	}
	v := d.Verifier()
	if _, err = io.Copy(v, b); err != nil || !v.Verified() {
		w.t.Errorf("%s of %s has other bytes, %v", d, name, err)
	}
	_ = b.Close()
}

func (w *world) wantImage(name, s string, m oci.Manifest) {
	w.t.Helper()
	desc, err := w.repository(name).Resolve(w.t.Context(), oci.TagRef(tag(w.t, s)))
	if err != nil || desc.Digest != m.Digest {
		w.t.Errorf("%s of %s is %s, %v; want %s", s, name, desc.Digest, err, m.Digest)
	}
	w.wantBlob(name, m.Digest)
	for _, b := range m.Blobs {
		w.wantBlob(name, b.Digest)
	}
}

func (w *world) blobFile(name string, d digest.Digest) string {
	return filepath.Join(w.root, name, "blobs", d.Algorithm().String(), d.Encoded())
}

func (w *world) stat(name string) fs.FileInfo {
	w.t.Helper()
	fi, err := os.Stat(name)
	check(w.t, err)
	return fi
}

func (w *world) exists(name string) bool {
	_, err := os.Stat(filepath.Join(w.root, name))
	return err == nil
}

// rot flips a bit of a blob, and nothing else tells of it.
func (w *world) rot(name string, d digest.Digest) {
	w.t.Helper()
	file := w.blobFile(name, d)
	fi := w.stat(file)
	content, err := os.ReadFile(file)
	check(w.t, err)
	content[len(content)/2] ^= 1
	check(w.t, os.Chmod(file, 0o600))
	check(w.t, os.WriteFile(file, content, 0o600))
	check(w.t, os.Chmod(file, fi.Mode()))
	check(w.t, os.Chtimes(file, fi.ModTime(), fi.ModTime()))
}

// unshare makes a blob's file one of its own.
func (w *world) unshare(name string, d digest.Digest) {
	w.t.Helper()
	file := w.blobFile(name, d)
	content, err := os.ReadFile(file)
	check(w.t, err)
	check(w.t, os.Remove(file))
	check(w.t, os.WriteFile(file, content, 0o444))
}

func (w *world) remove(name string, d digest.Digest) {
	w.t.Helper()
	check(w.t, os.Remove(w.blobFile(name, d)))
}

func (w *world) losePool() {
	w.t.Helper()
	check(w.t, os.RemoveAll(filepath.Join(w.root, "_pool")))
}

// files are all that a round could change, with what they hold.
func (w *world) files() (all []string) {
	w.t.Helper()
	check(w.t, filepath.WalkDir(w.root, func(name string, e fs.DirEntry, err error) error {
		content := strings.Contains(name, "/blobs/") || strings.Contains(name, "/_pool/") || strings.Contains(name, "/_quarantine/")
		if errors.Is(err, fs.ErrNotExist) || err == nil && (e.IsDir() || !content) {
			return nil // what's in the background comes and goes
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		all = append(all, name+" "+digest.FromBytes(data).String())
		return err
	}))
	return all
}
