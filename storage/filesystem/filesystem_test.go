package filesystem_test

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// TestMain lets garbage grow: thousands of stores come and go, and little of them is
// alive at a time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, root string, opts filesystem.Options) *filesystem.Store {
	t.Helper()
	s, err := filesystem.Open(root, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

// shut closes a store, which may be closed already.
func shut(t testing.TB, s *filesystem.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// variants are the ways in which a store can write.
func variants() map[string]filesystem.Options {
	all := syncing()
	all["unsynced"] = filesystem.Options{Unsynced: true}
	return all
}

// syncing are the ways to make things durable.
func syncing() map[string]filesystem.Options {
	return map[string]filesystem.Options{
		"synced":   {},
		"log only": {LogFrom: 1},
		"direct":   {Direct: true},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Run(t, func(t *testing.T) storage.Store { return open(t, t.TempDir(), opts) })
		})
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Collect(t, func(t *testing.T) storage.Store { return open(t, t.TempDir(), opts) })
		})
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Reopen(t, func(t *testing.T) (storage.Store, func() storage.Store) {
				root := t.TempDir()
				return open(t, root, opts), func() storage.Store { return open(t, root, opts) }
			})
		})
	}
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Maintain(t, func(t *testing.T) (storage.Store, func() storage.Store) {
				root := t.TempDir()
				return open(t, root, opts), func() storage.Store { return open(t, root, opts) }
			})
		})
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Crash(t, func(fsys vfs.FS) (storage.Store, error) { return filesystem.OpenFS(fsys, opts) })
		})
	}
}

func BenchmarkStore(b *testing.B) {
	for name, opts := range variants() {
		b.Run(name, func(b *testing.B) {
			storagetest.Bench(b, func(b *testing.B) storage.Store { return open(b, b.TempDir(), opts) })
		})
	}
}
