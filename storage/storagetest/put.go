package storagetest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func putBlobChecks() map[string]check {
	return map[string]check{
		"it stores content in one go, of any algorithm": putBlob,
		"content that doesn't match is DigestInvalid":   putBlobOther,
		"content that stops early stores nothing":       putBlobFails,
	}
}

func putBlob(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, a := range algorithms() {
		d := a.FromString("x")
		got := must(storage.PutBlob(t.Context(), r, d, strings.NewReader("x"), storage.UploadOptions{Size: 1, By: "alice"}))(t)
		wantDescriptor(t, got, oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: 1})
		r.wantBlob(d, "x")
	}
}

func putBlobOther(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := digest.FromString("x")
	_, err := storage.PutBlob(t.Context(), r, d, strings.NewReader("y"), storage.UploadOptions{})
	wantCode(t, err, oci.DigestInvalid)
	r.wantNoBlob(d)
	r.wantNoBlob(digest.FromString("y"))
}

func putBlobFails(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	boom := errors.New("connection reset")
	// What has come is all there is, so only the error says that it's not to be stored.
	in := io.MultiReader(strings.NewReader("x"), iotest.ErrReader(boom))
	_, err := storage.PutBlob(t.Context(), r, digest.FromString("x"), in, storage.UploadOptions{})
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want the reader's", err)
	}
	r.wantNoBlob(digest.FromString("x"))
}

func putManifestChecks() map[string]check {
	return map[string]check{
		"it stores a manifest and makes the tags name it":            putManifest,
		"something missing is ManifestBlobUnknown":                   putMissing,
		"by default the children of an image index may be missing":   sparseDefault,
		"SparseNone lets nothing be missing":                         sparseNone,
		"SparseIndexes lets the children of an image index be":       sparseIndexes,
		"SparseAll lets everything be missing":                       sparseAll,
		"subjects and nondistributable layers may always be missing": sparseAlways,
		"blobs that an image index lists aren't its children":        cacheIndex,
		"If-Match wants what is named now":                           ifMatch,
		"If-Match with a star wants anything":                        ifMatchAny,
		"If-Match without tags is about the manifest itself":         ifMatchManifest,
		"If-None-Match refuses what is named now":                    ifNoneMatch,
		"If-None-Match with a star refuses anything":                 ifNoneMatchAny,
		"If-None-Match without tags is about the manifest itself":    ifNoneMatchManifest,
		"conditions are for all tags or none is set":                 conditionsForAll,
		"NoOverwrite refuses to move a tag":                          noOverwrite,
		"NoOverwrite lets a tag stay where it is":                    noOverwriteSame,
		"of several who want a tag that isn't there one gets it":     oneFirst,
	}
}

func putManifest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m", r.pushBlob("x"))
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "v1", "v2"), By: "alice"})
	r.wantTags("v1", "v2")
	r.wantManifest(m.Digest, "v1", "v2", m.Digest.String())
	n := image(t, "n", r.pushBlob("x"))
	r.putManifest(n, storage.PutOptions{})
	r.wantManifest(n.Digest, n.Digest.String())
	r.wantTags("v1", "v2")
}

func refuse(t testing.TB, r repo, m oci.Manifest, opts storage.PutOptions, code oci.Code, status int) {
	t.Helper()
	wantStatus(t, storage.PutManifest(t.Context(), r, m, opts), code, status)
}

func putMissing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	there, absent := r.pushBlob("there"), digest.FromString("absent")
	m := image(t, "m", there, absent)
	err := storage.PutManifest(t.Context(), r, m, storage.PutOptions{Tags: tagList(t, "v1")})
	wantStatus(t, err, oci.ManifestBlobUnknown, http.StatusNotFound)
	wantSlice(t, "missing digests", missing(t, err), []digest.Digest{absent})
	r.wantTags()
	r.wantNoManifest(m.Digest.String())
}

// sparse pushes an image, and an image index of one, with nothing of what they name.
func sparse(t testing.TB, s storage.Store, mode storage.Sparse, wantImage, wantIndex bool) {
	t.Helper()
	r := repository(t, s, "a")
	r.pushBlob("x")
	img := image(t, "m", digest.FromString("absent"))
	for m, want := range map[*oci.Manifest]bool{&img: wantImage, new(imageIndex(t, image(t, "absent"))): wantIndex} {
		opts := storage.PutOptions{Sparse: mode}
		if want {
			r.putManifest(*m, opts)
			r.wantManifest(m.Digest, m.Digest.String())
		} else {
			refuse(t, r, *m, opts, oci.ManifestBlobUnknown, http.StatusNotFound)
			r.wantNoManifest(m.Digest.String())
		}
	}
}

