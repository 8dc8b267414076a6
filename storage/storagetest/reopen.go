package storagetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Reopen holds a store that outlives its process to what must be the same once
// it was closed and opened again. open returns a new, empty store, and how to
// open it again after it was closed.
func Reopen(t *testing.T, open func(t *testing.T) (s storage.Store, reopen func() storage.Store)) {
	t.Helper()
	for what, check := range reopenChecks() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, reopen := open(t)
			check(t, s, func() storage.Store {
				t.Helper()
				if err := s.Close(); err != nil {
					t.Fatalf("close the store: %v", err)
				}
				s = reopen()
				closeAfter(t, s)
				return s
			})
		})
	}
}

// reopenCheck writes to s, and looks at what again returns: the store after it
// was closed and opened.
type reopenCheck func(t testing.TB, s storage.Store, again func() storage.Store)

func reopenChecks() map[string]reopenCheck {
	return map[string]reopenCheck{
		"blobs":                            reopenBlobs,
		"mounted blobs":                    reopenMounts,
		"tags":                             reopenTags,
		"many tags":                        reopenManyTags,
		"manifests with their media types": reopenManifests,
		"referrers with all that is said of them":                 reopenReferrers,
		"image indexes and their children":                        reopenParents,
		"repositories":                                            reopenRepositories,
		"sessions with what they hold":                            reopenSession,
		"sessions of other algorithms":                            reopenSessionAlgorithm,
		"sessions that have ended stay ended":                     reopenEnded,
		"what was deleted stays deleted":                          reopenDeleted,
		"a child deleted from under an image index stays deleted": reopenDeletedChild,
		"an emptied repository stays one":                         reopenEmptied,
		"what was kept by digest stays":                           reopenRetagged,
	}
}

func reopenBlobs(t testing.TB, s storage.Store, again func() storage.Store) {
	want := make(map[digest.Digest]string)
	for _, size := range sizes() {
		for _, a := range algorithms() {
			content := strings.Repeat("x", size)
			d := a.FromString(content)
			must(storage.PutBlob(t.Context(), s.Repository(name(t, "a")), d, strings.NewReader(content), storage.UploadOptions{}))(t)
			want[d] = content
		}
	}
	r := repository(t, again(), "a")
	for d, content := range want {
		r.wantBlob(d, content)
	}
	r.wantNoBlob(digest.FromString("y"))
}

func reopenMounts(t testing.TB, s storage.Store, again func() storage.Store) {
	content := strings.Repeat("x", 5000)
	from, to := repository(t, s, "a"), repository(t, s, "b")
	d := from.pushBlob(content)
	must(to.MountBlob(t.Context(), d, from.Name()))(t)
	from.update(func(e *storage.Edit) { e.DropBlob(d) })
	s = again()
	repository(t, s, "a").wantNoBlob(d)
	repository(t, s, "b").wantBlob(d, content)
}

func reopenTags(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	want := make(map[string]digest.Digest)
	for _, v := range oddTags() {
		want[v] = r.push(image(t, v), v)
	}
	r = repository(t, again(), "a")
	r.wantTags(oddTags()...)
	for v, d := range want {
		r.wantManifest(d, v, d.String())
	}
}

// reopenManyTags changes what makes an index large, one by one, as clients do.
func reopenManyTags(t testing.TB, s storage.Store, again func() storage.Store) {
	const all = 400
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	names := make([]string, all)
	for i := range names {
		names[i] = fmt.Sprintf("v%03d", i)
	}
	r.push(m, names...)
	for i := range 20 {
		r.push(n, names[i*7])
		r.update(func(e *storage.Edit) { e.Untag(tag(t, names[all-1-i])) })
	}
	r = repository(t, again(), "a")
	r.wantTags(names[:all-20]...)
	for i, v := range names[:all-20] {
		if i%7 == 0 && i < 140 {
			r.wantManifest(n.Digest, v)
		} else {
			r.wantManifest(m.Digest, v)
		}
	}
}

func reopenManifests(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	all := []oci.Manifest{
		image(t, "m"), imageIndex(t, image(t, "m")),
		manifest(t, oci.MediaTypeDockerManifest, fields{}), manifest(t, "application/x.other", fields{}),
	}
	for _, m := range all {
		r.push(m)
	}
	sha512 := must(oci.ParseManifest(all[0].MediaType, all[0].Raw, digest.SHA512))(t)
	r.push(sha512)
	all = append(all, sha512)
	r = repository(t, again(), "a")
	for _, m := range all {
		wantDescriptor(t, must(r.Resolve(t.Context(), oci.DigestRef(m.Digest)))(t), m.Descriptor)
		r.wantBlob(m.Digest, string(m.Raw))
	}
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(all...))
}

func reopenReferrers(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	subject, refer := withReferrers(t, r, 10)
	odd := oddReferrer(t, subject.Digest)
	r.push(odd)
	want := make(map[digest.Digest]storage.Referrer)
	for _, m := range append(refer, odd) {
		want[m.Digest] = described(t, m)
	}
	r = repository(t, again(), "a")
	got := r.referrers(subject.Digest, "")
	wantSlice(t, "referrers", referring(got), slices.Sorted(maps.Keys(want)))
	for _, referrer := range got {
		if referrer != want[referrer.Digest] {
			t.Fatalf("%v, want %v", referrer, want[referrer.Digest])
		}
	}
}

