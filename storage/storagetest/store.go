package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func storeChecks() map[string]check {
	return map[string]check{
		"it is safe for concurrent use":                                concurrentUse,
		"reading a repository that doesn't exist gives NameUnknown":    unknownRepository,
		"asking about a repository doesn't create it":                  askingCreatesNothing,
		"writing creates the repository":                               writingCreates,
		"a repository exists from its first blob on":                   blobCreates,
		"a session or a failed write makes no repository":              failureCreatesNothing,
		"a repository goes on existing when it's empty":                emptiedRepository,
		"Repositories is in the order of Name.Compare":                 repositoriesInOrder,
		"Repositories begins after the name given":                     repositoriesAfter,
		"Repositories begins after a name that doesn't exist":          repositoriesAfterNone,
		"Repositories can be stopped":                                  repositoriesStopped,
		"an error ends the sequence of Repositories":                   errorEndsRepositories,
		"repositories that lie inside another's name are others":       nestedRepositories,
		"Ready is nil while the store can be read and written":         ready,
		"Close waits for what's in progress":                           closeWaits,
		"what is called after Close fails":                             closed,
		"what is called after Close on things opened before fails too": closedHandles,
	}
}

func concurrentUse(t testing.TB, s storage.Store) {
	const pushers = 8
	images := make([]oci.Manifest, pushers)
	names := make([]oci.Name, pushers)
	for i := range pushers {
		images[i] = image(t, fmt.Sprint(i), digest.FromString(fmt.Sprint(i)))
		names[i] = name(t, fmt.Sprintf("a/%d", i%3))
	}
	latest := tag(t, "latest")
	wantNoErrors(t, together(pushers, func(i int) error {
		r := s.Repository(names[i])
		content := fmt.Sprint(i)
		_, err := storage.PutBlob(t.Context(), r, digest.FromString(content), strings.NewReader(content), storage.UploadOptions{})
		if err != nil {
			return err
		}
		if err := storage.PutManifest(t.Context(), r, images[i], storage.PutOptions{Tags: []oci.Tag{latest}}); err != nil {
			return err
		}
		for _, err := range s.Repositories(t.Context(), oci.Name{}) {
			if err != nil {
				return err
			}
		}
		_, err = r.Resolve(t.Context(), oci.TagRef(latest))
		return err
	}))
	for i := range pushers {
		repo{s.Repository(names[i]), t}.wantManifest(images[i].Digest, images[i].Digest.String())
	}
}

func unknownRepository(t testing.TB, s storage.Store) {
	r := repository(t, s, "no/such")
	if got := r.Name(); got != name(t, "no/such") {
		t.Fatalf("it is called %s", got)
	}
	_, err := r.Index(t.Context())
	wantCode(t, err, oci.NameUnknown)
	_, err = r.Resolve(t.Context(), ref(t, "latest"))
	wantCode(t, err, oci.NameUnknown)
	_, err = r.Referrers(t.Context(), digest.FromString("x"), "")
	wantCode(t, err, oci.NameUnknown)
	r.wantNoBlob(digest.FromString("x"))
}

func askingCreatesNothing(t testing.TB, s storage.Store) {
	unknownRepository(t, s)
	wantRepositories(t, s, oci.Name{})
}

func writingCreates(t testing.TB, s storage.Store) {
	r := repository(t, s, "a/b")
	m := image(t, "m")
	r.push(m, "v1")
	r.wantManifest(m.Digest, "v1")
	wantRepositories(t, s, oci.Name{}, "a/b")
}

func blobCreates(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	wantRepositories(t, s, oci.Name{}, "a")
	r.wantTags()
	must(repository(t, s, "b").MountBlob(t.Context(), d, r.Name()))(t)
	wantRepositories(t, s, oci.Name{}, "a", "b")
}

func failureCreatesNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	u = must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	_, err := u.Commit(t.Context(), digest.FromString("not that"))
	wantCode(t, err, oci.DigestInvalid)
	_, err = r.MountBlob(t.Context(), digest.FromString("x"), name(t, "b"))
	wantCode(t, err, oci.BlobUnknown)
	boom := errors.New("boom")
	err = r.Update(t.Context(), func(e *storage.Edit) error { e.Put(image(t, "m")); return boom })
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want what fn returned", err)
	}
	err = storage.PutManifest(t.Context(), r, image(t, "m", digest.FromString("x")), storage.PutOptions{})
	wantCode(t, err, oci.ManifestBlobUnknown)
	r.update(func(*storage.Edit) {})
	wantRepositories(t, s, oci.Name{})
	_, err = r.Index(t.Context())
	wantCode(t, err, oci.NameUnknown)
}

func emptiedRepository(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.push(image(t, "m"), "v1")
	r.update(func(e *storage.Edit) { e.Delete(d) })
	r.wantTags()
	wantRepositories(t, s, oci.Name{}, "a")
}

// sorted are names whose order is easily got wrong: '-' and '.' sort before '/',
// digits after it, so a walk of directories that descends into "a" before it
// goes on to "a-b" has another order. The last three name files of a layout.
func sorted() []string {
	return []string{
		"0", "a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a/b0", "a0", "a_b", "a__b", "ab",
		"blobs", "blobs/sha256", "index.json", "oci-layout",
	}
}

