package storagetest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func uploadChecks() map[string]check {
	return map[string]check{
		"ID is unguessable, and safe in a URL path":             uploadID,
		"Size is how many bytes the handle last saw":            uploadSize,
		"the session outlives the handle":                       sessionOutlivesHandle,
		"several handles on one session may be used":            severalHandles,
		"Cancel forgets the session and its content":            cancel,
		"Cancel is a no-op once the session has ended":          cancelEnded,
		"Cancel ends an append that runs":                       cancelAppend,
		"Close releases the handle and the session stays":       closeUpload,
		"what a session holds is no blob before it's committed": uncommitted,
	}
}

// urlSafe is RFC 3986's unreserved characters, less the dot; 22 of them can hold 128 bits.
var urlSafe = regexp.MustCompile(`^[A-Za-z0-9_~-]{22,255}$`)

func uploadID(t testing.TB, s storage.Store) {
	seen := make(map[string]bool)
	for i := range 50 {
		u := newSession(repository(t, s, fmt.Sprint("r", i%2)))
		if id := u.ID(); seen[id] || !urlSafe.MatchString(id) {
			t.Fatalf("session %d has the ID %q", i, id)
		}
		seen[u.ID()] = true
	}
}

func uploadSize(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	for i := range 3 {
		if got := must(u.Append(t.Context(), int64(2*i), strings.NewReader("ab")))(t); got != u.Size() || got != int64(2*i+2) {
			t.Fatalf("append %d returned %d, Size is %d", i, got, u.Size())
		}
	}
	v := resume(r, u.ID())
	if v.Size() != 6 {
		t.Fatalf("resumed at %d, want 6", v.Size())
	}
	must(v.Append(t.Context(), 6, strings.NewReader("c")))(t)
	if u.Size() != 6 || v.Size() != 7 {
		t.Fatalf("sizes are %d and %d, want 6 and 7", u.Size(), v.Size())
	}
}

func sessionOutlivesHandle(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	id := u.ID()
	for i := range 4 {
		must(u.Append(t.Context(), int64(i), strings.NewReader("x")))(t)
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		u = resume(r, id)
	}
	must(u.Commit(t.Context(), digest.FromString("xxxx")))(t)
	r.wantBlob(digest.FromString("xxxx"), "xxxx")
}

func severalHandles(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	handles := []storage.Upload{newSession(r)}
	for range 3 {
		handles = append(handles, resume(r, handles[0].ID()))
	}
	for i, u := range handles {
		must(u.Append(t.Context(), int64(i), strings.NewReader(fmt.Sprint(i))))(t)
	}
	must(handles[0].Commit(t.Context(), digest.FromString("0123")))(t)
	r.wantBlob(digest.FromString("0123"), "0123")
}

func wantNoSession(t testing.TB, r repo, u storage.Upload) {
	t.Helper()
	_, err := r.ResumeUpload(t.Context(), u.ID())
	wantCode(t, err, oci.BlobUploadUnknown)
	_, err = u.Append(t.Context(), -1, strings.NewReader("more"))
	wantCode(t, err, oci.BlobUploadUnknown)
	_, err = u.Commit(t.Context(), digest.FromString("x"))
	wantCode(t, err, oci.BlobUploadUnknown)
}

func cancel(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	v := resume(r, u.ID())
	if err := u.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNoSession(t, r, u)
	wantNoSession(t, r, v)
	r.wantNoBlob(digest.FromString("x"))
}

func cancelEnded(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	must(u.Commit(t.Context(), digest.FromString("x")))(t)
	v := newSession(r)
	for range 2 {
		for _, ended := range []storage.Upload{u, v} {
			if err := ended.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.wantBlob(digest.FromString("x"), "x")
}

func cancelAppend(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	slow := newStall(t, "abc", "def")
	appended := background(t, func() error { return second(u.Append(t.Context(), 0, slow)) })
	slow.wait()
	v := resume(r, u.ID())
	canceled := background(t, func() error { return v.Cancel(t.Context()) })
	giveWay()
	slow.release()
	if err := canceled(); err != nil {
		t.Fatal(err)
	}
	_ = appended() // it may have been faster
	wantNoSession(t, r, u)
	r.wantNoBlob(digest.FromString("abcdef"))
}

func closeUpload(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	v := resume(r, u.ID())
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	must(v.Append(t.Context(), 1, strings.NewReader("y")))(t)
	must(v.Commit(t.Context(), digest.FromString("xy")))(t)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	r.wantBlob(digest.FromString("xy"), "xy")
}

func uncommitted(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := newSession(r)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	r.wantNoBlob(digest.FromString("x"))
	_, err := repository(t, s, "b").MountBlob(t.Context(), digest.FromString("x"), r.Name())
	wantCode(t, err, oci.BlobUnknown)
	must(u.Commit(t.Context(), digest.FromString("x")))(t)
	r.wantBlob(digest.FromString("x"), "x")
}
