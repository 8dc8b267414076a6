package routed_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/storage/routed"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// able is a store that knows some things, and has garbage.
type able struct {
	storage.Store

	space   storage.Space
	uploads int
	garbage []string
}

func (a able) Space(context.Context) (storage.Space, error) { return a.space, nil }
func (a able) OpenUploads(context.Context) (int, error)     { return a.uploads, nil }

func (a able) Sweep(context.Context, storage.SweepOptions) iter.Seq2[storage.Swept, error] {
	return func(yield func(storage.Swept, error) bool) {
		for _, g := range a.garbage {
			if !yield(storage.Swept{Name: g}, nil) {
				return
			}
		}
	}
}

// unable is a store that's nothing but one.
type unable struct{ storage.Store }

// ability is what s is able to do beside being a store.
func ability[T any](t *testing.T, s storage.Store) T {
	t.Helper()
	able, ok := storage.As[T](s)
	if !ok {
		t.Fatalf("a %T is no %T", s, able)
	}
	return able
}

// Notes of background work are where they survive, and one work is done at a time.
func TestMaintain(t *testing.T) {
	t.Parallel()
	if _, ok := storage.As[storage.Maintainable](routed.New(memory.New())); ok {
		t.Error("a store in memory remembers")
	}
	storagetest.Maintain(t, func(t *testing.T) (storage.Store, func() storage.Store) {
		dir := t.TempDir()
		again := func() storage.Store { return routed.New(memory.New(), part(t, onDisk(t, dir), "disk")) }
		return again(), again
	})
}

// A registry's own state is where all is that's under no path, if that can keep it.
func TestKeep(t *testing.T) {
	t.Parallel()
	rest, disk := memory.New(), onDisk(t, t.TempDir())
	for name, c := range map[string]struct {
		all  storage.Store
		kept storage.Keeper
	}{
		"rest": {routed.New(rest, part(t, disk, "disk")), rest},
		"part": {routed.New(unable{memory.New()}, part(t, disk, "disk")), ability[storage.Keeper](t, disk)},
	} {
		version, err := ability[storage.Keeper](t, c.all).SaveState(t.Context(), name, []byte("x"), "")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, is, err := c.kept.LoadState(t.Context(), name); err != nil || string(got) != "x" || is != version {
			t.Errorf("%s: %q of version %q, %v", name, got, is, err)
		}
	}
	if _, ok := storage.As[storage.Keeper](routed.New(unable{memory.New()})); ok {
		t.Error("a store keeps what none of its parts can")
	}
}

// What the parts are able to do the whole is.
func TestAbilities(t *testing.T) {
	t.Parallel()
	s := routed.New(
		able{memory.New(), storage.Space{Free: 7, Used: 1}, 2, []string{"a", "b"}},
		part(t, unable{memory.New()}, "unable"),
		part(t, able{memory.New(), storage.Space{Free: 5, Used: 3}, 4, []string{"c"}}, "able"),
	)
	if space, err := ability[storage.Measurer](t, s).Space(t.Context()); err != nil || space != (storage.Space{Free: 5, Used: 3}) {
		t.Errorf("the space is %+v, %v", space, err)
	}
	if n, err := ability[storage.UploadCounter](t, s).OpenUploads(t.Context()); err != nil || n != 6 {
		t.Errorf("%d uploads are open, %v", n, err)
	}
	for stop, want := range map[int][]string{0: {"a", "b", "c"}, 2: {"a", "b"}} {
		var swept []string
		for g, err := range ability[storage.Sweeper](t, s).Sweep(t.Context(), storage.SweepOptions{Dry: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if swept = append(swept, g.Name); len(swept) == stop {
				break
			}
		}
		if !slices.Equal(swept, want) {
			t.Errorf("swept is %q, want %q", swept, want)
		}
	}
}

// broken is a store with a repository whose names can't be read.
type broken struct {
	storage.Store

	name     oci.Name
	restored *[]oci.Name
}

func (b broken) Broken(context.Context) ([]storage.Breakage, error) {
	return []storage.Breakage{{Name: b.name}}, nil
}

func (b broken) Restore(_ context.Context, name oci.Name) error {
	*b.restored = append(*b.restored, name)
	return nil
}

// What is broken is restored where it is; what isn't shown isn't broken.
func TestRestore(t *testing.T) {
	t.Parallel()
	var rest, team []oci.Name
	s := ability[storage.Restorer](t, routed.New(
		broken{memory.New(), name(t, "team/hidden"), &rest},
		part(t, broken{memory.New(), name(t, "team/app"), &team}, "team"),
		part(t, unable{memory.New()}, "unable"),
	))
	all, err := s.Broken(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != name(t, "team/app") {
		t.Errorf("broken are %v, %v", all, err)
	}
	for _, n := range []string{"team/app", "a"} {
		if err := s.Restore(t.Context(), name(t, n)); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(team, []oci.Name{name(t, "team/app")}) || !slices.Equal(rest, []oci.Name{name(t, "a")}) {
		t.Errorf("restored are %v and %v", team, rest)
	}
	if err := s.Restore(t.Context(), name(t, "unable/a")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("one that can't be: %v", err)
	}
}

// What no part knows isn't nought.
func TestNoAbilities(t *testing.T) {
	t.Parallel()
	s := routed.New(unable{memory.New()}, part(t, unable{memory.New()}, "a"))
	if _, err := ability[storage.Measurer](t, s).Space(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Space: %v", err)
	}
	if _, err := ability[storage.UploadCounter](t, s).OpenUploads(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("OpenUploads: %v", err)
	}
	for g, err := range ability[storage.Sweeper](t, s).Sweep(t.Context(), storage.SweepOptions{}) {
		t.Errorf("swept %v, %v", g, err)
	}
}

// What a repository is able to do is found behind the routing.
func TestAbilitiesOfRepositories(t *testing.T) {
	t.Parallel()
	s := routed.New(memory.New(), part(t, onDisk(t, t.TempDir()), "disk"))
	t.Cleanup(func() { _ = s.Close() })
	r := s.Repository(name(t, "disk/a"))
	if _, ok := storage.As[storage.PullRecorder](r); !ok {
		t.Error("it doesn't record pulls")
	}
	if _, ok := storage.As[storage.Collectable](r); !ok {
		t.Error("it isn't collectable")
	}
	if _, ok := storage.As[storage.Collectable](s.Repository(name(t, "a"))); ok {
		t.Error("one in memory is collectable")
	}
}
