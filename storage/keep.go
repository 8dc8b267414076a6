package storage

import (
	"context"
	"errors"
	"iter"
)

// ErrChanged is what SaveState and DeleteState return if the value isn't of the
// version that they were given.
var ErrChanged = errors.New("storage: changed by somebody else")

// Keeper is a Store that keeps a registry's own small state beside the content: keys
// that sign, API keys. All who serve the content share it. Nobody else may read it,
// as far as the medium can tell people apart.
//
// A key is one or more words of lower-case letters, digits and "-", with "/" between
// them, no longer than 200 bytes. No version is used twice.
type Keeper interface {
	// LoadState returns a value and its version, or an error that is fs.ErrNotExist.
	LoadState(ctx context.Context, key string) (value []byte, version string, err error)

	// SaveState replaces a value of that version, which is empty if there must be
	// none, all or nothing. A value has 64 KiB at most. What it has returned nil for
	// survives a crash, and is seen by every LoadState that begins afterwards.
	SaveState(ctx context.Context, key string, value []byte, version string) (now string, err error)

	// DeleteState removes a value of that version; what isn't there is fs.ErrNotExist.
	// It's as durable as a SaveState.
	DeleteState(ctx context.Context, key, version string) error

	// ListState yields the keys that begin with the words of a prefix ("" is all of
	// them), sorted. One that comes or goes meanwhile may be left out. An error ends it.
	ListState(ctx context.Context, prefix string) iter.Seq2[string, error]
}