func createSorted(t testing.TB, s storage.Store) []string {
	t.Helper()
	want := sorted()
	slices.Sort(want)
	for _, n := range slices.Backward(want) {
		repository(t, s, n).pushBlob("x")
	}
	return want
}

func repositoriesInOrder(t testing.TB, s storage.Store) {
	wantRepositories(t, s, oci.Name{}, createSorted(t, s)...)
}

func repositoriesAfter(t testing.TB, s storage.Store) {
	want := createSorted(t, s)
	for i, n := range want {
		wantRepositories(t, s, name(t, n), want[i+1:]...)
	}
}

func repositoriesAfterNone(t testing.TB, s storage.Store) {
	for _, n := range []string{"b/d", "b", "d"} {
		repository(t, s, n).pushBlob("x")
	}
	wantRepositories(t, s, name(t, "a/z"), "b", "b/d", "d")
	wantRepositories(t, s, name(t, "b/c"), "b/d", "d")
	wantRepositories(t, s, name(t, "c/z/z"), "d")
	wantRepositories(t, s, name(t, "e"))
}

func repositoriesStopped(t testing.TB, s storage.Store) {
	want := createSorted(t, s)
	n := 0
	for got, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil || got.String() != want[n] {
			t.Fatalf("number %d is %s, %v; want %s", n, got, err, want[n])
		}
		if n++; n == 3 {
			break
		}
	}
	wantRepositories(t, s, oci.Name{}, want...)
}

// errorEndsRepositories asks in two ways that may fail: with a context that has
// ended, and of a store that's closed.
func errorEndsRepositories(t testing.TB, s storage.Store) {
	createSorted(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErrorLast(ctx, t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !wantErrorLast(t.Context(), t, s) {
		t.Fatal("a closed store lists its repositories")
	}
}

func wantErrorLast(ctx context.Context, t testing.TB, s storage.Store) (failed bool) {
	t.Helper()
	for n, err := range s.Repositories(ctx, oci.Name{}) {
		if failed {
			t.Fatalf("after an error comes %v, %v", n, err)
		}
		failed = err != nil
	}
	return failed
}

func wantRepositories(t testing.TB, s storage.Store, after oci.Name, want ...string) {
	t.Helper()
	var got []string
	for n, err := range s.Repositories(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.String())
	}
	wantSlice(t, "repositories after "+after.String(), got, want)
}

func nestedRepositories(t testing.TB, s storage.Store) {
	outer, inner := repository(t, s, "a"), repository(t, s, "a/b")
	d := inner.pushBlob("x")
	outer.wantNoBlob(d)
	_, err := outer.Index(t.Context())
	wantCode(t, err, oci.NameUnknown)
	m, n := image(t, "outer"), image(t, "inner")
	outer.push(m, "v1")
	inner.push(n, "v1")
	outer.wantManifest(m.Digest, "v1")
	inner.wantManifest(n.Digest, "v1")
	inner.wantNoManifest(m.Digest.String())
}

func ready(t testing.TB, s storage.Store) {
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	repository(t, s, "a").push(image(t, "m"), "v1")
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closeWaits(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	inside := newLatch(t)
	var finished atomic.Bool
	updated := background(t, func() error {
		return r.Update(t.Context(), func(e *storage.Edit) error {
			e.Put(m)
			err := inside.stop()
			finished.Store(true)
			return err
		})
	})
	inside.wait()
	early := errors.New("Close returned before Update did")
	closed := background(t, func() error {
		if err := s.Close(); err != nil || finished.Load() {
			return err
		}
		return early
	})
	giveWay()
	inside.release()
	if err := errors.Join(updated(), closed()); err != nil {
		t.Fatal(err)
	}
}

func closed(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	m := r.push(image(t, "m"), "v1")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, map[string]func() error{
		"Ready":        func() error { return s.Ready(t.Context()) },
		"StatBlob":     func() error { return second(r.StatBlob(t.Context(), d)) },
		"OpenBlob":     func() error { return second(r.OpenBlob(t.Context(), d)) },
		"Resolve":      func() error { return second(r.Resolve(t.Context(), oci.DigestRef(m))) },
		"Referrers":    func() error { return second(r.Referrers(t.Context(), m, "")) },
		"Index":        func() error { return second(r.Index(t.Context())) },
		"NewUpload":    func() error { return second(r.NewUpload(t.Context(), storage.UploadOptions{})) },
		"ResumeUpload": func() error { return second(r.ResumeUpload(t.Context(), u.ID())) },
		"MountBlob":    func() error { return second(s.Repository(name(t, "b")).MountBlob(t.Context(), d, r.Name())) },
		"Update":       func() error { return r.Update(t.Context(), func(*storage.Edit) error { return nil }) },
	})
}

func closedHandles(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	u := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	must(u.Append(t.Context(), 0, strings.NewReader("x")))(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, map[string]func() error{
		"Append": func() error { return second(u.Append(t.Context(), 1, strings.NewReader("y"))) },
		"Commit": func() error { return second(u.Commit(t.Context(), digest.FromString("x"))) },
	})
}

func wantClosed(t testing.TB, calls map[string]func() error) {
	t.Helper()
	for what, call := range calls {
		if err := call(); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s after Close: %v, want storage.ErrClosed", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
