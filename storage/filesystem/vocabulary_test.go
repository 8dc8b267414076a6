package filesystem_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// repo is a repository under test. Its methods end the test if they fail, so
// they are for the test's own goroutine.
type repo struct {
	storage.Repository

	t testing.TB
}

func repository(t testing.TB, s storage.Store, name string) repo {
	t.Helper()
	return repo{s.Repository(must(oci.ParseName(name))(t)), t}
}

func (r repo) pushBlob(content string) digest.Digest {
	r.t.Helper()
	d, err := pushBlob(r.t.Context(), r, content)
	if err != nil {
		r.t.Fatalf("push the blob %.20q: %v", content, err)
	}
	return d
}

func pushBlob(ctx context.Context, to storage.Repository, content string) (digest.Digest, error) {
	d := digest.FromString(content)
	_, err := storage.PutBlob(ctx, to, d, strings.NewReader(content), storage.UploadOptions{Size: int64(len(content))})
	return d, err
}

// push puts m, whose blobs are there, and makes the tags name it.
func (r repo) push(m oci.Manifest, tags ...string) digest.Digest {
	r.t.Helper()
	if err := put(r.t.Context(), r, m, tags...); err != nil {
		r.t.Fatalf("push %v: %v", tags, err)
	}
	return m.Digest
}

func put(ctx context.Context, to storage.Repository, m oci.Manifest, tags ...string) error {
	opts := storage.PutOptions{By: "somebody"}
	for _, s := range tags {
		tag, err := oci.ParseTag(s)
		if err != nil {
			return err
		}
		opts.Tags = append(opts.Tags, tag)
	}
	return storage.PutManifest(ctx, to, m, opts)
}

// delete removes a tag or, by digest, a manifest.
func (r repo) delete(ref string) {
	r.t.Helper()
	if err := storage.DeleteManifest(r.t.Context(), r, reference(r.t, ref), "somebody"); err != nil {
		r.t.Fatalf("delete %s: %v", ref, err)
	}
}

// drop removes a blob.
func (r repo) drop(d digest.Digest) {
	r.t.Helper()
	err := r.Update(r.t.Context(), func(e *storage.Edit) error { e.DropBlob(d); return nil })
	if err != nil {
		r.t.Fatalf("drop %s: %v", d, err)
	}
}

// want fails unless ref, a tag or digest, names m, whose bytes are there.
func (r repo) want(ref string, m oci.Manifest) {
	r.t.Helper()
	b, err := storage.GetManifest(r.t.Context(), r, reference(r.t, ref))
	if err != nil {
		r.t.Fatalf("get %s: %v", ref, err)
	}
	raw, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil || !bytes.Equal(raw, m.Raw) {
		r.t.Fatalf("%s is %.80q, %v; want %.80q", ref, raw, err, m.Raw)
	}
}

func (r repo) wantNone(refs ...string) {
	r.t.Helper()
	for _, ref := range refs {
		_, err := r.Resolve(r.t.Context(), reference(r.t, ref))
		if !errors.Is(err, oci.ManifestUnknown) {
			r.t.Fatalf("%s: error %v, want MANIFEST_UNKNOWN", ref, err)
		}
	}
}

func (r repo) wantBlob(content string) {
	r.t.Helper()
	if err := readBlob(r.t.Context(), r, digest.FromString(content)); err != nil {
		r.t.Fatal(err)
	}
}

// readBlob reads a blob, which has to be what its digest says.
func readBlob(ctx context.Context, from storage.Reader, d digest.Digest) error {
	b, err := from.OpenBlob(ctx, d)
	if err != nil {
		return err
	}
	v := d.Verifier()
	_, err = io.Copy(v, b)
	if err = errors.Join(err, b.Close()); err == nil && !v.Verified() {
		err = fmt.Errorf("%s has other bytes", d)
	}
	return err
}

func (r repo) wantNoBlob(d digest.Digest) {
	r.t.Helper()
	if _, err := r.StatBlob(r.t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
		r.t.Fatalf("blob %s: error %v, want BLOB_UNKNOWN", d, err)
	}
}

// tags are what the tags of the repository name.
func (r repo) tags() map[string]digest.Digest {
	r.t.Helper()
	found := make(map[string]digest.Digest)
	for tag, desc := range must(r.Index(r.t.Context()))(r.t).Tags(oci.Tag{}) {
		found[tag.String()] = desc.Digest
	}
	return found
}

func (r repo) wantTags(want ...string) {
	r.t.Helper()
	if got := slices.Sorted(maps.Keys(r.tags())); !slices.Equal(got, want) {
		r.t.Fatalf("tags are %v, want %v", got, want)
	}
}

// wantUnknown fails unless the repository doesn't exist.
func (r repo) wantUnknown() {
	r.t.Helper()
	if _, err := r.Index(r.t.Context()); !errors.Is(err, oci.NameUnknown) {
		r.t.Fatalf("%s: error %v, want NAME_UNKNOWN", r.Name(), err)
	}
}

// wantBroken fails unless writing is refused for the sake of an unreadable index.
func (r repo) wantBroken() {
	r.t.Helper()
	if err := put(r.t.Context(), r, image(r.t, "refused"), "refused"); !errors.Is(err, storage.ErrBroken) {
		r.t.Fatalf("put: error %v, want ErrBroken", err)
	}
}

