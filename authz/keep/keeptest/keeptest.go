// Package keeptest checks that a keep.Store keeps its contract, one check a sentence.
package keeptest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Open returns two openers of one new, empty place. What they return is used at the
// same time, as by two replicas; where only one process can write, as by two parts of
// one. again is what a process finds that starts after those have stopped, which it
// makes them do if they can; nil if nothing outlives them.
type Open func(t *testing.T) (one, other keep.Store, again func() keep.Store)

// Run holds a kind of Store to the contract, one subtest a sentence.
func Run(t *testing.T, open Open) {
	t.Helper()
	for sentence, check := range map[string]func(c kept){
		"what was never saved isn't there":                  nothingThere,
		"what is saved is loaded":                           loaded,
		"every replica's next load sees what was saved":     seenByAll,
		"a key may begin with another one":                  nested,
		"a key may be called as anything of ours":           oddKeys,
		"what is no key is refused":                         noKeys,
		"a value is up to 64 KiB":                           sizes,
		"a value is what it was, byte for byte":             bytesKept,
		"an empty version saves only where there's nothing": createdOnce,
		"a version saves only once":                         savedOnce,
		"a version is never used again":                     newVersions,
		"a failed save changes nothing":                     unchanged,
		"delete removes a value of that version":            deleted,
		"delete leaves a value of another version":          notDeleted,
		"what is gone already is fs.ErrNotExist":            goneAlready,
		"what is gone can't be replaced":                    goneNotReplaced,
		"what is gone may come again":                       comesAgain,
		"list yields all keys, sorted":                      listed,
		"list takes words of a prefix":                      listedUnder,
		"list ends with the loop":                           listEnds,
		"what was saved survives":                           survives,
		"of several that create a key one wins":             raceToCreate,
		"of several that change a value each counts once":   raceToChange,
		"of several that delete a value one wins":           raceToDelete,
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			one, other, again := open(t)
			check(kept{t, one, other, again})
		})
	}
}

// kept is a store under test.
type kept struct {
	*testing.T

	one, other keep.Store
	again      func() keep.Store
}

func (c kept) save(key, value, version string) (now string) {
	c.Helper()
	now, err := c.one.Save(c.Context(), key, []byte(value), version)
	if err != nil || now == "" || now == version {
		c.Fatalf("save %s of version %q: version %q, %v", key, version, now, err)
	}
	return now
}

func (c kept) want(s keep.Store, key, value, version string) {
	c.Helper()
	got, is, err := s.Load(c.Context(), key)
	if err != nil || string(got) != value || is != version {
		c.Fatalf("%s is %q of version %q, %v; want %q of %q", key, got, is, err, value, version)
	}
}

func (c kept) wantNone(s keep.Store, key string) {
	c.Helper()
	if got, version, err := s.Load(c.Context(), key); !errors.Is(err, fs.ErrNotExist) || version != "" {
		c.Fatalf("%s is %q of version %q, %v; want fs.ErrNotExist", key, got, version, err)
	}
}

// wantErr wants one of the two errors that a caller tells apart, and not the other.
func (c kept) wantErr(what string, err, want error) {
	c.Helper()
	for _, e := range []error{keep.ErrChanged, fs.ErrNotExist} {
		if errors.Is(err, e) != (e == want) { //nolint:errorlint // which of the two it is
			c.Fatalf("%s: %v; want %v", what, err, want)
		}
	}
}

func (c kept) wantKeys(s keep.Store, prefix string, want ...string) {
	c.Helper()
	var got []string
	for key, err := range s.List(c.Context(), prefix) {
		if err != nil {
			c.Fatalf("list %q: %v", prefix, err)
		}
		got = append(got, key)
	}
	if !slices.Equal(got, want) {
		c.Fatalf("under %q are %v, want %v", prefix, got, want)
	}
}

func nothingThere(c kept) {
	c.wantNone(c.one, "a")
	c.wantKeys(c.one, "")
	c.wantKeys(c.one, "a")
}

func loaded(c kept) {
	c.want(c.one, "a", "x", c.save("a", "x", ""))
}

func seenByAll(c kept) {
	c.wantNone(c.other, "a")
	first := c.save("a", "x", "")
	c.want(c.other, "a", "x", first)
	c.want(c.other, "a", "y", c.save("a", "y", first))
	c.wantKeys(c.other, "", "a")
}

func nested(c kept) {
	outer := c.save("a", "outer", "")
	inner := c.save("a/b", "inner", "")
	deep := c.save("a/b/c", "deep", "")
	c.want(c.one, "a", "outer", outer)
	c.want(c.one, "a/b", "inner", inner)
	c.want(c.one, "a/b/c", "deep", deep)
	if err := c.one.Delete(c.Context(), "a", outer); err != nil {
		c.Fatal(err)
	}
	c.wantNone(c.one, "a")
	c.want(c.one, "a/b", "inner", inner)
}

