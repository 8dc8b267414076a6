package storagetest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// TestNoCheckPassesOnADeadStore: a check that a store passes which does nothing
// at all would hold nobody to anything.
func TestNoCheckPassesOnADeadStore(t *testing.T) {
	t.Parallel()
	for name, c := range checksByName() {
		if len(failures(t, c, deadStore())) == 0 {
			t.Errorf("%s: passes on a store that does nothing", name)
		}
	}
}

var errDead = errors.New("dead")

func deadStore() storage.Store {
	return &mutant{
		Store: memory.New(),
		ready: func(storage.Store) error { return errDead },
		repositories: func(storage.Store, oci.Name) iter.Seq2[oci.Name, error] {
			return func(yield func(oci.Name, error) bool) { yield(oci.Name{}, errDead) }
		},
		stat:    func(storage.Repository, digest.Digest) (oci.Descriptor, error) { return oci.Descriptor{}, errDead },
		open:    func(storage.Repository, digest.Digest) (*storage.Blob, error) { return nil, errDead },
		resolve: func(storage.Repository, oci.Reference) (oci.Descriptor, error) { return oci.Descriptor{}, errDead },
		index:   func(storage.Repository) (storage.Index, error) { return nil, errDead },
		begin:   func(storage.Repository, storage.UploadOptions) (storage.Upload, error) { return nil, errDead },
		resume:  func(storage.Repository, string) (storage.Upload, error) { return nil, errDead },
		referrers: func(storage.Repository, digest.Digest, digest.Digest) (iter.Seq[storage.Referrer], error) {
			return nil, errDead
		},
		mount: func(storage.Repository, digest.Digest, oci.Name) (oci.Descriptor, error) {
			return oci.Descriptor{}, errDead
		},
		update: func(storage.Repository, context.Context, func(*storage.Edit) error) error { return errDead },
	}
}

// TestTheSuiteHasTeeth breaks a store in one way after the other, and wants the
// checks to fail that stand for what was broken.
func TestTheSuiteHasTeeth(t *testing.T) {
	t.Parallel()
	checks := checksByName()
	for name, b := range breakages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, want := range b.fails {
				c, ok := checks[want]
				if !ok {
					t.Fatalf("there's no check %q", want)
				}
				if why := failures(t, c, b.store()); len(why) == 0 {
					t.Errorf("%s: passes", want)
				} else {
					t.Logf("%s: %s", want, strings.Join(why, "; "))
				}
			}
		})
	}
}

// TestTheMutantIsSound: an unbroken mutant passes, so what fails fails because it is broken.
func TestTheMutantIsSound(t *testing.T) {
	t.Parallel()
	for name, c := range checksByName() {
		if why := failures(t, c, &mutant{Store: memory.New()}); len(why) > 0 {
			t.Errorf("%s: %s", name, strings.Join(why, "; "))
		}
	}
}

// TestEachCheckHasABreakage: a check that nothing breaks could be wrong and nobody would know.
func TestEachCheckHasABreakage(t *testing.T) {
	t.Parallel()
	broken := make(map[string]bool)
	for _, b := range breakages() {
		for _, name := range b.fails {
			broken[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(checksByName())) {
		if !broken[name] {
			t.Errorf("no breakage for %q", name)
		}
	}
}
