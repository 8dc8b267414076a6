package storagetest

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

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

func repository(t testing.TB, s storage.Store, n string) repo {
	t.Helper()
	return repo{s.Repository(name(t, n)), t}
}

// pushBlob stores content in one go and returns its sha256 digest.
func (r repo) pushBlob(content string) digest.Digest {
	r.t.Helper()
	d := digest.FromString(content)
	opts := storage.UploadOptions{Size: int64(len(content))}
	if _, err := storage.PutBlob(r.t.Context(), r, d, strings.NewReader(content), opts); err != nil {
		r.t.Fatalf("push the blob %.20q: %v", content, err)
	}
	return d
}

// push puts m and makes the tags name it, whatever m needs.
func (r repo) push(m oci.Manifest, tags ...string) digest.Digest {
	r.t.Helper()
	r.putManifest(m, storage.PutOptions{Tags: tagList(r.t, tags...), Sparse: storage.SparseAll})
	return m.Digest
}

func (r repo) putManifest(m oci.Manifest, opts storage.PutOptions) {
	r.t.Helper()
	if err := storage.PutManifest(r.t.Context(), r, m, opts); err != nil {
		r.t.Fatalf("put %s: %v", m.String(), err)
	}
}

// update changes the index by an fn that doesn't fail.
func (r repo) update(fn func(*storage.Edit)) {
	r.t.Helper()
	err := r.Update(r.t.Context(), func(e *storage.Edit) error { fn(e); return nil })
	if err != nil {
		r.t.Fatalf("update: %v", err)
	}
}

func (r repo) index() storage.Index {
	r.t.Helper()
	return must(r.Index(r.t.Context()))(r.t)
}

// wantManifest fails unless each of refs, tags or digests, names the manifest d.
func (r repo) wantManifest(d digest.Digest, refs ...string) {
	r.t.Helper()
	for _, s := range refs {
		if got := must(r.Resolve(r.t.Context(), ref(r.t, s)))(r.t).Digest; got != d {
			r.t.Fatalf("%s names %s, want %s", s, got, d)
		}
	}
}

// wantNoManifest fails unless none of refs names anything.
func (r repo) wantNoManifest(refs ...string) {
	r.t.Helper()
	for _, s := range refs {
		_, err := r.Resolve(r.t.Context(), ref(r.t, s))
		wantCode(r.t, err, oci.ManifestUnknown)
		_, err = r.index().Resolve(ref(r.t, s))
		wantCode(r.t, err, oci.ManifestUnknown)
	}
}

// wantBlob fails unless the blob d can be asked for and read, and is content.
func (r repo) wantBlob(d digest.Digest, content string) {
	r.t.Helper()
	want := oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: int64(len(content))}
	wantDescriptor(r.t, must(r.StatBlob(r.t.Context(), d))(r.t), want)
	b := must(r.OpenBlob(r.t.Context(), d))(r.t)
	wantDescriptor(r.t, b.Descriptor, want)
	got, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil || string(got) != content {
		r.t.Fatalf("blob %s: read %d bytes, %.40q, %v; want %d, %.40q", d, len(got), got, err, len(content), content)
	}
}

func (r repo) wantNoBlob(d digest.Digest) {
	r.t.Helper()
	_, err := r.StatBlob(r.t.Context(), d)
	wantCode(r.t, err, oci.BlobUnknown)
	b, err := r.OpenBlob(r.t.Context(), d)
	if err == nil {
		_ = b.Close()
	}
	wantCode(r.t, err, oci.BlobUnknown)
}

// wantTags fails unless the tags are these, in this order.
func (r repo) wantTags(want ...string) {
	r.t.Helper()
	var got []string
	for t := range r.index().Tags(oci.Tag{}) {
		got = append(got, t.String())
	}
	wantSlice(r.t, "tags", got, want)
}