func oddKeys(c kept) {
	keys := []string{"-", "0", "lock", "tmp-x", strings.Repeat("k", 100) + "/" + strings.Repeat("y", 99)}
	for _, key := range keys {
		c.want(c.other, key, key, c.save(key, key, ""))
	}
	slices.Sort(keys)
	c.wantKeys(c.one, "", keys...)
}

func noKeys(c kept) {
	for _, key := range []string{"", "/", "a/", "/a", "a//b", "A", "a.b", "..", "a/../b", "a b", "a\x00", "ä"} {
		if _, err := c.one.Save(c.Context(), key, []byte("x"), ""); err == nil {
			c.Errorf("saved %q", key)
		}
		if got, _, err := c.one.Load(c.Context(), key); err == nil {
			c.Errorf("%q is %q", key, got)
		}
		if err := c.one.Delete(c.Context(), key, "x"); err == nil {
			c.Errorf("deleted %q", key)
		}
	}
	c.wantKeys(c.one, "")
}

func sizes(c kept) {
	most := strings.Repeat("x", 64<<10)
	c.want(c.one, "most", most, c.save("most", most, ""))
	c.want(c.one, "none", "", c.save("none", "", ""))
	if _, err := c.one.Save(c.Context(), "more", []byte(most+"x"), ""); err == nil {
		c.Error("saved more than 64 KiB")
	}
	c.wantNone(c.one, "more")
	c.wantKeys(c.one, "", "most", "none")
}

func bytesKept(c kept) {
	value := make([]byte, 256)
	for i := range value {
		value[i] = byte(i)
	}
	given := bytes.Clone(value)
	version, err := c.one.Save(c.Context(), "a", given, "")
	if err != nil {
		c.Fatal(err)
	}
	given[0] = 'x'
	c.want(c.one, "a", string(value), version)
	got, _, err := c.one.Load(c.Context(), "a")
	if err != nil {
		c.Fatal(err)
	}
	got[1] = 'x'
	c.want(c.one, "a", string(value), version)
}

func createdOnce(c kept) {
	version := c.save("a", "x", "")
	_, err := c.other.Save(c.Context(), "a", []byte("y"), "")
	c.wantErr("create what is there", err, keep.ErrChanged)
	c.want(c.one, "a", "x", version)
}

func savedOnce(c kept) {
	first := c.save("a", "1", "")
	second := c.save("a", "2", first)
	_, err := c.other.Save(c.Context(), "a", []byte("3"), first)
	c.wantErr("save by a version that was", err, keep.ErrChanged)
	c.want(c.one, "a", "2", second)
}

func newVersions(c kept) {
	seen := make(map[string]bool)
	version := ""
	for _, value := range []string{"x", "y", "x", "x", "y"} {
		if version = c.save("a", value, version); seen[version] {
			c.Fatalf("version %q again", version)
		}
		seen[version] = true
	}
	if err := c.one.Delete(c.Context(), "a", version); err != nil {
		c.Fatal(err)
	}
	if version = c.save("a", "x", ""); seen[version] {
		c.Fatalf("version %q again after a delete", version)
	}
}

func unchanged(c kept) {
	version := c.save("a", "x", "")
	for _, bad := range []string{"", "x", version + "x"} {
		if _, err := c.one.Save(c.Context(), "a", []byte("y"), bad); err == nil {
			c.Fatalf("saved by version %q", bad)
		}
	}
	c.want(c.one, "a", "x", version)
}

func deleted(c kept) {
	if err := c.one.Delete(c.Context(), "a", c.save("a", "x", "")); err != nil {
		c.Fatal(err)
	}
	c.wantNone(c.one, "a")
	c.wantNone(c.other, "a")
	c.wantKeys(c.other, "")
}

func notDeleted(c kept) {
	first := c.save("a", "1", "")
	second := c.save("a", "2", first)
	c.wantErr("delete by a version that was", c.other.Delete(c.Context(), "a", first), keep.ErrChanged)
	c.wantErr("delete by no version", c.other.Delete(c.Context(), "a", ""), keep.ErrChanged)
	c.want(c.one, "a", "2", second)
}

func goneAlready(c kept) {
	c.wantErr("delete what never was", c.one.Delete(c.Context(), "a", "x"), fs.ErrNotExist)
	c.wantErr("delete what never was by no version", c.one.Delete(c.Context(), "a", ""), fs.ErrNotExist)
	version := c.save("a", "x", "")
	if err := c.one.Delete(c.Context(), "a", version); err != nil {
		c.Fatal(err)
	}
	c.wantErr("delete twice", c.other.Delete(c.Context(), "a", version), fs.ErrNotExist)
	c.wantErr("delete what is gone by no version", c.other.Delete(c.Context(), "a", ""), fs.ErrNotExist)
}

