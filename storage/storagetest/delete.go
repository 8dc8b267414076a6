package storagetest

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func deleteManifestChecks() map[string]check {
	return map[string]check{
		"it removes a tag and keeps the manifest":                  deleteByTag,
		"it removes a manifest and its tags":                       deleteByDigest,
		"what isn't there is ManifestUnknown":                      deleteUnknown,
		"a manifest that an image index lists is Denied":           deleteNeeded,
		"a manifest may go once the image index that lists it has": deleteFreed,
		"of several who delete one manifest one does":              deleteOnce,
	}
}

func remove(t testing.TB, r repo, what string) error {
	t.Helper()
	return storage.DeleteManifest(t.Context(), r, ref(t, what), "alice")
}

func deleteByTag(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m, "v1", "v2")
	wantNoErrors(t, []error{remove(t, r, "v1")})
	r.wantTags("v2")
	wantNoErrors(t, []error{remove(t, r, "v2")})
	r.wantTags()
	r.wantManifest(m.Digest, m.Digest.String())
}

func deleteByDigest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	r.push(m, "v1", "v2")
	r.push(n, "v3")
	wantNoErrors(t, []error{remove(t, r, m.Digest.String())})
	r.wantTags("v3")
	r.wantNoManifest(m.Digest.String(), "v1", "v2")
	r.wantManifest(n.Digest, "v3")
}

func deleteUnknown(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m, "v1")
	x := r.pushBlob("x")
	for _, what := range []string{"v2", x.String(), digest.FromString("y").String()} {
		wantCode(t, remove(t, r, what), oci.ManifestUnknown)
	}
	wantNoErrors(t, []error{remove(t, r, "v1"), remove(t, r, m.Digest.String())})
	wantCode(t, remove(t, r, "v1"), oci.ManifestUnknown)
	wantCode(t, remove(t, r, m.Digest.String()), oci.ManifestUnknown)
	r.wantBlob(x, "x")
}

func deleteNeeded(t testing.TB, s storage.Store) {
	r, child := repository(t, s, "a"), image(t, "child")
	r.push(child, "v1")
	r.push(imageIndex(t, child), "top")
	wantStatus(t, remove(t, r, child.Digest.String()), oci.Denied, http.StatusMethodNotAllowed)
	r.wantManifest(child.Digest, "v1", child.Digest.String())
	wantNoErrors(t, []error{remove(t, r, "v1")}) // a tag may go
	r.wantTags("top")
}

func deleteFreed(t testing.TB, s storage.Store) {
	r, child := repository(t, s, "a"), image(t, "child")
	r.push(child)
	top := imageIndex(t, child)
	r.push(top, "top")
	wantCode(t, remove(t, r, child.Digest.String()), oci.Denied)
	wantNoErrors(t, []error{remove(t, r, top.Digest.String()), remove(t, r, child.Digest.String())})
	r.wantNoManifest(child.Digest.String(), top.Digest.String())
}

func deleteOnce(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	what := oci.DigestRef(r.push(image(t, "m"), "v1"))
	wantOne(t, together(8, func(int) error {
		return storage.DeleteManifest(t.Context(), r, what, "")
	}), oci.ManifestUnknown)
}

func deleteBlobChecks() map[string]check {
	return map[string]check{
		"it removes a blob":                                                                    deleteBlob,
		"a blob that isn't there is BlobUnknown":                                               deleteBlobUnknown,
		"one that a manifest names is Denied":                                                  deleteBlobNeeded,
		"one that is a manifest is Denied":                                                     deleteBlobManifest,
		"one that an image index lists is Denied":                                              deleteBlobListed,
		"one that only a deleted manifest names may go":                                        deleteBlobFreed,
		"another repository's manifests don't keep a blob":                                     deleteBlobElsewhere,
		"a manifest whose bytes are gone keeps its blobs, which it needs once they come again": deleteBlobOfGone,
		"pushes go on while it reads":                                                          deleteBlobBusy,
	}
}