func (r repo) referrers(subject, after digest.Digest) []storage.Referrer {
	r.t.Helper()
	return slices.Collect(must(r.Referrers(r.t.Context(), subject, after))(r.t))
}

// image is an image manifest of the given layers, unlike any of another title.
func image(t testing.TB, title string, layers ...digest.Digest) oci.Manifest {
	t.Helper()
	return manifest(t, oci.MediaTypeImageManifest, fields{
		"layers": descriptors(layers...), "annotations": fields{"title": title},
	})
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

// referrer is an artifact manifest whose subject is a manifest of the given digest.
func referrer(t testing.TB, title string, subject digest.Digest) oci.Manifest {
	t.Helper()
	return manifest(t, oci.MediaTypeImageManifest, fields{
		"artifactType": "application/x.signature",
		"subject":      oci.Descriptor{MediaType: oci.MediaTypeImageManifest, Digest: subject, Size: 2},
		"annotations":  fields{"title": title},
	})
}

type fields map[string]any

// manifest is a manifest of the given fields.
func manifest(t testing.TB, mediaType string, f fields) oci.Manifest {
	t.Helper()
	f["schemaVersion"], f["mediaType"] = 2, mediaType
	return must(oci.ParseManifest(mediaType, must(json.Marshal(f))(t), digest.Canonical))(t)
}

func descriptors(digests ...digest.Digest) []oci.Descriptor {
	list := make([]oci.Descriptor, 0, len(digests))
	for _, d := range digests {
		list = append(list, oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: 1})
	}
	return list
}

func name(t testing.TB, s string) oci.Name {
	t.Helper()
	return must(oci.ParseName(s))(t)
}

func tag(t testing.TB, s string) oci.Tag {
	t.Helper()
	return must(oci.ParseTag(s))(t)
}

func tagList(t testing.TB, tags ...string) []oci.Tag {
	t.Helper()
	list := make([]oci.Tag, 0, len(tags))
	for _, s := range tags {
		list = append(list, tag(t, s))
	}
	return list
}

func ref(t testing.TB, s string) oci.Reference {
	t.Helper()
	return must(oci.ParseReference(s))(t)
}

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

func wantCode(t testing.TB, err error, code oci.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("error %v, want %s", err, string(code))
	}
}

// wantStatus fails unless err is an *oci.Error with this code and this HTTP status.
func wantStatus(t testing.TB, err error, code oci.Code, status int) {
	t.Helper()
	wantCode(t, err, code)
	var oe *oci.Error
	if !errors.As(err, &oe) || oe.HTTPStatus() != status {
		t.Fatalf("error %v has another status than %d", err, status)
	}
}

// wantDescriptor compares what a store says of blobs and, without annotations, of manifests.
func wantDescriptor(t testing.TB, got, want oci.Descriptor) {
	t.Helper()
	if got.MediaType != want.MediaType || got.Digest != want.Digest || got.Size != want.Size {
		t.Fatalf("descriptor %s %s %d, want %s %s %d",
			got.MediaType, got.Digest, got.Size, want.MediaType, want.Digest, want.Size)
	}
}

func wantSlice[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s are %v, want %v", what, got, want)
	}
}

// digests are the digests of a sequence's descriptors, in its order.
func digests(descs []oci.Descriptor) []digest.Digest {
	list := make([]digest.Digest, 0, len(descs))
	for _, d := range descs {
		list = append(list, d.Digest)
	}
	return list
}

func referring(referrers []storage.Referrer) []digest.Digest {
	list := make([]digest.Digest, 0, len(referrers))
	for _, r := range referrers {
		list = append(list, r.Digest)
	}
	return list
}

// inOrder are the digests of manifests, sorted.
func inOrder(manifests ...oci.Manifest) []digest.Digest {
	list := make([]digest.Digest, 0, len(manifests))
	for _, m := range manifests {
		list = append(list, m.Digest)
	}
	slices.Sort(list)
	return list
}
