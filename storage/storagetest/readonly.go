package storagetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// ReadOnly holds a store that refuses to write to what is left of the contract:
// it reads as the store below does, and what would write fails with
// oci.Unsupported and changes nothing. open returns a new store and the
// read-only one around it; closing that one closes both.
func ReadOnly(t *testing.T, open func(t *testing.T) (below, readOnly storage.Store)) {
	t.Helper()
	for sentence, check := range readOnlyChecks() {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			below, readOnly := open(t)
			closeAfter(t, readOnly)
			check(t, below, readOnly)
		})
	}
}

func readOnlyChecks() map[string]func(t testing.TB, below, readOnly storage.Store) {
	return map[string]func(t testing.TB, below, readOnly storage.Store){
		"it reads what the store below holds":        readsBelow,
		"it sees what changes below":                 seesChanges,
		"what isn't there fails as it does below":    failsAsBelow,
		"what would write fails with Unsupported":    refusesWrites,
		"the fn of an Update isn't called":           refusesUpdate,
		"the verbs that write fail with Unsupported": refusesVerbs,
		"Close closes the store below":               closesBelow,
	}
}

// filled has something of everything.
func filled(t testing.TB, s storage.Store) (r repo, m oci.Manifest, blob digest.Digest) {
	t.Helper()
	r = repository(t, s, "a/b")
	blob = r.pushBlob("x")
	m = image(t, "m", blob)
	r.push(m, "v1", "v2")
	r.push(referrer(t, "sig", m.Digest))
	r.push(imageIndex(t, m), "top")
	return r, m, blob
}

func readsBelow(t testing.TB, below, readOnly storage.Store) {
	r, m, x := filled(t, below)
	wantRepositories(t, readOnly, oci.Name{}, "a/b")
	if err := readOnly.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := repository(t, readOnly, "a/b")
	if got.Name() != r.Name() {
		t.Fatalf("it is called %s", got.Name())
	}
	got.wantBlob(x, "x")
	got.wantBlob(m.Digest, string(m.Raw))
	got.wantTags("top", "v1", "v2")
	got.wantManifest(m.Digest, "v1", "v2", m.Digest.String())
	wantSlice(t, "referrers", referring(got.referrers(m.Digest, "")), referring(r.referrers(m.Digest, "")))
	wantSlice(t, "parents", slices.Collect(got.index().Parents(m.Digest)), slices.Collect(r.index().Parents(m.Digest)))
}

func seesChanges(t testing.TB, below, readOnly storage.Store) {
	r, _, x := filled(t, below)
	got := repository(t, readOnly, "a/b")
	n := image(t, "n")
	r.push(n, "v1")
	got.wantManifest(n.Digest, "v1")
	r.update(func(e *storage.Edit) { e.Untag(tag(t, "v2")); e.DropBlob(x) })
	got.wantTags("top", "v1")
	got.wantNoBlob(x)
}

func failsAsBelow(t testing.TB, below, readOnly storage.Store) {
	filled(t, below)
	unknownRepository(t, readOnly)
	got := repository(t, readOnly, "a/b")
	got.wantNoBlob(digest.FromString("y"))
	got.wantNoManifest("v3", digest.FromString("y").String())
}

func refusesWrites(t testing.TB, below, readOnly storage.Store) {
	r, m, x := filled(t, below)
	session := newSession(r)
	got := repository(t, readOnly, "a/b")
	_, err := got.NewUpload(t.Context(), storage.UploadOptions{})
	wantCode(t, err, oci.Unsupported)
	_, err = got.ResumeUpload(t.Context(), session.ID())
	wantCode(t, err, oci.Unsupported)
	_, err = repository(t, readOnly, "c").MountBlob(t.Context(), x, r.Name())
	wantCode(t, err, oci.Unsupported)
	wantRepositories(t, below, oci.Name{}, "a/b")
	r.wantManifest(m.Digest, "v1", "v2")
	must(session.Commit(t.Context(), digest.FromString("")))(t) // it's as it was
}

func refusesUpdate(t testing.TB, below, readOnly storage.Store) {
	r, m, x := filled(t, below)
	err := repository(t, readOnly, "a/b").Update(t.Context(), func(e *storage.Edit) error {
		t.Error("fn was called")
		e.Delete(m.Digest)
		e.DropBlob(x)
		return nil
	})
	wantCode(t, err, oci.Unsupported)
	r.wantManifest(m.Digest, "v1", "v2")
	r.wantBlob(x, "x")
}

func refusesVerbs(t testing.TB, below, readOnly storage.Store) {
	r, m, _ := filled(t, below)
	loose := r.pushBlob("loose")
	got := repository(t, readOnly, "a/b")
	_, err := storage.PutBlob(t.Context(), got, digest.FromString("y"), strings.NewReader("y"), storage.UploadOptions{})
	wantCode(t, err, oci.Unsupported)
	wantCode(t, storage.PutManifest(t.Context(), got, image(t, "n"), storage.PutOptions{Tags: tagList(t, "v1")}), oci.Unsupported)
	wantCode(t, remove(t, got, "v1"), oci.Unsupported)
	wantCode(t, remove(t, got, m.Digest.String()), oci.Unsupported)
	wantCode(t, removeBlob(t, got, loose), oci.Unsupported)
	r.wantTags("top", "v1", "v2")
	r.wantManifest(m.Digest, "v1", "v2")
	r.wantBlob(loose, "loose")
	r.wantNoBlob(digest.FromString("y"))
}

func closesBelow(t testing.TB, below, readOnly storage.Store) {
	filled(t, below)
	if err := readOnly.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []storage.Store{below, readOnly} {
		if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrClosed) {
			t.Fatalf("error %v, want storage.ErrClosed", err)
		}
	}
}
