package storagetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func indexChecks() map[string]check {
	return map[string]check{
		"Resolve is Reader.Resolve at that moment":              indexResolves,
		"it doesn't move":                                       indexStays,
		"it holds its data":                                     indexHoldsData,
		"any number of goroutines may use it":                   indexShared,
		"Tags yields the tags in byte order":                    tagsInOrder,
		"Tags begins after the tag given":                       tagsAfter,
		"Tags yields the manifests that they name":              tagsDescribed,
		"hundreds of tags can be listed page by page":           tagPages,
		"Manifests yields every manifest once":                  manifestsOnce,
		"Manifests is in order of digest":                       manifestsInOrder,
		"Referrers is Reader.Referrers at that moment":          indexReferrers,
		"Parents yields the image indexes that list a manifest": parents,
		"Parents yields no image index that was deleted":        parentsDeleted,
		"Parents knows children that aren't there":              parentsOfAbsent,
		"its sequences can be stopped":                          sequencesStopped,
	}
}

func indexResolves(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, child, gone, absent := image(t, "m"), image(t, "child"), image(t, "gone"), image(t, "absent")
	r.push(m, "v1", "v2")
	r.push(child)
	r.push(gone, "v3")
	top := imageIndex(t, child, gone, absent)
	r.push(top, "top")
	r.update(func(e *storage.Edit) { e.Delete(gone.Digest); e.Untag(tag(t, "v2")) })
	idx := r.index()
	refs := []string{"v1", "v2", "v3", "top"}
	for _, d := range inOrder(m, child, gone, absent, top) {
		refs = append(refs, d.String())
	}
	found := 0
	for _, what := range refs {
		want, wantErr := r.Resolve(t.Context(), ref(t, what))
		got, err := idx.Resolve(ref(t, what))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: the index says %v, the repository %v", what, err, wantErr)
		}
		if err != nil {
			wantCode(t, err, oci.ManifestUnknown)
			continue
		}
		wantDescriptor(t, got, want)
		found++
	}
	if found != 5 {
		t.Fatalf("%d of 5 found", found)
	}
}

func indexStays(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	sig := referrer(t, "sig", m.Digest)
	r.push(m, "v1", "v2")
	r.push(sig)
	old := r.index()
	r.push(n, "v1", "v3")
	r.push(referrer(t, "later", m.Digest))
	r.update(func(e *storage.Edit) { e.Delete(m.Digest); e.Delete(sig.Digest) })
	for _, v := range []string{"v1", "v2", m.Digest.String()} {
		if got := must(old.Resolve(ref(t, v)))(t); got.Digest != m.Digest {
			t.Fatalf("%s has moved to %s", v, got.Digest)
		}
	}
	_, err := old.Resolve(ref(t, "v3"))
	wantCode(t, err, oci.ManifestUnknown)
	wantSlice(t, "manifests", digests(slices.Collect(old.Manifests())), inOrder(m, sig))
	wantSlice(t, "referrers", referring(slices.Collect(old.Referrers(m.Digest, ""))), inOrder(sig))
	r.wantManifest(n.Digest, "v1", "v3")
	r.wantNoManifest("v2", m.Digest.String())
}

func indexHoldsData(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	top := imageIndex(t, m)
	r.push(m, "v1")
	r.push(top)
	idx := r.index()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := must(idx.Resolve(ref(t, "v1")))(t); got.Digest != m.Digest {
		t.Fatalf("v1 is %s", got.Digest)
	}
	wantSlice(t, "manifests", digests(slices.Collect(idx.Manifests())), inOrder(m, top))
	wantSlice(t, "parents", slices.Collect(idx.Parents(m.Digest)), inOrder(top))
}

func indexShared(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 3)
	idx, later, v1 := r.index(), image(t, "later"), ref(t, "v1")
	tags := tagList(t, "v1", "v2")
	wantNoErrors(t, together(8, func(i int) error {
		if i == 0 {
			return storage.PutManifest(t.Context(), r, later, storage.PutOptions{Tags: tags})
		}
		for range 20 {
			got, err := idx.Resolve(v1)
			if err != nil || got.Digest != subject.Digest {
				return fmt.Errorf("v1 is %s: %w", got.Digest, err)
			}
			if n := len(slices.Collect(idx.Referrers(subject.Digest, ""))); n != len(refer) {
				return fmt.Errorf("%d referrers", n)
			}
			if n := len(slices.Collect(idx.Manifests())); n != len(refer)+2 {
				return fmt.Errorf("%d manifests", n)
			}
		}
		return nil
	}))
	r.wantManifest(later.Digest, "v1", "v2")
}

// oddTags in byte order: digits, capitals, the underscore, small letters, and
// what separates parts before what continues them.
func oddTags() []string {
	return []string{"0", "1", "1-rc", "1.10", "1.9", "10", "2", "A", "Z", "_", "a", "a-b", "a.b", "a_b", "aa", "latest", "v1", "v1.0", "v10"}
}

func tagsInOrder(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	want := oddTags()
	for _, v := range slices.Backward(want) {
		r.push(image(t, v), v)
	}
	r.wantTags(want...)
}

