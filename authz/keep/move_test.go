package keep_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
)

func TestMove(t *testing.T) {
	t.Parallel()
	keeptest.Move(t, func(*testing.T) (one, other keep.Store) { return new(keep.Memory), new(keep.Memory) })
}

func mustSave(t *testing.T, s keep.Store, key, value string) {
	t.Helper()
	if _, err := s.Save(t.Context(), key, []byte(value), ""); err != nil {
		t.Fatal(err)
	}
}

// Where the stores contradict each other nothing is moved, and the error says which keys.
func TestMoveRefusesWhatDiffers(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	mustSave(t, from, "a", "1")
	mustSave(t, from, "b", "1")
	mustSave(t, from, "c", "1")
	mustSave(t, to, "b", "1")
	mustSave(t, to, "c", "2")
	err := keep.Move(t.Context(), from, to, func(key string) { t.Errorf("moved %s", key) })
	if !errors.Is(err, keep.ErrDiffers) || !strings.HasSuffix(err.Error(), ": c") {
		t.Fatalf("error %v", err)
	}
	if _, _, err := to.Load(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a was copied: %v", err)
	}
	if err := keep.Settle(from, to, "").Check(t.Context()); err != nil {
		t.Errorf("it can't go on as it was: %v", err)
	}
}

// written is a Store that somebody writes to once it has been copied: it's looked at, read
// and read again.
type written struct {
	keep.Store
	lists int
}

func (w *written) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if w.lists++; w.lists == 3 {
		if _, err := w.Save(ctx, "late", []byte("1"), ""); err != nil {
			panic(err)
		}
	}
	return w.Store.List(ctx, prefix)
}