func sparseDefault(t testing.TB, s storage.Store) { sparse(t, s, "", false, true) }
func sparseNone(t testing.TB, s storage.Store)    { sparse(t, s, storage.SparseNone, false, false) }
func sparseIndexes(t testing.TB, s storage.Store) { sparse(t, s, storage.SparseIndexes, false, true) }
func sparseAll(t testing.TB, s storage.Store)     { sparse(t, s, storage.SparseAll, true, true) }

func sparseAlways(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	foreign := func(mediaType string) oci.Descriptor {
		return oci.Descriptor{MediaType: mediaType, Digest: digest.FromString(mediaType), Size: 1}
	}
	m := manifest(t, oci.MediaTypeImageManifest, fields{
		"subject": foreign(oci.MediaTypeImageManifest),
		"layers": []oci.Descriptor{
			foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
			foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		},
	})
	r.putManifest(m, storage.PutOptions{Sparse: storage.SparseNone})
	r.wantManifest(m.Digest, m.Digest.String())
}

// cacheIndex is what BuildKit makes of a build cache: an image index of layers.
func cacheIndex(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	layer := descriptors(digest.FromString("layer"))
	m := manifest(t, oci.MediaTypeImageIndex, fields{"manifests": layer})
	refuse(t, r, m, storage.PutOptions{}, oci.ManifestBlobUnknown, http.StatusNotFound)
	r.pushBlob("layer")
	r.putManifest(m, storage.PutOptions{Sparse: storage.SparseNone})
	r.wantManifest(m.Digest, m.Digest.String())
}

// moved is a repository whose tag v1 is at m; n is to be next.
func moved(t testing.TB, s storage.Store) (r repo, m, n oci.Manifest) {
	t.Helper()
	r, m, n = repository(t, s, "a"), image(t, "m"), image(t, "n")
	r.push(m, "v1")
	return r, m, n
}

func ifMatch(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	v1, other := tagList(t, "v1"), digest.FromString("other").String()
	refuse(t, r, n, storage.PutOptions{Tags: v1, IfMatch: []string{other}}, oci.Denied, http.StatusPreconditionFailed)
	refuse(t, r, n, storage.PutOptions{Tags: v1, IfMatch: []string{n.Digest.String()}}, oci.Denied, http.StatusPreconditionFailed)
	r.wantManifest(m.Digest, "v1")
	r.wantNoManifest(n.Digest.String())
	r.putManifest(n, storage.PutOptions{Tags: v1, IfMatch: []string{other, m.Digest.String()}})
	r.wantManifest(n.Digest, "v1")
}

func ifMatchAny(t testing.TB, s storage.Store) {
	r, _, n := moved(t, s)
	star := []string{"*"}
	refuse(t, r, n, storage.PutOptions{Tags: tagList(t, "v2"), IfMatch: star}, oci.Denied, http.StatusPreconditionFailed)
	r.wantNoManifest("v2")
	r.putManifest(n, storage.PutOptions{Tags: tagList(t, "v1"), IfMatch: star})
	r.wantManifest(n.Digest, "v1")
}

func ifMatchManifest(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	star := []string{"*"}
	refuse(t, r, n, storage.PutOptions{IfMatch: star}, oci.Denied, http.StatusPreconditionFailed)
	r.wantNoManifest(n.Digest.String())
	r.putManifest(m, storage.PutOptions{IfMatch: star})
}

func ifNoneMatch(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	v1 := tagList(t, "v1")
	refuse(t, r, n, storage.PutOptions{Tags: v1, IfNoneMatch: []string{"x", m.Digest.String()}}, oci.Denied, http.StatusPreconditionFailed)
	r.wantManifest(m.Digest, "v1")
	r.putManifest(n, storage.PutOptions{Tags: v1, IfNoneMatch: []string{n.Digest.String()}})
	r.wantManifest(n.Digest, "v1")
}

func ifNoneMatchAny(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	star := []string{"*"}
	refuse(t, r, n, storage.PutOptions{Tags: tagList(t, "v1"), IfNoneMatch: star}, oci.Denied, http.StatusPreconditionFailed)
	r.wantManifest(m.Digest, "v1")
	r.putManifest(n, storage.PutOptions{Tags: tagList(t, "v2"), IfNoneMatch: star})
	r.wantManifest(n.Digest, "v2")
}

