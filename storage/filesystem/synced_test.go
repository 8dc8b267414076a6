package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

func numbered(n int) syncedBlob { return syncedBlob{1, digest.FromString(fmt.Sprint(n))} }

func TestSyncedSetHasTheLatest(t *testing.T) {
	var s syncedSet
	const added = 3*maxSynced + 1
	for n := range added {
		s.add(numbered(n))
		if known := len(s.young) + len(s.old); known > 2*maxSynced {
			t.Fatalf("it has %d of %d", known, n+1)
		}
	}
	for n := added - maxSynced; n < added; n++ {
		if !s.has(numbered(n)) {
			t.Fatalf("it has forgotten %d of %d", n, added)
		}
	}
	if s.has(numbered(0)) {
		t.Error("it has the first one still")
	}
}

func TestSyncedSetForgetsWhatIsRemoved(t *testing.T) {
	var s syncedSet
	s.add(numbered(0))
	for n := 1; n <= maxSynced; n++ { // an older one is removed as well
		s.add(numbered(n))
	}
	for _, n := range []int{0, maxSynced} {
		if !s.has(numbered(n)) {
			t.Fatalf("it hasn't %d", n)
		}
		s.remove(numbered(n))
		if s.has(numbered(n)) {
			t.Errorf("it has %d", n)
		}
	}
}

// TestSyncedInOneRepository: what is durable in one repository needn't be in another one,
// nor in one that comes to have its name, nor is what comes back without being synced.
func TestSyncedInOneRepository(t *testing.T) {
	s := opened(t, t.TempDir())
	d := digest.FromString("content")
	a, b := s.repos.use(parsed(t, "a")), s.repos.use(parsed(t, "b"))
	a.noteBlob(d, true)
	if !a.isSynced(d) || b.isSynced(d) {
		t.Errorf("synced in a, and %v there; in b %v", a.isSynced(d), b.isSynced(d))
	}
	a.noteBlob(d, false)
	if a.isSynced(d) {
		t.Error("it came again, unsynced, and is taken for synced")
	}
	a.noteBlob(d, true)
	s.repos.done(a)
	s.repos.done(b)
	again := s.repos.use(parsed(t, "a"))
	defer s.repos.done(again)
	if again.isSynced(d) {
		t.Error("of a repository that was forgotten it's known still")
	}
}

// What another tool has put into a repository isn't taken for durable because a mount
// finds it there, whose source is.
func TestMountOverAnotherFile(t *testing.T) {
	root := t.TempDir()
	s := opened(t, root)
	content := strings.Repeat("content", smallest)
	d := digest.FromString(content)
	for _, repo := range []string{"a", "b"} {
		dir := filepath.Join(root, repo, "blobs", "sha256")
		if err := errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, d.Encoded()), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := s.repos.use(parsed(t, "a")), s.repos.use(parsed(t, "b"))
	defer s.repos.done(a)
	defer s.repos.done(b)
	a.noteBlob(d, true)
	target, _ := s.Repository(parsed(t, "b")).(*Repository)
	if err := target.linkFrom(a, d); err != nil {
		t.Fatal(err)
	}
	if b.isSynced(d) {
		t.Error("it's taken for durable")
	}
}

func opened(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func parsed(t *testing.T, name string) oci.Name {
	t.Helper()
	n, err := oci.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
