package storagetest

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func editChecks() map[string]check {
	return map[string]check{
		"its index is what was":                                      editShowsWhatWas,
		"Put makes a manifest that need not be a blob before":        put,
		"Put of one that exists changes nothing":                     putAgain,
		"Put makes a manifest of any media type":                     putAnyType,
		"Put makes a manifest of any digest algorithm":               putAnyAlgorithm,
		"Tag makes a tag name a manifest":                            tagExisting,
		"what a tag named before stays, found by digest":             retag,
		"Untag removes the tag and keeps the manifest":               untag,
		"Delete removes the manifest and every tag that names it":    deleteManifest,
		"Delete hides a child that an image index still lists":       deleteChild,
		"Delete of an image index keeps its children":                deleteIndex,
		"what was deleted can be put again":                          putDeleted,
		"DropBlob removes the blob from this repository":             dropBlob,
		"DropBlob removes the blob from no other repository":         dropBlobElsewhere,
		"Require is content with blobs and manifests":                requireBoth,
		"Require leaves out what the edit puts itself":               requireOwn,
		"Require isn't content with what another repository has":     requireElsewhere,
		"changes happen in the order in which they were made":        changesInOrder,
		"one edit is one change however many tags it sets and moves": manyTags,
	}
}

func editShowsWhatWas(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	old, m := image(t, "old"), image(t, "m")
	r.push(old, "v1")
	r.update(func(e *storage.Edit) {
		e.Put(m)
		e.Tag(tag(t, "v1"), m.Digest)
		e.Delete(old.Digest)
		if got, err := e.Resolve(ref(t, "v1")); err != nil || got.Digest != old.Digest {
			t.Errorf("v1 is %s, %v in the edit; want %s", got.Digest, err, old.Digest)
		}
		if _, err := e.Resolve(oci.DigestRef(m.Digest)); err == nil {
			t.Error("what the edit puts shows in it")
		}
	})
	r.wantManifest(m.Digest, "v1")
}

func put(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.update(func(e *storage.Edit) { e.Put(m) })
	r.wantManifest(m.Digest, m.Digest.String())
	r.wantBlob(m.Digest, string(m.Raw))
	r.wantTags()
}

func putAgain(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	raw := []byte(`{"schemaVersion":2}`)
	m := must(oci.ParseManifest(oci.MediaTypeImageManifest, raw, digest.Canonical))(t)
	again := must(oci.ParseManifest(oci.MediaTypeDockerManifest, raw, digest.Canonical))(t)
	r.push(m, "v1")
	r.push(again, "v2")
	r.wantTags("v1", "v2")
	for _, what := range []string{"v1", "v2", m.Digest.String()} {
		wantDescriptor(t, must(r.Resolve(t.Context(), ref(t, what)))(t), m.Descriptor)
	}
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(m))
}

func putAnyType(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, mediaType := range []string{
		oci.MediaTypeImageManifest, oci.MediaTypeImageIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList,
		oci.MediaTypeArtifact, "application/vnd.cncf.helm.chart", "application/json", "text/x-something",
	} {
		m := manifest(t, mediaType, fields{})
		r.push(m, "v1")
		wantDescriptor(t, must(r.Resolve(t.Context(), ref(t, "v1")))(t), m.Descriptor)
		r.wantBlob(m.Digest, string(m.Raw))
	}
}

func putAnyAlgorithm(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	raw := image(t, "m").Raw
	for _, a := range algorithms() {
		m := must(oci.ParseManifest(oci.MediaTypeImageManifest, raw, a))(t)
		r.push(m, a.String())
		r.wantManifest(m.Digest, a.String(), a.FromBytes(raw).String())
		r.wantBlob(m.Digest, string(raw))
	}
	r.wantTags("sha256", "sha384", "sha512")
}

func algorithms() []digest.Algorithm {
	return []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}
}

func tagExisting(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m)
	r.wantTags()
	r.update(func(e *storage.Edit) { e.Tag(tag(t, "v1"), m.Digest) })
	r.wantManifest(m.Digest, "v1")
	r.update(func(e *storage.Edit) { e.Tag(tag(t, "v1"), m.Digest) })
	r.wantManifest(m.Digest, "v1")
	r.wantTags("v1")
}

func retag(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	r.push(m, "v1", "latest")
	r.push(n, "latest")
	r.wantManifest(n.Digest, "latest")
	r.wantManifest(m.Digest, "v1", m.Digest.String())
	r.push(n, "v1")
	r.wantManifest(m.Digest, m.Digest.String())
	r.wantBlob(m.Digest, string(m.Raw))
}

func untag(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m, "v1", "v2")
	r.update(func(e *storage.Edit) { e.Untag(tag(t, "v1")) })
	r.wantTags("v2")
	r.wantNoManifest("v1")
	r.wantManifest(m.Digest, "v2")
	r.update(func(e *storage.Edit) { e.Untag(tag(t, "v2")) })
	r.wantTags()
	r.wantManifest(m.Digest, m.Digest.String())
}

