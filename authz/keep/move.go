package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// markKey is where a Store says that what's in it is being moved, or was. Nothing else
// is called that.
const markKey = "moving"

// A mark is what's kept there.
type mark string

const (
	leaving  mark = "leaving"  // its values are being copied to another Store
	left     mark = "left"     // all of them are in the other one
	arriving mark = "arriving" // not all values of another Store are here yet
	arrived  mark = "arrived"  // all of them are, even if none is left
)

// ErrDiffers is what Move fails with if both Stores have a value for a key, and not the
// same: nobody but the operator knows which one counts.
var ErrDiffers = errors.New("both have a value, and not the same")

// Move moves all values from one Store to another, and calls moved for each one that has
// got there. If some key has another value there it changes nothing, and the error is
// ErrDiffers; what an earlier Move has left there by being cut short doesn't count. If
// values of one of them were moved, and not to or from the other one, the error is
// ErrAway, and nothing is changed either. Nor is it if there's nothing to move. Nobody
// else should use either of them meanwhile: a Settled one on from makes no new values
// from then on.
//
// A Move that was cut short is gone on with by the same call, and undone by one with
// from and to exchanged. Until it has ended a Settled one refuses both, unless what's
// missing is only that from is emptied.
func Move(ctx context.Context, from, to Store, moved func(key string)) error {
	a, err := standingOf(ctx, from)
	if err != nil {
		return err
	}
	b, err := standingOf(ctx, to)
	switch {
	case err != nil:
		return err
	case !mayMove(a, b):
		return ErrAway
	case a == standing{"", true}:
		return nil
	}
	if a.mark != left {
		if err := copyAll(ctx, from, to, b.mark, moved); err != nil {
			return err
		}
	}
	if err := setMark(ctx, to, arrived); err != nil {
		return err
	}
	return empty(ctx, from)
}

// standing is what Moves have made of a Store.
type standing struct {
	mark  mark
	empty bool // but for the mark
}

func standingOf(ctx context.Context, s Store) (standing, error) {
	st, marked := standing{empty: true}, false
	for key, err := range s.List(ctx, "") {
		if err != nil {
			return standing{}, err
		}
		if key == markKey {
			marked = true
		} else {
			st.empty = false
		}
	}
	if !marked { // or it may be one that can keep nothing
		return st, nil
	}
	m, _, err := readMark(ctx, s)
	st.mark = m
	return st, err
}

// mayMove reports whether what from and to have gone through, they have with each other.
func mayMove(from, to standing) bool {
	switch from.mark {
	case left:
		return to.mark == arriving || to.mark == arrived
	case arriving: // so it's undone
		return to.mark != left && to != standing{"", true}
	case "":
		return !from.empty || to.mark != left && to.mark != arriving
	case leaving, arrived:
	}
	return true
}

// copyAll has all values of from in to, whose mark is was, and says so in from.
func copyAll(ctx context.Context, from, to Store, was mark, moved func(key string)) error {
	if was == left { // they're old: the other Store may have changed them since, and removed some
		if err := empty(ctx, to); err != nil {
			return err
		}
	}
	keys, err := keysOf(ctx, from)
	if err != nil {
		return err
	}
	if err := compare(ctx, keys, from, to); err != nil {
		return err
	}
	if err := setMark(ctx, to, arriving); err != nil { // first, since it may be somebody else's to write to
		return err
	}
	if err := setMark(ctx, from, leaving); err != nil {
		return err
	}
	for _, key := range keys {
		if err := copyOne(ctx, key, from, to); err != nil {
			return fmt.Errorf("copy %s: %w", key, err)
		}
		moved(key)
	}
	if err := verify(ctx, from, to); err != nil {
		return err
	}
	return setMark(ctx, from, left)
}

// compare fails if some key has another value in the other Store.
func compare(ctx context.Context, keys []string, from, to Store) error {
	var differ []string
	for _, key := range keys {
		_, _, err := same(ctx, key, from, to)
		if errors.Is(err, ErrDiffers) {
			differ = append(differ, key)
		} else if err != nil {
			return err
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("%w: %s", ErrDiffers, strings.Join(differ, ", "))
	}
	return nil
}

// same returns the key's value in from, and whether it's in to, too.
func same(ctx context.Context, key string, from, to Store) (value []byte, there bool, err error) {
	value, _, err = from.Load(ctx, key)
	if err != nil {
		return nil, false, err
	}
	is, _, err := to.Load(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return value, false, nil
	case err != nil:
		return nil, false, err
	case !bytes.Equal(is, value):
		return nil, false, ErrDiffers
	}
	return value, true, nil
}

func copyOne(ctx context.Context, key string, from, to Store) error {
	value, there, err := same(ctx, key, from, to)
	if err != nil || there {
		return err
	}
	_, err = to.Save(ctx, key, value, "")
	return err
}

// verify fails if not all of from is in to: it's somebody else's who has written there.
func verify(ctx context.Context, from, to Store) error {
	keys, err := keysOf(ctx, from)
	if err != nil {
		return err
	}
	for _, key := range keys {
		_, there, err := same(ctx, key, from, to)
		if err == nil && !there {
			err = fs.ErrNotExist
		}
		if err != nil {
			return fmt.Errorf("%s isn't what was copied: somebody writes to it: %w", key, err)
		}
	}
	return nil
}

// empty removes all values from a Store that another one has. Its mark stays.
func empty(ctx context.Context, from Store) error {
	keys, err := keysOf(ctx, from)
	if err != nil {
		return err
	}
	for _, key := range keys {
		_, version, err := from.Load(ctx, key)
		if err == nil {
			err = from.Delete(ctx, key, version)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s, which is copied: %w", key, err)
		}
	}
	return nil
}

// keysOf are the keys of what a Store has, its mark excepted.
func keysOf(ctx context.Context, s Store) (keys []string, err error) {
	for key, err := range s.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if key != markKey {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// readMark returns a Store's mark, which is empty if it has none.
func readMark(ctx context.Context, s Store) (m mark, version string, err error) {
	value, version, err := s.Load(ctx, markKey)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	return mark(value), version, err
}

// setMark sets a Store's mark.
func setMark(ctx context.Context, s Store, to mark) error {
	is, version, err := readMark(ctx, s)
	if err == nil && is != to {
		_, err = s.Save(ctx, markKey, []byte(to), version)
	}
	if err != nil {
		return fmt.Errorf("say that it's being moved: %w", err)
	}
	return nil
}
