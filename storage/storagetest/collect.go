package storagetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Collect holds a kind of store whose repositories are storage.Collectable to
// what that says, one subtest a sentence.
func Collect(t *testing.T, open Open) {
	t.Helper()
	for sentence, check := range collectChecks() {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			closeAfter(t, s)
			check(t, s)
		})
	}
	for name, rely := range relying() {
		t.Run("a mark is taken off by "+name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			closeAfter(t, s)
			markTakenOff(t, s, rely)
		})
	}
}

func collectChecks() map[string]check {
	return map[string]check{
		"Contents yields each blob and the bytes of each manifest": contentsOfAll,
		"a mark that's on it already stays":                        firstMarkStays,
		"what isn't there gets no mark":                            markOfNothing,
		"Peek takes no mark off":                                   peekLeavesMarks,
		"what goes if it's marked stays with a younger mark":       youngMarkKeeps,
		"what goes if it's marked stays without a mark":            noMarkKeeps,
		"a blob whose mark is old enough goes":                     oldMarkDrops,
		"a manifest whose mark is old enough goes":                 oldMarkDeletes,
		"a manifest and its bytes may go in one Update":            bothGo,
		"what comes again has no mark":                             comesAgainUnmarked,
		"a repository that holds something isn't retired":          retireKeeps,
		"a retired repository is as if it had never been":          retireGoes,
		"what comes after Retire makes the repository anew":        retireAndAgain,
	}
}

// markedAt is when marks are set. It has no fractions that a store might drop.
var markedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func collectable(t testing.TB, r repo) storage.Collectable {
	t.Helper()
	c, ok := storage.As[storage.Collectable](r.Repository)
	if !ok {
		t.Fatalf("a %T is no storage.Collectable", r.Repository)
	}
	return c
}

// contents are a repository's blobs, and since when they've had a mark.
func (r repo) contents() map[digest.Digest]storage.Content {
	r.t.Helper()
	all := make(map[digest.Digest]storage.Content)
	for c, err := range collectable(r.t, r).Contents(r.t.Context()) {
		if err != nil {
			r.t.Fatalf("contents: %v", err)
		}
		all[c.Digest] = c
	}
	return all
}

func (r repo) mark(d digest.Digest, at time.Time) {
	r.t.Helper()
	r.update(func(e *storage.Edit) { e.Mark(d, at) })
}

// wantMark fails unless d has a mark since at; zero stands for none.
func (r repo) wantMark(d digest.Digest, at time.Time) {
	r.t.Helper()
	if got := r.contents()[d].Marked; !got.Equal(at) {
		r.t.Fatalf("%s is marked since %v, want %v", d, got, at)
	}
}

func (r repo) wantContent(d digest.Digest, want bool) {
	r.t.Helper()
	if _, got := r.contents()[d]; got != want {
		r.t.Fatalf("%s is there: %v, want %v", d, got, want)
	}
}

func contentsOfAll(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	m := image(t, "m", x)
	r.push(m, "v1")
	all := r.contents()
	if len(all) != 2 || all[x].Size != 1 || all[m.Digest].Size != m.Size || !all[x].Marked.IsZero() {
		t.Fatalf("contents are %v", all)
	}
}

func firstMarkStays(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	r.mark(x, markedAt)
	r.mark(x, markedAt.Add(time.Hour))
	r.wantMark(x, markedAt)
	r.update(func(e *storage.Edit) { e.Unmark(x); e.Mark(x, markedAt.Add(time.Hour)) })
	r.wantMark(x, markedAt.Add(time.Hour))
}

func markOfNothing(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	r.pushBlob("x")
	y := digest.FromString("y")
	r.mark(y, markedAt)
	r.wantContent(y, false)
	r.pushBlob("y")
	r.wantMark(y, time.Time{})
}

func peekLeavesMarks(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	r.mark(x, markedAt)
	b := must(collectable(t, r).Peek(t.Context(), x))(t)
	if err := b.Close(); err != nil || b.Size != 1 {
		t.Fatalf("peeked at %d bytes, %v", b.Size, err)
	}
	r.wantMark(x, markedAt)
	_, err := collectable(t, r).Peek(t.Context(), digest.FromString("y"))
	wantCode(t, err, oci.BlobUnknown)
}

// collect drops and deletes d if it's been marked since by.
func (r repo) collect(d digest.Digest, by time.Time) {
	r.t.Helper()
	r.update(func(e *storage.Edit) { e.DeleteMarked(d, by) })
	r.update(func(e *storage.Edit) { e.DropMarkedBlob(d, by) })
}

func youngMarkKeeps(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	x := r.pushBlob("x")
	r.push(m)
	r.mark(x, markedAt)
	r.mark(m.Digest, markedAt)
	r.collect(x, markedAt.Add(-time.Second))
	r.collect(m.Digest, markedAt.Add(-time.Second))
	r.wantMark(x, markedAt)
	r.wantMark(m.Digest, markedAt)
	r.wantManifest(m.Digest, m.Digest.String())
}

func noMarkKeeps(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	x := r.pushBlob("x")
	r.push(m)
	r.collect(x, markedAt)
	r.collect(m.Digest, markedAt)
	r.collect(digest.FromString("y"), markedAt)
	r.wantBlob(x, "x")
	r.wantManifest(m.Digest, m.Digest.String())
}

func oldMarkDrops(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x, y := r.pushBlob("x"), r.pushBlob("y")
	r.mark(x, markedAt)
	r.update(func(e *storage.Edit) { e.DropMarkedBlob(x, markedAt) })
	r.wantNoBlob(x)
	r.wantBlob(y, "y")
}

func oldMarkDeletes(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m)
	r.mark(m.Digest, markedAt)
	r.update(func(e *storage.Edit) { e.DeleteMarked(m.Digest, markedAt) })
	r.wantNoManifest(m.Digest.String())
}