func goneNotReplaced(c kept) {
	version := c.save("a", "x", "")
	if err := c.one.Delete(c.Context(), "a", version); err != nil {
		c.Fatal(err)
	}
	_, err := c.other.Save(c.Context(), "a", []byte("y"), version)
	c.wantErr("replace what is gone", err, keep.ErrChanged)
	_, err = c.other.Save(c.Context(), "never", []byte("y"), version)
	c.wantErr("replace what never was", err, keep.ErrChanged)
	c.wantNone(c.one, "a")
}

func comesAgain(c kept) {
	if err := c.one.Delete(c.Context(), "a", c.save("a", "x", "")); err != nil {
		c.Fatal(err)
	}
	version, err := c.other.Save(c.Context(), "a", []byte("y"), "")
	if err != nil {
		c.Fatal(err)
	}
	c.want(c.one, "a", "y", version)
	c.wantKeys(c.one, "", "a")
}

func listed(c kept) {
	want := []string{"a", "a-b", "a/b", "a/b/c", "ab", "b/0", "b/1"}
	for i := range want { // in another order
		c.save(want[(i*3+1)%len(want)], "x", "")
	}
	slices.Sort(want)
	c.wantKeys(c.one, "", want...)
	c.wantKeys(c.other, "", want...)
}

func listedUnder(c kept) {
	for _, key := range []string{"a", "a-b", "a/b", "a/b/c", "a/bc", "ab", "b"} {
		c.save(key, "x", "")
	}
	c.wantKeys(c.one, "a", "a", "a/b", "a/b/c", "a/bc")
	c.wantKeys(c.one, "a/b", "a/b", "a/b/c")
	c.wantKeys(c.one, "b", "b")
	c.wantKeys(c.one, "c")
}

func listEnds(c kept) {
	c.save("a", "x", "")
	c.save("b", "x", "")
	for key, err := range c.one.List(c.Context(), "") {
		if key != "a" || err != nil {
			c.Fatalf("the first is %q, %v", key, err)
		}
		break
	}
}

func survives(c kept) {
	version := c.save("a/b", "x", "")
	gone := c.save("gone", "x", "")
	if err := c.one.Delete(c.Context(), "gone", gone); err != nil {
		c.Fatal(err)
	}
	if c.again == nil {
		return
	}
	again := c.again()
	c.want(again, "a/b", "x", version)
	c.wantNone(again, "gone")
	c.wantKeys(again, "", "a/b")
	if _, err := again.Save(c.Context(), "a/b", []byte("y"), version); err != nil {
		c.Fatalf("save after a start: %v", err)
	}
}

const racers = 8

// race runs racers, half of them with each opener.
func (c kept) race(do func(ctx context.Context, i int, s keep.Store)) {
	var all sync.WaitGroup
	for i := range racers {
		s := c.one
		if i%2 == 1 {
			s = c.other
		}
		all.Go(func() { do(c.Context(), i, s) })
	}
	all.Wait()
}

func raceToCreate(c kept) {
	errs := make([]error, racers)
	c.race(func(ctx context.Context, i int, s keep.Store) {
		_, errs[i] = s.Save(ctx, "a", []byte(strconv.Itoa(i)), "")
	})
	winner := slices.Index(errs, nil)
	for i, err := range errs {
		if i != winner {
			c.wantErr("a racer who lost", err, keep.ErrChanged)
		}
	}
	got, _, err := c.other.Load(c.Context(), "a")
	if err != nil || string(got) != strconv.Itoa(winner) {
		c.Fatalf("%q, %v; want what the winner %d has saved", got, err, winner)
	}
}

func raceToChange(c kept) {
	c.save("a", "0", "")
	errs := make([]error, racers)
	c.race(func(ctx context.Context, i int, s keep.Store) {
		for done := false; !done && errs[i] == nil; {
			done, errs[i] = addOne(ctx, s)
		}
	})
	if err := errors.Join(errs...); err != nil {
		c.Fatal(err)
	}
	if got, _, err := c.one.Load(c.Context(), "a"); err != nil || string(got) != strconv.Itoa(racers) {
		c.Fatalf("%q, %v; want %d", got, err, racers)
	}
}

// addOne reports whether it has won.
func addOne(ctx context.Context, s keep.Store) (bool, error) {
	value, version, err := s.Load(ctx, "a")
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return false, err
	}
	_, err = s.Save(ctx, "a", []byte(strconv.Itoa(n+1)), version)
	if errors.Is(err, keep.ErrChanged) {
		return false, nil
	}
	return err == nil, err
}

func raceToDelete(c kept) {
	version := c.save("a", "x", "")
	errs := make([]error, racers)
	c.race(func(ctx context.Context, i int, s keep.Store) {
		errs[i] = s.Delete(ctx, "a", version)
	})
	winner := slices.Index(errs, nil)
	if winner < 0 {
		c.Fatalf("nobody has deleted it: %v", errs[0])
	}
	for i, err := range errs {
		if i != winner {
			c.wantErr("a racer who lost", err, fs.ErrNotExist)
		}
	}
	c.wantNone(c.one, "a")
}
