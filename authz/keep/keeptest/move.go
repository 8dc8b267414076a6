package keeptest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Move checks that keep.Move moves between two kinds of Store, there and back, however
// often it's cut short, and brings nothing back that was removed. open returns two empty
// ones each time it's called.
func Move(t *testing.T, open func(t *testing.T) (one, other keep.Store)) {
	t.Helper()
	for name, turn := range map[string]bool{"there": false, "back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := open(t)
			if turn {
				from, to = to, from
			}
			all := map[string]string{"token/keys": "k", "a/b": "", "a/b/c": "x\ny"}
			for key, value := range all {
				save(t, from, key, value)
			}
			moveInPieces(t, from, to)
			if got := content(t, to); !maps.Equal(got, all) {
				t.Fatalf("moved are %q, want %q", got, all)
			}
			if got := content(t, from); len(got) > 0 {
				t.Fatalf("moved and still there are %q", got)
			}
			check(t, to, from, nil)
			check(t, from, to, keep.ErrMoving)
			moveInPieces(t, to, from)
			if got := content(t, from); !maps.Equal(got, all) {
				t.Fatalf("moved back are %q, want %q", got, all)
			}
			check(t, from, to, nil)
			check(t, to, from, keep.ErrMoving)
		})
		t.Run(name+", with leftovers", func(t *testing.T) {
			t.Parallel()
			from, to := open(t)
			if turn {
				from, to = to, from
			}
			leftovers(t, from, to)
		})
	}
}

// leftovers checks that what a Move has left behind that was cut short while it removed
// isn't good again after one back.
func leftovers(t *testing.T, from, to keep.Store) {
	t.Helper()
	for _, key := range []string{"kept", "changed", "removed"} {
		save(t, from, key, "old")
	}
	if err := keep.Move(t.Context(), undeletable{from}, to, func(string) {}); !errors.Is(err, errCutShort) {
		t.Fatalf("moved, and nothing was removed: %v", err)
	}
	check(t, to, from, nil)
	_, version, err := to.Load(t.Context(), "changed")
	if err == nil {
		_, err = to.Save(t.Context(), "changed", []byte("new"), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, version, err = to.Load(t.Context(), "removed"); err == nil {
		err = to.Delete(t.Context(), "removed", version)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := content(t, to)
	moveInPieces(t, to, from)
	if got := content(t, from); !maps.Equal(got, want) {
		t.Fatalf("moved back are %q, want %q", got, want)
	}
	check(t, from, to, nil)
	check(t, to, from, keep.ErrMoving)
}

// moveInPieces moves, and lets one more change happen each time until all has.
func moveInPieces(t *testing.T, from, to keep.Store) {
	t.Helper()
	all := len(content(t, from))
	for changes := range 100 {
		left := changes
		err := keep.Move(t.Context(), &cutShort{from, &left}, &cutShort{to, &left}, func(string) {})
		if err == nil {
			if changes < 3 {
				t.Fatalf("moved with %d changes", changes)
			}
			return
		}
		if !errors.Is(err, errCutShort) {
			t.Fatalf("after %d changes: %v", changes, err)
		}
		hereOrRefused(t, all, from, to)
	}
	t.Fatal("it doesn't end")
}

// hereOrRefused fails the test if a registry that has one of both would miss one of all values.
func hereOrRefused(t *testing.T, all int, one, other keep.Store) {
	t.Helper()
	for _, s := range [][2]keep.Store{{one, other}, {other, one}} {
		err := keep.Settle(s[0], s[1], "").Check(t.Context())
		if err == nil && len(content(t, s[0])) != all {
			t.Fatalf("used with %q only", content(t, s[0]))
		}
		if err != nil && !errors.Is(err, keep.ErrElsewhere) && !errors.Is(err, keep.ErrMoving) {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, own, other keep.Store, want error) {
	t.Helper()
	if err := keep.Settle(own, other, "").Check(t.Context()); !errors.Is(err, want) {
		t.Fatalf("Check: %v, want %v", err, want)
	}
}

func save(t *testing.T, s keep.Store, key, value string) {
	t.Helper()
	if _, err := s.Save(t.Context(), key, []byte(value), ""); err != nil {
		t.Fatal(err)
	}
}

// content is what a Store has, but for the mark of a Move.
func content(t *testing.T, s keep.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for key, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		value, _, err := s.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		all[key] = string(value)
	}
	delete(all, "moving")
	return all
}

var errCutShort = errors.New("cut short")

// cutShort is a Store that makes some more changes, and then none.
type cutShort struct {
	in   keep.Store
	left *int
}

func (c *cutShort) use() error {
	if *c.left == 0 {
		return errCutShort
	}
	*c.left--
	return nil
}

func (c *cutShort) Load(ctx context.Context, key string) ([]byte, string, error) {
	return c.in.Load(ctx, key)
}

func (c *cutShort) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if err := c.use(); err != nil {
		return "", err
	}
	return c.in.Save(ctx, key, value, version)
}

func (c *cutShort) Delete(ctx context.Context, key, version string) error {
	if err := c.use(); err != nil {
		return err
	}
	return c.in.Delete(ctx, key, version)
}

func (c *cutShort) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return c.in.List(ctx, prefix)
}

// undeletable is a Store that removes nothing.
type undeletable struct{ keep.Store }

func (undeletable) Delete(context.Context, string, string) error { return errCutShort }