func removeBlob(t testing.TB, r repo, d digest.Digest) error {
	t.Helper()
	return storage.DeleteBlob(t.Context(), r, d, "alice")
}

func deleteBlob(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x, y := r.pushBlob("x"), r.pushBlob("y")
	r.putManifest(image(t, "m", y), storage.PutOptions{})
	wantNoErrors(t, []error{removeBlob(t, r, x)})
	r.wantNoBlob(x)
	r.wantBlob(y, "y")
}

func deleteBlobUnknown(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	wantCode(t, removeBlob(t, r, digest.FromString("y")), oci.BlobUnknown)
	wantCode(t, removeBlob(t, repository(t, s, "b"), x), oci.BlobUnknown)
	wantNoErrors(t, []error{removeBlob(t, r, x)})
	wantCode(t, removeBlob(t, r, x), oci.BlobUnknown)
}

func wantKept(t testing.TB, r repo, d digest.Digest, content string) {
	t.Helper()
	wantStatus(t, removeBlob(t, r, d), oci.Denied, http.StatusMethodNotAllowed)
	r.wantBlob(d, content)
}

func deleteBlobNeeded(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	layer, config := r.pushBlob("layer"), r.pushBlob("{}")
	m := manifest(t, oci.MediaTypeImageManifest, fields{
		"config": oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: config, Size: 2},
		"layers": descriptors(layer),
	})
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "v1")})
	wantKept(t, r, layer, "layer")
	wantKept(t, r, config, "{}")
	r.update(func(e *storage.Edit) { e.Untag(tag(t, "v1")) })
	wantKept(t, r, layer, "layer") // the digest goes on answering
}

func deleteBlobManifest(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m)
	wantKept(t, r, m.Digest, string(m.Raw))
	r.wantManifest(m.Digest, m.Digest.String())
}

func deleteBlobListed(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	d := r.pushBlob(string(m.Raw))
	r.push(imageIndex(t, m))
	wantKept(t, r, d, string(m.Raw))
	layer := r.pushBlob("layer")
	r.push(manifest(t, oci.MediaTypeImageIndex, fields{"manifests": descriptors(layer)}))
	wantKept(t, r, layer, "layer")
}

func deleteBlobFreed(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	m := image(t, "m", x)
	r.putManifest(m, storage.PutOptions{})
	wantKept(t, r, x, "x")
	wantNoErrors(t, []error{remove(t, r, m.Digest.String()), removeBlob(t, r, x)})
	r.wantNoBlob(x)
}

func deleteBlobElsewhere(t testing.TB, s storage.Store) {
	r, other := repository(t, s, "a"), repository(t, s, "b")
	x := r.pushBlob("x")
	other.pushBlob("x")
	other.putManifest(image(t, "m", x), storage.PutOptions{})
	wantNoErrors(t, []error{removeBlob(t, r, x)})
	r.wantNoBlob(x)
	wantKept(t, other, x, "x")
}

func deleteBlobOfGone(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	m := image(t, "m", x)
	r.putManifest(m, storage.PutOptions{})
	r.update(func(e *storage.Edit) { e.DropBlob(m.Digest) })
	wantStatus(t, removeBlob(t, r, x), oci.Denied, http.StatusMethodNotAllowed)
	wantNoErrors(t, []error{remove(t, r, m.Digest.String()), removeBlob(t, r, x)})
	r.wantNoBlob(x)
}

func deleteBlobBusy(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	var images []oci.Manifest
	for i := range 30 {
		images = append(images, image(t, fmt.Sprint(i)))
	}
	wantNoErrors(t, together(3, func(i int) error {
		if i == 0 {
			return storage.DeleteBlob(t.Context(), r, x, "")
		}
		for n := i; n < len(images); n += 2 {
			if err := storage.PutManifest(t.Context(), r, images[n], storage.PutOptions{}); err != nil {
				return err
			}
		}
		return nil
	}))
	r.wantNoBlob(x)
	for _, m := range images[1:] {
		r.wantManifest(m.Digest, m.Digest.String())
	}
}