func reopenParents(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	child, absent := image(t, "child"), image(t, "absent")
	top := imageIndex(t, child, absent)
	r.push(child)
	r.push(top, "v1")
	r = repository(t, again(), "a")
	wantParents(t, r, child.Digest, top)
	wantParents(t, r, absent.Digest, top)
	r.wantManifest(child.Digest, child.Digest.String())
	r.wantNoManifest(absent.Digest.String())
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(child, top))
}

func reopenRepositories(t testing.TB, s storage.Store, again func() storage.Store) {
	want := createSorted(t, s)
	s = again()
	wantRepositories(t, s, oci.Name{}, want...)
	wantRepositories(t, s, name(t, "a/b"), want[slices.Index(want, "a/b")+1:]...)
}

func reopenSession(t testing.TB, s storage.Store, again func() storage.Store) {
	part := strings.Repeat("0123456789", 10_000)
	u := newSession(repository(t, s, "a"))
	must(u.Append(t.Context(), 0, strings.NewReader(part)))(t)
	for i := range 3 {
		leave(t, u)
		r := repository(t, again(), "a")
		u = resume(r, u.ID())
		want := int64((i + 1) * len(part))
		if u.Size() != want {
			t.Fatalf("resumed at %d, want %d", u.Size(), want)
		}
		_, err := u.Append(t.Context(), want-1, strings.NewReader("z"))
		wantRangeError(t, err)
		must(u.Append(t.Context(), want, strings.NewReader(part)))(t)
	}
	leave(t, u)
	s = again()
	_, err := repository(t, s, "b").ResumeUpload(t.Context(), u.ID())
	wantCode(t, err, oci.BlobUploadUnknown)
	wantContent(t, repository(t, s, "a"), u.ID(), strings.Repeat(part, 4))
}

// leave closes handles as a server does at the end of a request.
func leave(t testing.TB, handles ...storage.Upload) {
	t.Helper()
	for _, u := range handles {
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func reopenSessionAlgorithm(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	ids := make(map[digest.Algorithm]string)
	for _, a := range algorithms() {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{Algorithm: a}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader("ab")))(t)
		ids[a] = u.ID()
		leave(t, u)
	}
	r = repository(t, again(), "a")
	for a, id := range ids {
		u := resume(r, id)
		must(u.Append(t.Context(), 2, strings.NewReader("c")))(t)
		must(u.Commit(t.Context(), a.FromString("abc")))(t)
		r.wantBlob(a.FromString("abc"), "abc")
	}
}

func reopenEnded(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	canceled, committed := newSession(r), newSession(r)
	open := newSession(r)
	for _, u := range []storage.Upload{canceled, committed} {
		must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	}
	if err := canceled.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(committed.Commit(t.Context(), digest.FromString("x")))(t)
	failed := failedCommit(t, r, digest.FromString("other"))
	leave(t, canceled, committed, open, failed)
	r = repository(t, again(), "a")
	for _, u := range []storage.Upload{canceled, committed, failed} {
		_, err := r.ResumeUpload(t.Context(), u.ID())
		wantCode(t, err, oci.BlobUploadUnknown)
	}
	resume(r, open.ID())
}

func reopenDeleted(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	sig := referrer(t, "sig", n.Digest)
	x := r.pushBlob("x")
	r.push(m, "v1", "v2")
	r.push(n, "v3", "v4")
	r.push(sig)
	r.update(func(e *storage.Edit) {
		e.Delete(m.Digest)
		e.Delete(sig.Digest)
		e.Untag(tag(t, "v3"))
		e.DropBlob(x)
	})
	r = repository(t, again(), "a")
	r.wantTags("v4")
	r.wantManifest(n.Digest, "v4", n.Digest.String())
	r.wantNoManifest("v1", "v2", "v3", m.Digest.String(), sig.Digest.String())
	r.wantNoBlob(x)
	wantSlice(t, "referrers", referring(r.referrers(n.Digest, "")), nil)
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(n))
}

func reopenDeletedChild(t testing.TB, s storage.Store, again func() storage.Store) {
	r, child, kept := repository(t, s, "a"), image(t, "child"), image(t, "kept")
	r.push(child)
	r.push(kept)
	top := imageIndex(t, child, kept)
	r.push(top, "v1")
	r.update(func(e *storage.Edit) { e.Delete(child.Digest) })
	r = repository(t, again(), "a")
	r.wantNoManifest(child.Digest.String())
	wantSlice(t, "manifests", digests(slices.Collect(r.index().Manifests())), inOrder(kept, top))
}

func reopenEmptied(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	d := r.push(image(t, "m"), "v1")
	r.update(func(e *storage.Edit) { e.Delete(d) })
	s = again()
	wantRepositories(t, s, oci.Name{}, "a")
	repository(t, s, "a").wantTags()
}

func reopenRetagged(t testing.TB, s storage.Store, again func() storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m", r.pushBlob("m")), image(t, "n", r.pushBlob("n"))
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "latest")})
	r.putManifest(n, storage.PutOptions{Tags: tagList(t, "latest")})
	r = repository(t, again(), "a")
	r.wantManifest(n.Digest, "latest")
	r.wantManifest(m.Digest, m.Digest.String())
	r.wantBlob(digest.FromString("m"), "m")
}
