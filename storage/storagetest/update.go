package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func updateChecks() map[string]check {
	return map[string]check{
		"it calls fn with the current index":                            updateSeesCurrent,
		"it stores the changes that fn makes, all of them":              updateStoresAll,
		"if fn fails it returns fn's error":                             updateReturnsError,
		"if fn fails it changes nothing":                                failedUpdateChangesNothing,
		"updates of one repository happen one after another":            updatesInTurn,
		"concurrent updates are all applied":                            updatesAllApplied,
		"updates of several repositories don't mix":                     updatesApart,
		"if something required is missing it changes nothing":           missingChangesNothing,
		"it names each missing digest in Detail":                        missingDetail,
		"it requires at the moment of the change":                       requireAtTheMoment,
		"once under way it isn't interrupted by its context":            updateUninterrupted,
		"an update without changes changes nothing":                     emptyUpdate,
		"a manifest that requires a blob never comes without it":        neverWithoutBlob,
		"what it changed is seen by whoever asks after it has returned": updateSeenAtOnce,
	}
}

func updateSeesCurrent(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m, "v1")
	called := false
	r.update(func(e *storage.Edit) {
		called = true
		if got, err := e.Resolve(ref(t, "v1")); err != nil || got.Digest != m.Digest {
			t.Errorf("fn sees %s, %v; want %s", got.Digest, err, m.Digest)
		}
		if _, err := e.Resolve(ref(t, "v2")); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("fn sees a tag that doesn't exist: %v", err)
		}
	})
	if !called {
		t.Fatal("fn wasn't called")
	}
}

func updateStoresAll(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	old, m, n := image(t, "old"), image(t, "m"), image(t, "n")
	r.push(old, "v0", "gone")
	x := r.pushBlob("x")
	r.update(func(e *storage.Edit) {
		e.Put(m)
		e.Put(n)
		e.Tag(tag(t, "v1"), m.Digest)
		e.Tag(tag(t, "v2"), n.Digest)
		e.Tag(tag(t, "old"), old.Digest)
		e.Untag(tag(t, "gone"))
		e.DropBlob(x)
	})
	r.wantTags("old", "v0", "v1", "v2")
	r.wantManifest(m.Digest, "v1", m.Digest.String())
	r.wantManifest(n.Digest, "v2", n.Digest.String())
	r.wantManifest(old.Digest, "v0", "old")
	r.wantNoBlob(x)
}

func updateReturnsError(t testing.TB, s storage.Store) {
	boom := errors.New("boom")
	err := repository(t, s, "a").Update(t.Context(), func(*storage.Edit) error {
		return fmt.Errorf("in fn: %w", boom)
	})
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want what fn returned", err)
	}
	err = repository(t, s, "a").Update(t.Context(), func(*storage.Edit) error {
		return oci.Errorf(oci.Denied, "no")
	})
	wantStatus(t, err, oci.Denied, 403)
}

// everything records every kind of change.
func everything(t testing.TB, r repo) (edit func(*storage.Edit), unchanged func()) {
	t.Helper()
	m := image(t, "new")
	one, two := image(t, "one"), image(t, "two")
	r.push(one, "v1", "gone")
	r.push(two, "v2")
	x := r.pushBlob("x")
	edit = func(e *storage.Edit) {
		e.Put(m)
		e.Tag(tag(t, "v1"), m.Digest)
		e.Tag(tag(t, "v3"), m.Digest)
		e.Untag(tag(t, "gone"))
		e.Delete(two.Digest)
		e.DropBlob(x)
	}
	return edit, func() {
		t.Helper()
		r.wantTags("gone", "v1", "v2")
		r.wantManifest(one.Digest, "v1", "gone")
		r.wantManifest(two.Digest, "v2", two.Digest.String())
		r.wantNoManifest(m.Digest.String())
		r.wantNoBlob(m.Digest)
		r.wantBlob(x, "x")
	}
}

func failedUpdateChangesNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	edit, unchanged := everything(t, r)
	boom := errors.New("boom")
	err := r.Update(t.Context(), func(e *storage.Edit) error { edit(e); return boom })
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want what fn returned", err)
	}
	unchanged()
}

func missingChangesNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	edit, unchanged := everything(t, r)
	err := r.Update(t.Context(), func(e *storage.Edit) error {
		edit(e)
		e.Require(digest.FromString("missing"))
		return nil
	})
	wantStatus(t, err, oci.ManifestBlobUnknown, 404)
	unchanged()
}

func missingDetail(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	there := r.pushBlob("there")
	want := []digest.Digest{digest.FromString("1"), digest.FromString("2"), digest.SHA512.FromString("3")}
	slices.Sort(want)
	err := r.Update(t.Context(), func(e *storage.Edit) error {
		e.Require(want[0], there)
		e.Require(want[1:]...)
		return nil
	})
	wantCode(t, err, oci.ManifestBlobUnknown)
	wantSlice(t, "missing digests", missing(t, err), want)
}

// missing returns what Detail names, sorted, as a client reads it.
func missing(t testing.TB, err error) []digest.Digest {
	t.Helper()
	var oe *oci.Error
	if !errors.As(err, &oe) {
		t.Fatalf("error %v is no *oci.Error", err)
	}
	var details []struct{ Digest digest.Digest }
	if err := json.Unmarshal(must(json.Marshal(oe.Detail))(t), &details); err != nil {
		t.Fatal(err)
	}
	list := make([]digest.Digest, 0, len(details))
	for _, d := range details {
		list = append(list, d.Digest)
	}
	slices.Sort(list)
	return list
}