func ifNoneMatchManifest(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	star := []string{"*"}
	refuse(t, r, m, storage.PutOptions{IfNoneMatch: star}, oci.Denied, http.StatusPreconditionFailed)
	r.putManifest(n, storage.PutOptions{IfNoneMatch: star})
	r.wantManifest(n.Digest, n.Digest.String())
}

func conditionsForAll(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	both := tagList(t, "new", "v1")
	for _, opts := range []storage.PutOptions{
		{Tags: both, IfNoneMatch: []string{"*"}},
		{Tags: both, IfMatch: []string{m.Digest.String()}},
		{Tags: both, NoOverwrite: true},
	} {
		wantCode(t, storage.PutManifest(t.Context(), r, n, opts), oci.Denied)
		r.wantTags("v1")
		r.wantManifest(m.Digest, "v1")
		r.wantNoManifest(n.Digest.String())
	}
}

func noOverwrite(t testing.TB, s storage.Store) {
	r, m, n := moved(t, s)
	refuse(t, r, n, storage.PutOptions{Tags: tagList(t, "v1"), NoOverwrite: true}, oci.Denied, http.StatusForbidden)
	r.wantManifest(m.Digest, "v1")
	r.putManifest(n, storage.PutOptions{Tags: tagList(t, "v2"), NoOverwrite: true})
	r.wantManifest(n.Digest, "v2")
}

func noOverwriteSame(t testing.TB, s storage.Store) {
	r, m, _ := moved(t, s)
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "v1", "v2"), NoOverwrite: true})
	r.wantManifest(m.Digest, "v1", "v2")
	r.putManifest(m, storage.PutOptions{NoOverwrite: true})
}

func oneFirst(t testing.TB, s storage.Store) {
	const claimants = 8
	r, tags := repository(t, s, "a"), tagList(t, "v1")
	images := make([]oci.Manifest, claimants)
	for i := range images {
		images[i] = image(t, strings.Repeat("x", i))
	}
	winner := wantOne(t, together(claimants, func(i int) error {
		return storage.PutManifest(t.Context(), r, images[i], storage.PutOptions{Tags: tags, IfNoneMatch: []string{"*"}})
	}), oci.Denied)
	r.wantManifest(images[winner].Digest, "v1")
}

func getManifestChecks() map[string]check {
	return map[string]check{
		"it opens what a tag or digest names, as it was pushed": getManifest,
		"what names nothing is ManifestUnknown":                 getUnknown,
		"a manifest whose bytes are gone is ManifestUnknown":    getGone,
		"ReadManifest reads and parses a manifest":              readManifest,
	}
}

func getManifest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, m := range []oci.Manifest{image(t, "m"), imageIndex(t, image(t, "m")), manifest(t, oci.MediaTypeDockerManifest, fields{})} {
		r.push(m, "v1")
		for _, what := range []string{"v1", m.Digest.String()} {
			b := must(storage.GetManifest(t.Context(), r, ref(t, what)))(t)
			wantDescriptor(t, b.Descriptor, m.Descriptor)
			raw, err := io.ReadAll(b)
			if err = errors.Join(err, b.Close()); err != nil || string(raw) != string(m.Raw) {
				t.Fatalf("read %q, %v", raw, err)
			}
		}
	}
}

func getUnknown(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	for _, what := range []string{"v1", x.String(), digest.FromString("y").String()} {
		_, err := storage.GetManifest(t.Context(), r, ref(t, what))
		wantCode(t, err, oci.ManifestUnknown)
	}
	_, err := storage.GetManifest(t.Context(), repository(t, s, "no/such"), ref(t, "v1"))
	wantCode(t, err, oci.NameUnknown)
}

func getGone(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m, "v1")
	r.update(func(e *storage.Edit) { e.DropBlob(m.Digest) })
	_, err := storage.GetManifest(t.Context(), r, ref(t, "v1"))
	wantCode(t, err, oci.ManifestUnknown)
}

func readManifest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := referrer(t, "m", digest.FromString("subject"))
	r.push(m, "v1")
	desc := must(r.Resolve(t.Context(), ref(t, "v1")))(t)
	got := must(storage.ReadManifest(t.Context(), r, desc))(t)
	wantDescriptor(t, got.Descriptor, m.Descriptor)
	if got.Subject != m.Subject || got.ArtifactType != m.ArtifactType {
		t.Fatalf("subject %s, artifact type %s", got.Subject, got.ArtifactType)
	}
}
