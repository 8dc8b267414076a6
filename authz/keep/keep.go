// Package keep is about where the registry's own secrets and small records live:
// keys that sign tokens and sessions, API keys. All replicas of a registry share
// one Store, and every change is a compare-and-swap.
package keep

import (
	"context"
	"errors"
	"iter"
)

// ErrChanged is what Save and Delete return if the value isn't of the version that
// they were given: somebody else was faster. Load again, and decide again.
var ErrChanged = errors.New("changed by somebody else")

// A Store keeps small values, up to 64 KiB each, by key. A key is one or more words
// of lower-case letters, digits and "-", with "/" between them, up to 200 bytes long. No
// version is used twice, not even after a Delete. What Save and Delete have returned
// nil for survives a crash, and is seen by every replica's next Load. It is safe for
// concurrent use.
type Store interface {
	// Load returns a value and its version, or an error that is fs.ErrNotExist.
	Load(ctx context.Context, key string) (value []byte, version string, err error)

	// Save replaces a value of that version, which is empty if there must be none,
	// all or nothing. It returns the new version. ErrChanged if it's another one.
	Save(ctx context.Context, key string, value []byte, version string) (now string, err error)

	// Delete removes a value of that version. ErrChanged if it's another one; what
	// is gone already is fs.ErrNotExist.
	Delete(ctx context.Context, key, version string) error

	// List yields the keys that begin with the words of a prefix ("" is all of
	// them), sorted, as of some moment during the call.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}
