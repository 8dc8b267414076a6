// Package storagetest checks that a storage.Store keeps its contract: Run for
// every store, Reopen and Crash for those that outlive their process, ReadOnly
// for those that refuse to write. Bench measures them all with one yardstick.
//
// Collect is for those from which garbage can be collected.
//
// A check is named after the sentence of the contract that it holds the store
// to. Two sentences have none here, because a Store alone can't be asked: that
// manifests which only a foreign image index lists are found (the tests of
// the backends that can be given one), and that Ready is cheap.
package storagetest

import (
	"errors"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
)

// Open returns a new, empty store. Who called it closes it.
type Open func(t *testing.T) storage.Store

// check holds a new store to one sentence. It takes a testing.TB and not a
// *testing.T so that a test can watch it fail.
type check func(t testing.TB, s storage.Store)

// part is a part of the contract: a check for each sentence.
type part struct {
	name   string
	checks map[string]check
}

// contract is all of it, in the order of the sources of package storage.
func contract() []part {
	return []part{
		{"Store", storeChecks()},
		{"Reader", readerChecks()},
		{"Referrers", referrersChecks()},
		{"Repository", repositoryChecks()},
		{"Update", updateChecks()},
		{"Edit", editChecks()},
		{"Upload", uploadChecks()},
		{"Append", appendChecks()},
		{"Commit", commitChecks()},
		{"Index", indexChecks()},
		{"PutBlob", putBlobChecks()},
		{"PutManifest", putManifestChecks()},
		{"GetManifest", getManifestChecks()},
		{"DeleteManifest", deleteManifestChecks()},
		{"DeleteBlob", deleteBlobChecks()},
	}
}

// Run holds a kind of store to the whole contract, one subtest a sentence, each
// with a store of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, p := range contract() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for sentence, check := range p.checks {
				t.Run(sentence, func(t *testing.T) {
					t.Parallel()
					s := open(t)
					closeAfter(t, s)
					check(t, s)
				})
			}
		})
	}
}

// closeAfter closes s when t has ended, unless the test did.
func closeAfter(t testing.TB, s storage.Store) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("close the store: %v", err)
		}
	})
}
