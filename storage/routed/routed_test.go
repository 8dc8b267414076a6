package routed_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/storage/routed"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

func name(t testing.TB, s string) oci.Name {
	t.Helper()
	n, err := oci.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func part(t testing.TB, s storage.Store, prefixes ...string) routed.Part {
	t.Helper()
	p := routed.Part{Store: s}
	for _, prefix := range prefixes {
		p.Prefixes = append(p.Prefixes, name(t, prefix))
	}
	return p
}

// It is a store like any other, even if all that's used of it is one part.
func TestOnePart(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return routed.New(unused{memory.New(), t}, part(t, memory.New(), used()...))
	})
}

// used are prefixes of all the names that the checks of a store use.
func used() []string {
	all := []string{"0", "a", "a-b", "a.b", "a0", "a_b", "a__b", "ab", "b", "blobs", "c", "d", "e", "index.json", "never", "no", "oci-layout"}
	for i := range 40 {
		all = append(all, fmt.Sprint("r", i))
	}
	return all
}

// unused is a store in which nobody looks for a repository.
type unused struct {
	storage.Store

	t *testing.T
}

func (u unused) Repository(name oci.Name) storage.Repository {
	u.t.Errorf("%s is sent elsewhere", name)
	return u.Store.Repository(name)
}

// And so it is if its parts lie in each other.
func TestParts(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return routed.New(memory.New(), part(t, memory.New(), "a/b", "ab"), part(t, memory.New(), "a/b/c", "index.json"))
	})
}

// Garbage is collected in the parts.
func TestCollect(t *testing.T) {
	t.Parallel()
	storagetest.Collect(t, func(t *testing.T) storage.Store {
		return routed.New(memory.New(), part(t, onDisk(t, t.TempDir()), used()...))
	})
}

func onDisk(t testing.TB, dir string) storage.Store {
	t.Helper()
	s, err := filesystem.Open(dir, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil { // also of one that has been closed
			t.Error(err)
		}
	})
	return s
}

func put(t testing.TB, s storage.Store, repository, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	if _, err := storage.PutBlob(t.Context(), s.Repository(name(t, repository)), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	return d
}

func list(t testing.TB, s storage.Store, after oci.Name) []string {
	t.Helper()
	var names []string
	for n, err := range s.Repositories(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, n.String())
	}
	return names
}

func TestWhichPart(t *testing.T) {
	t.Parallel()
	rest, team, hot := memory.New(), memory.New(), memory.New()
	s := routed.New(rest, part(t, team, "team", "group"), part(t, hot, "team/hot"))
	for repository, want := range map[string]storage.Store{
		"team":       team,
		"team/app":   team,
		"team/hotel": team,
		"group/a/b":  team,
		"team/hot":   hot,
		"team/hot/a": hot,
		"teams":      rest,
		"team-a":     rest,
		"a/team":     rest,
		"tea":        rest,
		"groups/a":   rest,
	} {
		put(t, s, repository, "x")
		for _, store := range []storage.Store{rest, team, hot} {
			if got := slices.Contains(list(t, store, oci.Name{}), repository); got != (store == want) {
				t.Errorf("%s is in the wrong store", repository)
			}
		}
	}
}

// A store that had other repositories before shows only those under its prefixes,
// and no repository is there twice.
func TestWhatLiesOutsideIsNotShown(t *testing.T) {
	t.Parallel()
	rest, team, hot := memory.New(), memory.New(), memory.New()
	for _, n := range []string{"a", "team", "team-a", "team/app", "team/hot/x", "team/zoo", "team0", "z"} {
		for _, s := range []storage.Store{rest, team, hot} {
			put(t, s, n, "x")
		}
	}
	put(t, hot, "team/hot/only", "x")
	s := routed.New(rest, part(t, team, "team"), part(t, hot, "team/hot"))
	want := []string{"a", "team", "team-a", "team/app", "team/hot/only", "team/hot/x", "team/zoo", "team0", "z"}
	if got := list(t, s, oci.Name{}); !slices.Equal(got, want) {
		t.Errorf("the catalog is %q, want %q", got, want)
	}
	for i, n := range want {
		if got := list(t, s, name(t, n)); !slices.Equal(got, want[i+1:]) {
			t.Errorf("after %s comes %q, want %q", n, got, want[i+1:])
		}
	}
}

// counted counts the names that are read of a store.
type counted struct {
	storage.Store

	read int
}

func (c *counted) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		for n, err := range c.Store.Repositories(ctx, after) {
			c.read++
			if !yield(n, err) {
				return
			}
		}
	}
}

// A large store with a small part of a registry in it isn't read from end to end.
func TestListReadsWhatItShows(t *testing.T) {
	t.Parallel()
	big := &counted{Store: memory.New()}
	for _, n := range []string{"a", "b", "c", "d", "m/n", "x", "y", "z"} {
		put(t, big, n, "x")
	}
	if got := list(t, routed.New(memory.New(), part(t, big, "m/n")), oci.Name{}); !slices.Equal(got, []string{"m/n"}) {
		t.Fatalf("the catalog is %q", got)
	}
	if big.read != 2 {
		t.Errorf("%d names were read, want m/n and the one behind it", big.read)
	}
}

func TestMount(t *testing.T) {
	t.Parallel()
	rest := memory.New()
	put(t, rest, "team/app", "x") // which nobody sees
	s := routed.New(rest, part(t, memory.New(), "team", "group"))
	d := put(t, s, "team/app", "x")
	put(t, s, "other", "y")
	if _, err := s.Repository(name(t, "group/app")).MountBlob(t.Context(), d, name(t, "team/app")); err != nil {
		t.Errorf("in one store: %v", err)
	}
	if _, err := s.Repository(name(t, "other")).MountBlob(t.Context(), d, name(t, "team/app")); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("across stores: %v, want BLOB_UNKNOWN", err)
	}
}

// failing is a store that's full, and doesn't list, close or tell anything.
type failing struct{ storage.Store }

func (failing) Ready(context.Context) error { return storage.ErrFull }
func (failing) Close() error                { return storage.ErrBroken }
func (failing) OpenUploads(context.Context) (int, error) {
	return 0, storage.ErrBroken
}

func (failing) Space(context.Context) (storage.Space, error) {
	return storage.Space{}, storage.ErrBroken
}

func (failing) Repositories(context.Context, oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) { yield(oci.Name{}, storage.ErrBroken) }
}

func TestFailuresNameThePath(t *testing.T) {
	t.Parallel()
	rest := memory.New()
	s := routed.New(rest, part(t, failing{memory.New()}, "team", "group"))
	put(t, s, "a", "x")
	wants := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "path team, group: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	wants("Ready", s.Ready(t.Context()), storage.ErrFull)
	_, err := ability[storage.UploadCounter](t, s).OpenUploads(t.Context())
	wants("OpenUploads", err, storage.ErrBroken)
	_, err = ability[storage.Measurer](t, s).Space(t.Context())
	wants("Space", err, storage.ErrBroken)
	for _, err := range s.Repositories(t.Context(), oci.Name{}) {
		wants("Repositories", err, storage.ErrBroken)
	}
	wants("Close", s.Close(), storage.ErrBroken)
	if err := rest.Ready(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("the other part isn't closed: %v", err)
	}
}
