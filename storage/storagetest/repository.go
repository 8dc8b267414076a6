package storagetest

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func repositoryChecks() map[string]check {
	return map[string]check{
		"NewUpload begins an upload session":                          newUpload,
		"sessions are told apart":                                     sessionsApart,
		"the size of a session is a hint and no promise":              sizeIsAHint,
		"ResumeUpload returns a session that was begun earlier":       resumeUpload,
		"an unknown session is BlobUploadUnknown":                     unknownUpload,
		"a session belongs to one repository":                         foreignUpload,
		"MountBlob makes a blob of this repository of another's":      mountBlob,
		"a mounted blob stays when the other repository drops it":     mountedStays,
		"MountBlob of what the other hasn't got is BlobUnknown":       mountUnknown,
		"MountBlob of what is there already is no error":              mountTwice,
		"a repository holds blobs, found by digest and never changed": neverChanged,
	}
}

func newUpload(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{By: "alice"}))(t)
	if u.Size() != 0 {
		t.Fatalf("a new session holds %d bytes", u.Size())
	}
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	must(u.Commit(t.Context(), digest.FromString("x")))(t)
	r.wantBlob(digest.FromString("x"), "x")
}

func sessionsApart(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u, v := newSession(r), newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("one")))(t)
	must(v.Append(t.Context(), 0, strings.NewReader("three")))(t)
	must(v.Commit(t.Context(), digest.FromString("three")))(t)
	must(u.Commit(t.Context(), digest.FromString("one")))(t)
	r.wantBlob(digest.FromString("one"), "one")
	r.wantBlob(digest.FromString("three"), "three")
}

func newSession(r repo) storage.Upload {
	r.t.Helper()
	return must(r.NewUpload(r.t.Context(), storage.UploadOptions{}))(r.t)
}

func resume(r repo, id string) storage.Upload {
	r.t.Helper()
	return must(r.ResumeUpload(r.t.Context(), id))(r.t)
}

func sizeIsAHint(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for i, size := range []int64{0, 1, 3, 1000} {
		content := strings.Repeat("x", 2+i)
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{Size: size}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
		must(u.Commit(t.Context(), digest.FromString(content)))(t)
		r.wantBlob(digest.FromString(content), content)
	}
}

func resumeUpload(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("ab")))(t)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	v := resume(repository(t, s, "a"), u.ID())
	if v.ID() != u.ID() || v.Size() != 2 {
		t.Fatalf("resumed %s of %d bytes, want %s of 2", v.ID(), v.Size(), u.ID())
	}
	must(v.Append(t.Context(), -1, strings.NewReader("cd")))(t)
	must(v.Commit(t.Context(), digest.FromString("abcd")))(t)
	r.wantBlob(digest.FromString("abcd"), "abcd")
}

func unknownUpload(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	r.pushBlob("x")
	must(r.ResumeUpload(t.Context(), newSession(r).ID()))(t)
	for _, id := range []string{"", ".", "..", "../a", "a/b", "/", "nosuch", strings.Repeat("A", 26), strings.Repeat("x", 5000), "a\x00b"} {
		_, err := r.ResumeUpload(t.Context(), id)
		wantCode(t, err, oci.BlobUploadUnknown)
	}
}

func foreignUpload(t testing.TB, s storage.Store) {
	u := newSession(repository(t, s, "a"))
	for _, other := range []string{"b", "a/b"} {
		_, err := repository(t, s, other).ResumeUpload(t.Context(), u.ID())
		wantCode(t, err, oci.BlobUploadUnknown)
	}
	resume(repository(t, s, "a"), u.ID())
}

func mountBlob(t testing.TB, s storage.Store) {
	from, to := repository(t, s, "a"), repository(t, s, "b/c")
	for _, size := range sizes() {
		content := strings.Repeat("m", size)
		d := from.pushBlob(content)
		got := must(to.MountBlob(t.Context(), d, from.Name()))(t)
		wantDescriptor(t, got, oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: int64(size)})
		to.wantBlob(d, content)
		from.wantBlob(d, content)
	}
}

func mountedStays(t testing.TB, s storage.Store) {
	from, to := repository(t, s, "a"), repository(t, s, "b")
	content := strings.Repeat("m", 5000)
	d := from.pushBlob(content)
	must(to.MountBlob(t.Context(), d, from.Name()))(t)
	from.update(func(e *storage.Edit) { e.DropBlob(d) })
	from.wantNoBlob(d)
	to.wantBlob(d, content)
}

func mountUnknown(t testing.TB, s storage.Store) {
	from, to := repository(t, s, "a"), repository(t, s, "b")
	d := from.pushBlob("x")
	_, err := to.MountBlob(t.Context(), digest.FromString("y"), from.Name())
	wantCode(t, err, oci.BlobUnknown)
	_, err = to.MountBlob(t.Context(), d, name(t, "no/such"))
	wantCode(t, err, oci.BlobUnknown)
	to.wantNoBlob(d)
}

func mountTwice(t testing.TB, s storage.Store) {
	from, to := repository(t, s, "a"), repository(t, s, "b")
	d := from.pushBlob("x")
	to.pushBlob("x")
	for range 2 {
		must(to.MountBlob(t.Context(), d, from.Name()))(t)
	}
	must(to.MountBlob(t.Context(), d, to.Name()))(t)
	to.wantBlob(d, "x")
}

// neverChanged reads a blob that was opened before everything that could touch it.
func neverChanged(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	content := strings.Repeat("x", 5000)
	d := r.pushBlob(content)
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader(strings.Repeat("y", 5000))))(t)
	_, err := u.Commit(t.Context(), d)
	wantCode(t, err, oci.DigestInvalid)
	r.wantBlob(d, content)
	r.pushBlob(content)
	r.wantBlob(d, content)
}
