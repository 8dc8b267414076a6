package s3

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// TestMain lets garbage grow: thousands of stores come and go, and little of them is
// alive at a time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	goleak.VerifyTestMain(m)
}

// variants are the ways in which a store can work.
func variants() map[string]Options {
	return map[string]Options{
		"small parts":   {},
		"large parts":   {PartSize: 16 << 20},
		"always asking": {DigestsFreshFor: -1, Prefix: "some/where"},
		"single writer": {SingleWriter: true},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Run(t, func(t *testing.T) storage.Store { return openOn(t, smallParts(), opts) })
		})
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Collect(t, func(t *testing.T) storage.Store { return openOn(t, smallParts(), opts) })
		})
	}
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Maintain(t, func(t *testing.T) (storage.Store, func() storage.Store) {
				f := smallParts()
				return openOn(t, f, opts), func() storage.Store { return openOn(t, f, opts) }
			})
		})
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Reopen(t, func(t *testing.T) (storage.Store, func() storage.Store) {
				f := smallParts()
				return openOn(t, f, opts), func() storage.Store { return openOn(t, f, opts) }
			})
		})
	}
}