// updatesInTurn counts in tags: two fns that saw one index would give one number twice.
func updatesInTurn(t testing.TB, s storage.Store) {
	const workers, each = 8, 6
	r, m := repository(t, s, "a"), image(t, "m")
	r.push(m)
	tags := make([]oci.Tag, workers*each)
	names := make([]string, len(tags))
	for i := range tags {
		names[i] = fmt.Sprintf("n%03d", i)
		tags[i] = tag(t, names[i])
	}
	wantNoErrors(t, together(workers, func(int) error {
		for range each {
			err := r.Update(t.Context(), func(e *storage.Edit) error {
				n := 0
				for range e.Tags(oci.Tag{}) {
					n++
				}
				e.Tag(tags[min(n, len(tags)-1)], m.Digest)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	r.wantTags(names...)
}

func updatesAllApplied(t testing.TB, s storage.Store) {
	const pushers = 16
	r := repository(t, s, "a")
	images, tags, names := make([]oci.Manifest, pushers), make([][]oci.Tag, pushers), make([]string, pushers)
	for i := range pushers {
		names[i] = fmt.Sprintf("v%02d", i)
		images[i], tags[i] = image(t, names[i]), tagList(t, names[i])
	}
	wantNoErrors(t, together(pushers, func(i int) error {
		return storage.PutManifest(t.Context(), r, images[i], storage.PutOptions{Tags: tags[i]})
	}))
	r.wantTags(names...)
	for i, n := range names {
		r.wantManifest(images[i].Digest, n)
		r.wantBlob(images[i].Digest, string(images[i].Raw))
	}
}

func updatesApart(t testing.TB, s storage.Store) {
	const repositories = 8
	m, v := image(t, "m"), tagList(t, "v")
	repos, own := make([]repo, repositories), make([]oci.Manifest, repositories)
	for i := range repos {
		repos[i], own[i] = repository(t, s, fmt.Sprintf("r%d", i)), image(t, fmt.Sprint(i))
	}
	wantNoErrors(t, together(repositories, func(i int) error {
		return errors.Join(
			storage.PutManifest(t.Context(), repos[i], m, storage.PutOptions{}),
			storage.PutManifest(t.Context(), repos[i], own[i], storage.PutOptions{Tags: v}))
	}))
	for i, r := range repos {
		got := digests(slices.Collect(r.index().Manifests()))
		wantSlice(t, "manifests", got, inOrder(m, own[i]))
		r.wantManifest(own[i].Digest, "v")
	}
}

func requireAtTheMoment(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	m := image(t, "m", d)
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "v1")})
	r.update(func(e *storage.Edit) { e.DropBlob(d) })
	err := storage.PutManifest(t.Context(), r, m, storage.PutOptions{Tags: tagList(t, "v2")})
	wantCode(t, err, oci.ManifestBlobUnknown)
	r.wantTags("v1")
	r.pushBlob("x")
	r.putManifest(m, storage.PutOptions{Tags: tagList(t, "v2")})
	r.wantTags("v1", "v2")
}

func updateUninterrupted(t testing.TB, s storage.Store) {
	r, m := repository(t, s, "a"), image(t, "m")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := r.Update(ctx, func(e *storage.Edit) error {
		cancel()
		e.Put(m)
		e.Tag(tag(t, "v1"), m.Digest)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.wantManifest(m.Digest, "v1")
}

func emptyUpdate(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.push(image(t, "m"), "v1")
	r.update(func(*storage.Edit) {})
	r.wantTags("v1")
	r.wantManifest(d, "v1")
}

// neverWithoutBlob lets the push of a manifest race the deletion of its blob.
// Either order is right; a manifest whose blob is gone isn't.
func neverWithoutBlob(t testing.TB, s storage.Store) {
	for i := range 40 {
		r := repository(t, s, fmt.Sprint("r", i))
		d := r.pushBlob("x")
		m := image(t, "m", d)
		errs := together(2, func(which int) error {
			if which == 1 {
				return storage.DeleteBlob(t.Context(), r, d, "")
			}
			for range i % 4 * 10 { // a head start for the other, more or less
				runtime.Gosched()
			}
			return storage.PutManifest(t.Context(), r, m, storage.PutOptions{})
		})
		switch pushed, dropped := errs[0], errs[1]; {
		case pushed == nil:
			wantCode(t, dropped, oci.Denied)
			r.wantBlob(d, "x")
		case dropped == nil:
			wantCode(t, pushed, oci.ManifestBlobUnknown)
			wantCode(t, second(r.Resolve(t.Context(), oci.DigestRef(m.Digest))), oci.ManifestUnknown)
			r.wantNoBlob(d)
		default:
			t.Fatalf("both failed: %v, %v", pushed, dropped)
		}
	}
}

func updateSeenAtOnce(t testing.TB, s storage.Store) {
	r, other := repository(t, s, "a"), repository(t, s, "a")
	for i := range 20 {
		m := image(t, strings.Repeat("x", i))
		r.push(m, "latest")
		other.wantManifest(m.Digest, "latest", m.Digest.String())
	}
}