func tagsAfter(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	r.push(image(t, "m"), oddTags()...)
	idx := r.index()
	for i, v := range oddTags() {
		wantSlice(t, "tags after "+v, tagNames(idx, tag(t, v), -1), oddTags()[i+1:])
	}
	wantSlice(t, "tags after one that isn't there", tagNames(idx, tag(t, "b"), -1), []string{"latest", "v1", "v1.0", "v10"})
	wantSlice(t, "tags after the last", tagNames(idx, tag(t, "zzz"), -1), nil)
	r.update(func(e *storage.Edit) { e.Untag(tag(t, "v1")) })
	wantSlice(t, "tags after one that is gone", tagNames(r.index(), tag(t, "v1"), -1), []string{"v1.0", "v10"})
}

// tagNames are at most n tags, or all if n is negative.
func tagNames(idx storage.Index, after oci.Tag, n int) (names []string) {
	for t := range idx.Tags(after) {
		if len(names) == n {
			break
		}
		names = append(names, t.String())
	}
	return names
}

func tagsDescribed(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	want := map[string]oci.Manifest{"v1": m, "v2": m, "top": imageIndex(t, m)}
	for v, m := range want {
		r.push(m, v)
	}
	n := 0
	for v, desc := range r.index().Tags(oci.Tag{}) {
		wantDescriptor(t, desc, want[v.String()].Descriptor)
		n++
	}
	if n != len(want) {
		t.Fatalf("%d tags, want %d", n, len(want))
	}
}

func tagPages(t testing.TB, s storage.Store) {
	const all, page = 700, 64
	r := repository(t, s, "a")
	m := image(t, "m")
	names := make([]string, all)
	for i := range names {
		names[i] = fmt.Sprintf("v%d", i*7919%all)
	}
	r.push(m, names...)
	slices.Sort(names)
	idx, last := r.index(), oci.Tag{}
	var got []string
	for len(got) <= all {
		next := tagNames(idx, last, page)
		if len(next) == 0 {
			break
		}
		got = append(got, next...)
		last = tag(t, next[len(next)-1])
	}
	wantSlice(t, "tags of all pages", got, names)
}

func manifestsOnce(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, child, absent := image(t, "m"), image(t, "child"), image(t, "absent")
	top, other := imageIndex(t, child, absent), imageIndex(t, child, m)
	r.push(m, "v1", "v2", "v3")
	r.push(child)
	r.push(top, "top")
	r.push(other)
	r.push(m, "v4")
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(m, child, top, other))
}

func manifestsInOrder(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	var all []oci.Manifest
	for i := range 20 {
		m := image(t, fmt.Sprint(i))
		all = append(all, m)
		if i%5 == 0 {
			all = append(all, must(oci.ParseManifest(m.MediaType, m.Raw, digest.SHA512))(t))
		}
	}
	for _, m := range all {
		r.push(m)
	}
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(all...))
}

func indexReferrers(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 5)
	old, all := r.index(), inOrder(refer...)
	r.push(referrer(t, "later", subject.Digest))
	for i, d := range append([]digest.Digest{""}, all...) {
		wantSlice(t, "referrers", referring(slices.Collect(old.Referrers(subject.Digest, d))), all[i:])
	}
}

func wantParents(t testing.TB, r repo, d digest.Digest, want ...oci.Manifest) {
	t.Helper()
	wantSlice(t, "parents", slices.Sorted(r.index().Parents(d)), inOrder(want...))
}

func parents(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	one, two := imageIndex(t, m), imageIndex(t, m, n)
	list := manifest(t, oci.MediaTypeDockerList, fields{"manifests": []oci.Descriptor{
		{MediaType: oci.MediaTypeDockerManifest, Digest: m.Digest, Size: m.Size},
	}})
	top := imageIndex(t, one)
	for _, x := range []oci.Manifest{m, n, one, two, list, top} {
		r.push(x)
	}
	wantParents(t, r, m.Digest, one, two, list)
	wantParents(t, r, n.Digest, two)
	wantParents(t, r, one.Digest, top)
	wantParents(t, r, top.Digest)
	wantParents(t, r, digest.FromString("no manifest"))
}

func parentsDeleted(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	one, two := imageIndex(t, m), imageIndex(t, m, image(t, "absent"))
	for _, x := range []oci.Manifest{m, one, two} {
		r.push(x, "latest")
	}
	wantParents(t, r, m.Digest, one, two)
	r.update(func(e *storage.Edit) { e.Delete(two.Digest) })
	wantParents(t, r, m.Digest, one)
}

func parentsOfAbsent(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	absent := image(t, "absent")
	top := imageIndex(t, absent)
	r.push(top)
	wantParents(t, r, absent.Digest, top)
	r.push(absent)
	wantParents(t, r, absent.Digest, top)
}

func sequencesStopped(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, _ := withReferrers(t, r, 3)
	r.push(image(t, "m"), "v2", "v3")
	r.push(imageIndex(t, subject))
	r.push(imageIndex(t, subject, image(t, "absent")))
	idx, n := r.index(), 0
	for range idx.Tags(oci.Tag{}) {
		n++
		break
	}
	for range idx.Manifests() {
		n++
		break
	}
	for range idx.Referrers(subject.Digest, "") {
		n++
		break
	}
	for range idx.Parents(subject.Digest) {
		n++
		break
	}
	if n != 4 {
		t.Fatalf("%d of 4 sequences aren't empty", n)
	}
}
