package gc_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// Of a repository whose index.json is ruined nothing goes until it's restored, and
// other ones are collected.
func TestBrokenRepositoryIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, other := w.repo("a"), w.repo("b")
	x, y := w.blob(r, "x"), w.blob(other, "y")
	m, n := w.push(r, w.image("m"), "v1"), w.push(other, w.image("n"), "v1")
	w.collect(gc.Options{})
	w.wait(1000 * time.Hour)
	check(t, os.WriteFile(filepath.Join(w.root, "a", "index.json"), []byte("{"), 0o600))
	wantBroken(t, r)
	w.collect(gc.Options{})
	w.wantContents(r, x, m)
	w.wantContents(other, n)
	problems := 0
	for _, f := range w.found {
		if f.Problem != "" && f.Repository == "a" {
			problems++
		} else if f.Name != y.String() {
			t.Fatalf("found %+v", f)
		}
	}
	if problems == 0 {
		t.Fatalf("found %+v", w.found)
	}
	check(t, w.Restore(t.Context(), r.Name()))
	w.collect(gc.Options{})
	w.wantContents(r, m)
}

// wantBroken returns when the store has noticed that the repository is broken.
func wantBroken(t *testing.T, r storage.Repository) {
	t.Helper()
	err := r.Update(t.Context(), func(*storage.Edit) error { return nil }) // which looks at once
	if !errors.Is(err, storage.ErrBroken) {
		t.Fatalf("error %v, want ErrBroken", err)
	}
}
