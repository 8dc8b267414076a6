package storagetest

import (
	"encoding/json"
	"fmt"
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
		"they are described as json.Marshal does":             referrersDescribed,
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
	wantSlice(t, "referrers", referring(r.referrers(subject.Digest, "")), inOrder(refer...))
	other := repository(t, s, "b")
	other.push(subject)
	wantSlice(t, "referrers elsewhere", referring(other.referrers(subject.Digest, "")), nil)
}

func referrersInOrder(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 20)
	wantSlice(t, "referrers", referring(r.referrers(subject.Digest, "")), inOrder(refer...))
	wantSlice(t, "referrers in the index",
		referring(slices.Collect(r.index().Referrers(subject.Digest, ""))), inOrder(refer...))
}

func referrersAfter(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 20)
	all := inOrder(refer...)
	for i, d := range all {
		wantSlice(t, "referrers", referring(r.referrers(subject.Digest, d)), all[i+1:])
	}
	r.update(func(e *storage.Edit) { e.Delete(all[7]) })
	wantSlice(t, "referrers after one that is gone", referring(r.referrers(subject.Digest, all[7])), all[8:])
}

func referrersDescribed(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.FromString("subject")
	m := oddReferrer(t, subject)
	r.push(m)
	for _, got := range [][]storage.Referrer{r.referrers(subject, ""), slices.Collect(r.index().Referrers(subject, ""))} {
		wantSlice(t, "referrers", got, []storage.Referrer{described(t, m)})
	}
}

// oddReferrer has all that JSON writes in a way of its own.
func oddReferrer(t testing.TB, subject digest.Digest) oci.Manifest {
	t.Helper()
	return manifest(t, oci.MediaTypeImageManifest, fields{
		"artifactType": "a/<b>&c",
		"subject":      descriptors(subject)[0],
		"annotations":  fields{"z": "\"\\", "": "", "\u2028é\U0001f4a9": "\x00\t\x7f\ufffd", "a": "</script>"},
	})
}

// described is a manifest as a list of referrers has it.
func described(t testing.TB, m oci.Manifest) storage.Referrer {
	t.Helper()
	return storage.Referrer{Digest: m.Digest, ArtifactType: m.ArtifactType, JSON: string(must(json.Marshal(m.Descriptor))(t))}
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

func wantArtifactType(t testing.TB, got []storage.Referrer, want string) {
	t.Helper()
	if len(got) != 1 || got[0].ArtifactType != want {
		t.Fatalf("referrers are %v, want one of artifact type %q", got, want)
	}
}

func referrersOfNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.FromString("nothing")
	r.pushBlob("x")
	wantSlice(t, "referrers", referring(r.referrers(subject, "")), nil)
	m := referrer(t, "m", subject)
	r.push(m)
	wantSlice(t, "referrers", referring(r.referrers(subject, "")), inOrder(m))
	r.wantNoManifest(subject.String())
}

func referrersOfDeleted(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 2)
	r.update(func(e *storage.Edit) { e.Delete(subject.Digest) })
	wantSlice(t, "referrers", referring(r.referrers(subject.Digest, "")), inOrder(refer...))
}

func deletedReferrer(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 3)
	wantSlice(t, "referrers", referring(r.referrers(subject.Digest, "")), inOrder(refer...))
	r.update(func(e *storage.Edit) { e.Delete(refer[1].Digest) })
	wantSlice(t, "referrers", referring(r.referrers(subject.Digest, "")), inOrder(refer[0], refer[2]))
}

func referrersOf512(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	subject := digest.SHA512.FromString("subject")
	m := referrer(t, "m", subject)
	r.push(m)
	wantSlice(t, "referrers", referring(r.referrers(subject, "")), inOrder(m))
}