func deleteManifest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	r.push(m, "v1", "v2", "z")
	r.push(n, "v3")
	r.update(func(e *storage.Edit) { e.Delete(m.Digest) })
	r.wantTags("v3")
	r.wantNoManifest("v1", "v2", "z", m.Digest.String())
	r.wantManifest(n.Digest, "v3")
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(n))
}

func deleteChild(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	one, two := image(t, "one"), image(t, "two")
	r.push(one)
	r.push(two)
	top := imageIndex(t, one, two)
	r.push(top, "v1")
	r.update(func(e *storage.Edit) { e.Delete(one.Digest) })
	r.wantNoManifest(one.Digest.String())
	r.wantManifest(two.Digest, two.Digest.String())
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(two, top))
	r.push(top, "v2") // which exists, so this changes nothing but the tag
	r.wantNoManifest(one.Digest.String())
}

func deleteIndex(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	child := image(t, "child")
	inner := imageIndex(t, child)
	top := imageIndex(t, inner)
	r.push(child)
	r.push(inner)
	r.push(top, "v1")
	r.update(func(e *storage.Edit) { e.Delete(top.Digest) })
	r.wantNoManifest("v1", top.Digest.String())
	r.wantManifest(inner.Digest, inner.Digest.String())
	r.update(func(e *storage.Edit) { e.Delete(inner.Digest) })
	r.wantManifest(child.Digest, child.Digest.String())
}

func putDeleted(t testing.TB, s storage.Store) {
	r, child := repository(t, s, "a"), image(t, "child")
	top := imageIndex(t, child)
	r.push(child, "v1")
	r.push(top)
	r.update(func(e *storage.Edit) { e.Delete(child.Digest) })
	r.wantNoManifest("v1", child.Digest.String())
	r.push(child)
	r.wantNoManifest("v1")
	r.wantManifest(child.Digest, child.Digest.String())
	r.wantBlob(child.Digest, string(child.Raw))
}

func dropBlob(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x, y := r.pushBlob("x"), r.pushBlob("y")
	r.update(func(e *storage.Edit) { e.DropBlob(x) })
	r.wantNoBlob(x)
	r.wantBlob(y, "y")
	r.pushBlob("x")
	r.wantBlob(x, "x")
}

func dropBlobElsewhere(t testing.TB, s storage.Store) {
	r, other := repository(t, s, "a"), repository(t, s, "a/b")
	d := r.pushBlob("x")
	other.pushBlob("x")
	r.update(func(e *storage.Edit) { e.DropBlob(d) })
	r.wantNoBlob(d)
	other.wantBlob(d, "x")
}

func requireBoth(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	d := r.pushBlob("x")
	r.push(m)
	r.update(func(e *storage.Edit) {
		e.Require(d, m.Digest)
		e.Tag(tag(t, "v1"), m.Digest)
	})
	r.wantTags("v1")
}

func requireOwn(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	child := image(t, "child")
	top := imageIndex(t, child)
	r.update(func(e *storage.Edit) {
		e.Require(top.Digest, child.Digest)
		e.Put(top)
		e.Put(child)
	})
	r.wantManifest(top.Digest, top.Digest.String())
	r.wantManifest(child.Digest, child.Digest.String())
}

func requireElsewhere(t testing.TB, s storage.Store) {
	other := repository(t, s, "b")
	d := other.pushBlob("x")
	m := other.push(image(t, "m"))
	r := repository(t, s, "a")
	err := r.Update(t.Context(), func(e *storage.Edit) error { e.Require(d, m); return nil })
	wantCode(t, err, oci.ManifestBlobUnknown)
	want := []digest.Digest{d, m}
	slices.Sort(want)
	wantSlice(t, "missing digests", missing(t, err), want)
}

func changesInOrder(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	r.push(m, "v0")
	r.update(func(e *storage.Edit) {
		e.Put(n)
		e.Tag(tag(t, "v1"), n.Digest)
		e.Tag(tag(t, "v1"), m.Digest)
		e.Tag(tag(t, "v2"), n.Digest)
		e.Untag(tag(t, "v2"))
		e.Untag(tag(t, "v3"))
		e.Tag(tag(t, "v3"), m.Digest)
	})
	r.wantTags("v0", "v1", "v3")
	r.wantManifest(m.Digest, "v0", "v1", "v3")
	r.update(func(e *storage.Edit) {
		e.Delete(m.Digest)
		e.Put(m)
		e.Tag(tag(t, "v4"), m.Digest)
		e.Delete(n.Digest)
	})
	r.wantTags("v4")
	r.wantNoManifest(n.Digest.String())
}

func manyTags(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	old, m := image(t, "old"), image(t, "m")
	r.push(old, "v1", "v2")
	before := r.index()
	r.push(m, "v1", "v2", "v3", "v4")
	r.wantTags("v1", "v2", "v3", "v4")
	r.wantManifest(m.Digest, "v1", "v2", "v3", "v4")
	for _, v := range []string{"v1", "v2"} {
		if got, err := before.Resolve(ref(t, v)); err != nil || got.Digest != old.Digest {
			t.Fatalf("%s was %s, %v; want %s", v, got.Digest, err, old.Digest)
		}
	}
}
