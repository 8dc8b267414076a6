package storagetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func referrersChecks() map[string]check {
	return map[string]check{
		"they are the manifests whose subject is this digest": referrersOf,
		"they are in order of digest":                         referrersInOrder,
		"they begin after the digest given":                   referrersAfter,
		"they have artifact type and annotations":             referrersDescribed,
		"the artifact type is that of the config without one": referrersConfigType,
		"an image index without artifact type has none":       referrersIndexType,
		"the subject need not exist":                          referrersOfNothing,
		"a subject that is deleted keeps its referrers":       referrersOfDeleted,
		"a referrer that is deleted isn't listed":             deletedReferrer,
		"a subject of another algorithm has referrers":        referrersOf512,
		"an image index may have a subject":                   referringIndex,
	}
}

// withReferrers pushes a manifest, n that refer to it, and one that refers to another.
func withReferrers(t testing.TB, r repo, n int) (subject oci.Manifest, refer []oci.Manifest) {
	t.Helper()
	subject = image(t, "subject")
	r.push(subject, "v1")
	r.push(referrer(t, "to another", digest.FromString("another")))
	for i := range n {
		refer = append(refer, referrer(t, fmt.Sprint(i), subject.Digest))
		r.push(refer[i])
	}
	return subject, refer
}

func referrersOf(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 1)
	got := r.referrers(subject.Digest, "")
	wantSlice(t, "referrers", digests(got), inOrder(refer...))
	wantDescriptor(t, got[0], refer[0].Descriptor)
	other := repository(t, s, "b")
	other.push(subject)
	wantSlice(t, "referrers elsewhere", digests(other.referrers(subject.Digest, "")), nil)
}

func referrersInOrder(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 20)
	wantSlice(t, "referrers", digests(r.referrers(subject.Digest, "")), inOrder(refer...))
	wantSlice(t, "referrers in the index",
		digests(slices.Collect(r.index().Referrers(subject.Digest, ""))), inOrder(refer...))
}

func referrersAfter(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 20)
	all := inOrder(refer...)
	for i, d := range all {
		wantSlice(t, "referrers", digests(r.referrers(subject.Digest, d)), all[i+1:])
	}
	r.update(func(e *storage.Edit) { e.Delete(all[7]) })
	wantSlice(t, "referrers after one that is gone", digests(r.referrers(subject.Digest, all[7])), all[8:])
}

func referrersDescribed(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 1)
	got := r.referrers(subject.Digest, "")
	wantSlice(t, "referrers", digests(got), inOrder(refer...))
	if got[0].ArtifactType != "application/x.signature" {
		t.Fatalf("artifact type %q", got[0].ArtifactType)
	}
	if want := map[string]string{"title": "0"}; !maps.Equal(got[0].Annotations, want) {
		t.Fatalf("annotations are %v, want %v", got[0].Annotations, want)
	}
}

func referrersConfigType(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.FromString("subject")
	m := manifest(t, oci.MediaTypeImageManifest, fields{
		"config":  oci.Descriptor{MediaType: "application/x.config", Digest: r.pushBlob("{}"), Size: 2},
		"subject": descriptors(subject)[0],
	})
	r.push(m)
	wantArtifactType(t, r.referrers(subject, ""), "application/x.config")
}

func referrersIndexType(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.FromString("subject")
	r.push(manifest(t, oci.MediaTypeImageIndex, fields{"subject": descriptors(subject)[0]}))
	wantArtifactType(t, r.referrers(subject, ""), "")
}

func referringIndex(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	child := image(t, "child")
	r.push(child)
	m := manifest(t, oci.MediaTypeImageIndex, fields{
		"artifactType": "application/x.bundle",
		"subject":      descriptors(child.Digest)[0],
		"manifests":    descriptors(child.Digest),
	})
	r.push(m)
	wantArtifactType(t, r.referrers(child.Digest, ""), "application/x.bundle")
}

func wantArtifactType(t testing.TB, got []oci.Descriptor, want string) {
	t.Helper()
	if len(got) != 1 || got[0].ArtifactType != want {
		t.Fatalf("referrers are %v, want one of artifact type %q", got, want)
	}
}

func referrersOfNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.FromString("nothing")
	r.pushBlob("x")
	wantSlice(t, "referrers", digests(r.referrers(subject, "")), nil)
	m := referrer(t, "m", subject)
	r.push(m)
	wantSlice(t, "referrers", digests(r.referrers(subject, "")), inOrder(m))
	r.wantNoManifest(subject.String())
}

func referrersOfDeleted(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 2)
	r.update(func(e *storage.Edit) { e.Delete(subject.Digest) })
	wantSlice(t, "referrers", digests(r.referrers(subject.Digest, "")), inOrder(refer...))
}

func deletedReferrer(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 3)
	wantSlice(t, "referrers", digests(r.referrers(subject.Digest, "")), inOrder(refer...))
	r.update(func(e *storage.Edit) { e.Delete(refer[1].Digest) })
	wantSlice(t, "referrers", digests(r.referrers(subject.Digest, "")), inOrder(refer[0], refer[2]))
}

func referrersOf512(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.SHA512.FromString("subject")
	m := referrer(t, "m", subject)
	r.push(m)
	wantSlice(t, "referrers", digests(r.referrers(subject, "")), inOrder(m))
}