// catalog are the names of the repositories.
func catalog(t testing.TB, s storage.Store) []string {
	t.Helper()
	var names []string
	for name, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatalf("list repositories: %v", err)
		}
		names = append(names, name.String())
	}
	return names
}

func wantCatalog(t testing.TB, s storage.Store, want ...string) {
	t.Helper()
	if got := catalog(t, s); !slices.Equal(got, want) {
		t.Fatalf("repositories are %v, want %v", got, want)
	}
}

type fields map[string]any

// image is an image manifest of the given layers, unlike any of another title.
func image(t testing.TB, title string, layers ...digest.Digest) oci.Manifest {
	t.Helper()
	list := make([]oci.Descriptor, 0, len(layers))
	for _, d := range layers {
		list = append(list, oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: 1})
	}
	return manifest(t, oci.MediaTypeImageManifest, fields{"layers": list, "annotations": fields{"title": title}})
}

// imageIndex is an image index of the given children.
func imageIndex(t testing.TB, children ...oci.Manifest) oci.Manifest {
	t.Helper()
	list := make([]oci.Descriptor, 0, len(children))
	for _, c := range children {
		list = append(list, oci.Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: c.Size})
	}
	return manifest(t, oci.MediaTypeImageIndex, fields{"manifests": list})
}

func manifest(t testing.TB, mediaType string, f fields) oci.Manifest {
	t.Helper()
	f["schemaVersion"], f["mediaType"] = 2, mediaType
	return must(oci.ParseManifest(mediaType, must(json.Marshal(f))(t), digest.Canonical))(t)
}

func reference(t testing.TB, s string) oci.Reference {
	t.Helper()
	return must(oci.ParseReference(s))(t)
}

// large is content that blobs share in the pool; of one seed it's the same.
func large(seed string) string { return strings.Repeat(seed, 64<<10/len(seed)+1) }

// must ends the test if a call failed, and else is what it returned:
// must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// blobFile is where a repository has a blob.
func blobFile(root, repository string, d digest.Digest) string {
	return filepath.Join(root, repository, "blobs", d.Algorithm().String(), d.Encoded())
}

// poolFile is where the pool has a blob.
func poolFile(root string, d digest.Digest) string {
	return filepath.Join(root, "_pool", "_", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

func read(t testing.TB, elem ...string) string {
	t.Helper()
	return string(must(os.ReadFile(filepath.Join(elem...)))(t))
}

func write(t testing.TB, content string, elem ...string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(elem...), []byte(content), 0o600))
}

func exists(t testing.TB, elem ...string) bool {
	t.Helper()
	_, err := os.Lstat(filepath.Join(elem...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// frozen runs a test while time stands still unless everybody waits for it, so
// that the background does nothing by itself.
func frozen(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// replay is frozen for a test of thousands of runs, each in a bubble of its own: what
// one holds goes with it, and each begins at the same time, so that one can be played
// alone. It returns what the run returns. The test that has the runs is parallel itself.
func replay(t *testing.T, run func(t *testing.T) bool) (more bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { more = run(t) })
	return more
}

// snapshot copies a live root as it is at this moment, which is what a killed
// process leaves. The reserve isn't worth the copying.
func snapshot(t testing.TB, root string) string {
	t.Helper()
	to := t.TempDir()
	check(t, filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(root, at)
		switch {
		case err != nil || rerr != nil:
			return errors.Join(err, rerr)
		case strings.HasPrefix(rel, "_reserve"):
			return nil
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	}))
	return to
}

// files are the regular files below a folder, with slashes; what is missing has none.
func files(t testing.TB, elem ...string) []string {
	t.Helper()
	top := filepath.Join(elem...)
	var found []string
	err := filepath.WalkDir(top, func(at string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(top, at)
		found = append(found, filepath.ToSlash(rel))
		return err
	})
	check(t, err)
	return found
}

// indexEntry is a descriptor in index.json as other tools read it.
type indexEntry struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

// readIndex is index.json as other tools read it: what each name means, and the
// manifests without a name.
func readIndex(t testing.TB, root, repository string) (tags map[string]digest.Digest, untagged []digest.Digest) {
	t.Helper()
	var index struct {
		SchemaVersion int          `json:"schemaVersion"`
		Manifests     []indexEntry `json:"manifests"`
	}
	check(t, json.Unmarshal([]byte(read(t, root, repository, "index.json")), &index))
	if index.SchemaVersion != 2 {
		t.Fatalf("index.json of %s has schemaVersion %d", repository, index.SchemaVersion)
	}
	tags = make(map[string]digest.Digest)
	for _, e := range index.Manifests {
		fi, err := os.Stat(blobFile(root, repository, e.Digest))
		if err != nil || fi.Size() != e.Size || e.MediaType == "" {
			t.Fatalf("index.json of %s: entry %+v, file %v", repository, e, err)
		}
		if name, ok := e.Annotations["org.opencontainers.image.ref.name"]; ok {
			tags[name] = e.Digest
		} else {
			untagged = append(untagged, e.Digest)
		}
	}
	return tags, untagged
}

// wantIndex fails unless index.json of a/b, as other tools read it, has these tags.
func wantIndex(t testing.TB, root string, want map[string]digest.Digest) {
	t.Helper()
	if got, _ := readIndex(t, root, "a/b"); !maps.Equal(got, want) {
		t.Fatalf("index.json of a/b names %v, want %v", got, want)
	}
}

func digestOf(content string) digest.Digest { return digest.FromString(content) }
