package storagetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func commitChecks() map[string]check {
	return map[string]check{
		"it makes the content the blob":                           commit,
		"it makes an empty session the empty blob":                commitEmpty,
		"if the content isn't want the error is DigestInvalid":    commitOther,
		"if the content isn't want the session is gone":           commitOtherEnds,
		"it hashes with the algorithm the session was begun with": commitAlgorithm,
		"it accepts a digest of another algorithm":                commitOtherAlgorithm,
		"when it returns nil the blob can be read":                commitReadable,
		"committing a blob that's there already is no error":      commitTwice,
		"of several commits at once one does the work":            commitOnce,
		"many sessions may commit one blob at once":               commitMany,
		"a session that has ended is BlobUploadUnknown":           commitEnded,
		"an append that still runs can't change what it made":     commitUnderAppend,
		"it commits what several handles have appended":           commitHandles,
	}
}

func commit(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	content := strings.Repeat("content ", 100_000)
	must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
	d := digest.FromString(content)
	got := must(u.Commit(t.Context(), d))(t)
	wantDescriptor(t, got, oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: int64(len(content))})
	r.wantBlob(d, content)
}

func commitEmpty(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, a := range algorithms() {
		d := a.FromString("")
		must(newSession(r).Commit(t.Context(), d))(t)
		r.wantBlob(d, "")
	}
}

// failedCommit commits a session of "abc" as something else.
func failedCommit(t testing.TB, r repo, want digest.Digest) storage.Upload {
	t.Helper()
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("abc")))(t)
	_, err := u.Commit(t.Context(), want)
	wantCode(t, err, oci.DigestInvalid)
	return u
}

func commitOther(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, a := range algorithms() {
		want := a.FromString("abd")
		failedCommit(t, r, want)
		r.wantNoBlob(want)
		r.wantNoBlob(a.FromString("abc"))
	}
}

func commitOtherEnds(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := failedCommit(t, r, digest.FromString("abd"))
	wantNoSession(t, r, u)
	if err := u.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func commitAlgorithm(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, a := range algorithms() {
		u := must(r.NewUpload(t.Context(), storage.UploadOptions{Algorithm: a}))(t)
		must(u.Append(t.Context(), 0, strings.NewReader("ab")))(t)
		must(resume(r, u.ID()).Append(t.Context(), 2, strings.NewReader("c")))(t)
		must(resume(r, u.ID()).Commit(t.Context(), a.FromString("abc")))(t)
		r.wantBlob(a.FromString("abc"), "abc")
	}
}

func commitOtherAlgorithm(t testing.TB, s storage.Store) {
	for i, begun := range algorithms() {
		for _, a := range algorithms() {
			r := repository(t, s, fmt.Sprint("r", i))
			u := must(r.NewUpload(t.Context(), storage.UploadOptions{Algorithm: begun}))(t)
			must(u.Append(t.Context(), 0, strings.NewReader("abc")))(t)
			must(u.Commit(t.Context(), a.FromString("abc")))(t)
			r.wantBlob(a.FromString("abc"), "abc")
		}
	}
}

func commitReadable(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	contents := make([]string, 16)
	for i := range contents {
		contents[i] = strings.Repeat(fmt.Sprint(i), 3000)
	}
	wantNoErrors(t, together(len(contents), func(i int) error {
		d := digest.FromString(contents[i])
		_, err := storage.PutBlob(t.Context(), r, d, strings.NewReader(contents[i]), storage.UploadOptions{})
		if err != nil {
			return err
		}
		b, err := r.OpenBlob(t.Context(), d)
		if err != nil {
			return err
		}
		return b.Close()
	}))
	for _, c := range contents {
		r.wantBlob(digest.FromString(c), c)
	}
}

func commitTwice(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, content := range []string{"x", strings.Repeat("x", 10_000)} {
		for range 3 {
			r.wantBlob(r.pushBlob(content), content)
		}
	}
}

func commitOnce(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for i := range 10 {
		content := fmt.Sprint(i)
		u := newSession(r)
		must(u.Append(t.Context(), 0, strings.NewReader(content)))(t)
		handles := make([]storage.Upload, 8)
		for i := range handles {
			handles[i] = resume(r, u.ID())
		}
		wantOne(t, together(len(handles), func(i int) error {
			return second(handles[i].Commit(t.Context(), digest.FromString(content)))
		}), oci.BlobUploadUnknown)
		r.wantBlob(digest.FromString(content), content)
	}
}

func commitMany(t testing.TB, s storage.Store) {
	content := strings.Repeat("x", 5000)
	d := digest.FromString(content)
	repos := []repo{repository(t, s, "a"), repository(t, s, "a/b"), repository(t, s, "c")}
	wantNoErrors(t, together(12, func(i int) error {
		return second(storage.PutBlob(t.Context(), repos[i%3], d, strings.NewReader(content), storage.UploadOptions{}))
	}))
	for _, r := range repos {
		r.wantBlob(d, content)
	}
}

func commitEnded(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	v := resume(r, u.ID())
	must(u.Commit(t.Context(), digest.FromString("x")))(t)
	wantNoSession(t, r, u)
	wantNoSession(t, r, v)
	r.wantBlob(digest.FromString("x"), "x")
}

// commitUnderAppend commits while an append is stuck. Whether that waits for the
// append or takes the session from it, the blob is what its digest says.
func commitUnderAppend(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	slow := newStall(t, "abc", "XYZ")
	appended := background(t, func() error { return second(u.Append(t.Context(), 0, slow)) })
	slow.wait()
	v, d := resume(r, u.ID()), digest.FromString("abc")
	committed := background(t, func() error { return second(v.Commit(t.Context(), d)) })
	giveWay()
	slow.release()
	err := committed()
	_ = appended() // it may have been faster
	if err == nil {
		r.wantBlob(d, "abc")
	} else {
		wantCode(t, err, oci.DigestInvalid)
		r.wantNoBlob(d)
	}
	wantNoSession(t, r, u)
}

func commitHandles(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	v := resume(r, u.ID())
	must(u.Append(t.Context(), 0, strings.NewReader("ab")))(t)
	must(v.Append(t.Context(), 2, strings.NewReader("cd")))(t)
	must(u.Commit(t.Context(), digest.FromString("abcd")))(t)
	r.wantBlob(digest.FromString("abcd"), "abcd")
}