// What comes while it's moved isn't lost.
func TestMoveNoticesWriters(t *testing.T) {
	t.Parallel()
	from, to := &written{Store: new(keep.Memory)}, new(keep.Memory)
	mustSave(t, from, "a", "1")
	err := keep.Move(t.Context(), from, to, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "late isn't what was copied: somebody writes to it") {
		t.Fatalf("error %v", err)
	}
	if err := keep.Move(t.Context(), from, to, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if value, _, err := to.Load(t.Context(), "late"); err != nil || string(value) != "1" {
		t.Errorf("late is %q, %v", value, err)
	}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	own, other := new(keep.Memory), new(keep.Memory)
	mustSave(t, other, "token/keys", "k")
	s := keep.Settle(own, other, "do this")
	all := map[string]error{"Check": s.Check(t.Context())}
	_, _, all["Load"] = s.Load(t.Context(), "token/keys")
	_, all["Save"] = s.Save(t.Context(), "token/keys", nil, "")
	all["Delete"] = s.Delete(t.Context(), "token/keys", "v")
	for _, err := range s.List(t.Context(), "") {
		all["List"] = err
	}
	for what, err := range all {
		if !errors.Is(err, keep.ErrElsewhere) || !strings.HasSuffix(err.Error(), ": do this") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(all) != 5 {
		t.Errorf("List yields no error")
	}
	if err := keep.Move(t.Context(), other, own, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if value, _, err := s.Load(t.Context(), "token/keys"); err != nil || string(value) != "k" {
		t.Errorf("once it's moved: %q, %v", value, err)
	}
	mustSave(t, s, "b", "1")
	var keys []string
	for key, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if !slices.Equal(keys, []string{"b", "token/keys"}) {
		t.Errorf("keys %q", keys)
	}
}

func mustMove(t *testing.T, from, to keep.Store) {
	t.Helper()
	if err := keep.Move(t.Context(), from, to, func(string) {}); err != nil {
		t.Fatal(err)
	}
}

// What was moved to a third place isn't made anew, and can't be moved but back from there.
func TestMoveToAThirdPlace(t *testing.T) {
	t.Parallel()
	store, service, root := new(keep.Memory), new(keep.Memory), new(keep.Memory)
	mustSave(t, store, "a", "1")
	away := func(what string) {
		t.Helper()
		if err := keep.Settle(service, store, "").Check(t.Context()); !errors.Is(err, keep.ErrAway) {
			t.Errorf("%s: Check: %v", what, err)
		}
		for i, pair := range [][2]keep.Store{{service, store}, {store, service}} {
			if err := keep.Move(t.Context(), pair[0], pair[1], func(string) {}); !errors.Is(err, keep.ErrAway) {
				t.Errorf("%s: Move %d: %v", what, i, err)
			}
		}
	}
	mustMove(t, store, root)
	away("it's there")
	if err := keep.Move(t.Context(), root, stuck{store, "a"}, func(string) {}); err == nil {
		t.Fatal("it was moved")
	}
	away("it's on its way back")
	mustMove(t, root, store)
	mustMove(t, store, service)
	if err := keep.Settle(service, store, "").Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustMove(t, service, store)
	mustMove(t, store, root) // now the service's has a mark, too
	if err := keep.Move(t.Context(), store, service, func(string) {}); !errors.Is(err, keep.ErrAway) {
		t.Errorf("Move: %v", err)
	}
}

// Where there's nothing to move nothing is said to have been.
func TestMoveNothing(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	mustMove(t, from, to)
	for _, s := range []keep.Store{from, to} {
		for key, err := range s.List(t.Context(), "") {
			t.Errorf("there's %s, %v", key, err)
		}
	}
}

// A registry whose last value was removed after a Move isn't one whose values are missing.
func TestSettledWithoutValues(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	mustSave(t, from, "a", "1")
	mustMove(t, from, to)
	_, version, err := to.Load(t.Context(), "a")
	if err == nil {
		err = to.Delete(t.Context(), "a", version)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := keep.Settle(to, from, "").Check(t.Context()); err != nil {
		t.Error(err)
	}
	mustMove(t, to, from)
	if err := keep.Settle(from, to, "").Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A replica that was forgotten makes no new keys in the old place.
func TestSettledWhileItsMoved(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	s := keep.Settle(from, to, "")
	mustSave(t, s, "a", "1")
	if err := keep.Move(t.Context(), from, to, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), "a", []byte("2"), ""); !errors.Is(err, keep.ErrMoving) {
		t.Fatalf("saved what was moved: %v", err)
	}
}

// unreachable is a Store that can't be asked.
type unreachable struct{ keep.Store }

func (unreachable) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", errors.New("no route")) }
}

// What has keys of its own asks nobody else; what has none has to.
func TestSettledAsksTheOther(t *testing.T) {
	t.Parallel()
	own := new(keep.Memory)
	s := keep.Settle(own, unreachable{}, "")
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "are elsewhere: no route") {
		t.Fatalf("Check: %v", err)
	}
	mustSave(t, own, "a", "1")
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stuck is a Store that fails when a key is saved or deleted.
type stuck struct {
	keep.Store
	key string
}

func (s stuck) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if key == s.key {
		return "", errors.New("stuck")
	}
	return s.Store.Save(ctx, key, value, version)
}

func (s stuck) Delete(ctx context.Context, key, version string) error {
	if key == s.key {
		return errors.New("stuck")
	}
	return s.Store.Delete(ctx, key, version)
}

// From when the copying begins nobody makes anything new where it's from.
func TestSettledWhileItsCopied(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	s := keep.Settle(from, to, "")
	mustSave(t, s, "a", "1")
	if err := keep.Move(t.Context(), from, stuck{to, "a"}, func(string) {}); err == nil {
		t.Fatal("it was moved")
	}
	if _, err := s.Save(t.Context(), "b", []byte("2"), ""); !errors.Is(err, keep.ErrMoving) {
		t.Fatalf("saved while it's moved: %v", err)
	}
}

// What has got there may change before the rest of the old place is removed.
func TestMoveToWhatIsUsed(t *testing.T) {
	t.Parallel()
	from, to := new(keep.Memory), new(keep.Memory)
	mustSave(t, from, "a", "1")
	if err := keep.Move(t.Context(), stuck{from, "a"}, to, func(string) {}); err == nil {
		t.Fatal("it was moved")
	}
	s := keep.Settle(to, from, "")
	_, version, err := s.Load(t.Context(), "a")
	if err == nil {
		_, err = s.Save(t.Context(), "a", []byte("2"), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := keep.Move(t.Context(), from, to, func(string) {}); err != nil {
		t.Fatal(err)
	}
	value, _, err := to.Load(t.Context(), "a")
	if _, _, gone := from.Load(t.Context(), "a"); err != nil || string(value) != "2" || !errors.Is(gone, fs.ErrNotExist) {
		t.Errorf("a is %q, %v; and where it was, %v", value, err, gone)
	}
}