func bothGo(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m, n := image(t, "m"), image(t, "n")
	r.push(m)
	r.push(n)
	r.mark(m.Digest, markedAt)
	r.update(func(e *storage.Edit) {
		e.DeleteMarked(m.Digest, markedAt)
		e.DropMarkedBlob(m.Digest, markedAt)
	})
	r.wantNoManifest(m.Digest.String())
	r.wantContent(m.Digest, false)
	r.wantContent(n.Digest, true)
}

func comesAgainUnmarked(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	r.mark(x, markedAt)
	r.collect(x, markedAt)
	r.wantNoBlob(x)
	r.pushBlob("x")
	r.wantMark(x, time.Time{})
}

// relying are the ways in which somebody is told that x, or m which needs it, is there.
func relying() map[string]func(r repo, s storage.Store, x digest.Digest, m oci.Manifest) {
	return map[string]func(repo, storage.Store, digest.Digest, oci.Manifest){
		"StatBlob": func(r repo, _ storage.Store, x digest.Digest, m oci.Manifest) {
			for _, d := range []digest.Digest{x, m.Digest} {
				must(r.StatBlob(r.t.Context(), d))(r.t)
			}
		},
		"OpenBlob": func(r repo, _ storage.Store, x digest.Digest, m oci.Manifest) {
			for _, d := range []digest.Digest{x, m.Digest} {
				if err := must(r.OpenBlob(r.t.Context(), d))(r.t).Close(); err != nil {
					r.t.Fatal(err)
				}
			}
		},
		"Commit": func(r repo, _ storage.Store, _ digest.Digest, m oci.Manifest) {
			r.pushBlob("x")
			r.pushBlob(string(m.Raw))
		},
		"MountBlob": func(r repo, s storage.Store, x digest.Digest, m oci.Manifest) {
			for _, d := range []digest.Digest{x, m.Digest} {
				must(repository(r.t, s, "b").MountBlob(r.t.Context(), d, r.Name()))(r.t)
			}
		},
		"an Update that puts and requires it": func(r repo, _ storage.Store, x digest.Digest, m oci.Manifest) {
			r.update(func(e *storage.Edit) { e.Put(m); e.Require(x) })
		},
		"an Update that tags it, and StatBlob": func(r repo, _ storage.Store, x digest.Digest, m oci.Manifest) {
			r.update(func(e *storage.Edit) { e.Tag(tagList(r.t, "v1")[0], m.Digest) })
			must(r.StatBlob(r.t.Context(), x))(r.t)
		},
		"Resolve by digest, and Require": func(r repo, _ storage.Store, x digest.Digest, m oci.Manifest) {
			r.wantManifest(m.Digest, m.Digest.String())
			r.update(func(e *storage.Edit) { e.Require(x) })
		},
	}
}

func markTakenOff(t testing.TB, s storage.Store, rely func(repo, storage.Store, digest.Digest, oci.Manifest)) {
	t.Helper()
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	m := image(t, "m", x)
	r.push(m)
	r.mark(x, markedAt)
	r.mark(m.Digest, markedAt)
	rely(r, s, x, m)
	r.collect(x, markedAt.Add(time.Hour))
	r.collect(m.Digest, markedAt.Add(time.Hour))
	r.wantMark(x, time.Time{})
	r.wantMark(m.Digest, time.Time{})
	r.wantContent(x, true)
	r.wantManifest(m.Digest, m.Digest.String())
}

// wantNames fails unless the repositories are these, in this order.
func wantNames(t testing.TB, s storage.Store, want ...string) {
	t.Helper()
	var got []string
	for n, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatalf("repositories: %v", err)
		}
		got = append(got, n.String())
	}
	wantSlice(t, "repositories", got, want)
}

func (r repo) retire(want bool) {
	r.t.Helper()
	if got := must(collectable(r.t, r).Retire(r.t.Context()))(r.t); got != want {
		r.t.Fatalf("retired: %v, want %v", got, want)
	}
}

func retireKeeps(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	x := r.pushBlob("x")
	r.retire(false)
	r.wantBlob(x, "x")
	m := image(t, "m")
	r.push(m, "v1")
	r.update(func(e *storage.Edit) { e.DropBlob(x) })
	r.retire(false)
	r.wantManifest(m.Digest, "v1")
}

// emptied pushes to a repository and removes all of it.
func emptied(t testing.TB, s storage.Store) repo {
	t.Helper()
	r, m := repository(t, s, "a"), image(t, "m")
	x := r.pushBlob("x")
	r.push(m, "v1")
	r.update(func(e *storage.Edit) { e.Delete(m.Digest) })
	r.update(func(e *storage.Edit) { e.DropBlob(m.Digest); e.DropBlob(x) })
	return r
}

func retireGoes(t testing.TB, s storage.Store) {
	r := emptied(t, s)
	repository(t, s, "a/b").pushBlob("y")
	r.retire(true)
	_, err := r.Index(t.Context())
	wantCode(t, err, oci.NameUnknown)
	wantNames(t, s, "a/b")
	repository(t, s, "never").retire(true)
}

func retireAndAgain(t testing.TB, s storage.Store) {
	r := emptied(t, s)
	for range 2 {
		r.retire(true)
		m := image(t, "m", r.pushBlob("x"))
		r.push(m, "v2")
		r.wantManifest(m.Digest, "v2")
		r.wantTags("v2")
		wantNames(t, s, "a")
		r.update(func(e *storage.Edit) { e.Delete(m.Digest) })
		r.update(func(e *storage.Edit) { e.DropBlob(m.Digest); e.DropBlob(digest.FromString("x")) })
	}
}
