package s3

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// A mark is seen and taken off at any replica, and nothing goes whose mark was
// taken off, however it was.
func TestMarksAcrossReplicas(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := imageOf(t, "m", digest.FromString("x"))
	for name, touch := range touches(t, m) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := smallParts()
			a, b := openOn(t, f, Options{}), openOn(t, f, Options{})
			if err := push(t, a); err != nil {
				t.Fatal(err)
			}
			if err := storage.PutManifest(t.Context(), a.Repository(app), m, storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			mark := func(s *Store) {
				t.Helper()
				err := s.Repository(app).Update(t.Context(), func(e *storage.Edit) error { e.Mark(m.Digest, at); return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			mark(a)
			if got := marks(t, b)[m.Digest]; !got.Equal(at) {
				t.Fatalf("marked since %v, want %v", got, at)
			}
			if err := touch(b); err != nil {
				t.Fatal(err)
			}
			drop := func(s *Store, by time.Time) {
				t.Helper()
				err := s.Repository(app).Update(t.Context(), func(e *storage.Edit) error {
					e.DeleteMarked(m.Digest, by)
					e.DropMarkedBlob(m.Digest, by)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			drop(a, at.Add(time.Hour))
			if got, ok := marks(t, a)[m.Digest]; !ok || !got.IsZero() {
				t.Fatalf("there: %v, marked since %v", ok, got)
			}
			mark(b)
			drop(a, at.Add(-time.Hour))
			if _, ok := marks(t, a)[m.Digest]; !ok {
				t.Fatal("it's gone though its mark is young")
			}
			drop(b, at)
			if _, ok := marks(t, a)[m.Digest]; ok {
				t.Fatal("it's still there")
			}
			if _, err := a.Repository(app).Resolve(t.Context(), oci.DigestRef(m.Digest)); !errors.Is(err, oci.ManifestUnknown) {
				t.Fatalf("the manifest: %v", err)
			}
		})
	}
}

// touches are the ways in which a mark is taken off m.
func touches(t *testing.T, m oci.Manifest) map[string]func(s *Store) error {
	t.Helper()
	return map[string]func(s *Store) error{
		"StatBlob": func(s *Store) error { return second(s.Repository(app).StatBlob(t.Context(), m.Digest)) },
		"OpenBlob": func(s *Store) error { return second(s.Repository(app).OpenBlob(t.Context(), m.Digest)) },
		"Resolve":  func(s *Store) error { return second(s.Repository(app).Resolve(t.Context(), oci.DigestRef(m.Digest))) },
		"MountBlob": func(s *Store) error {
			return second(s.Repository(other).MountBlob(t.Context(), m.Digest, app))
		},
		"Put": func(s *Store) error {
			return storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{})
		},
		"Tag": func(s *Store) error {
			return s.Repository(app).Update(t.Context(), func(e *storage.Edit) error { e.Tag(mustTag("t"), m.Digest); return nil })
		},
		"Require": func(s *Store) error {
			return s.Repository(app).Update(t.Context(), func(e *storage.Edit) error { e.Require(m.Digest); return nil })
		},
	}
}

func second[T any](_ T, err error) error { return err }

// marks are the blobs of a repository, and since when they have a mark.
func marks(t *testing.T, s *Store) map[digest.Digest]time.Time {
	t.Helper()
	all := make(map[digest.Digest]time.Time)
	for c, err := range s.Repository(app).(storage.Collectable).Contents(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all[c.Digest] = c.Marked
	}
	return all
}

// Marks outlive folds.
func TestMarksAreFolded(t *testing.T) {
	t.Parallel()
	f := smallParts()
	s := folding(t, f)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := pushText(t, s, 10)
	if err := s.Repository(app).Update(t.Context(), func(e *storage.Edit) error { e.Mark(d, at); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range 150 {
		pushText(t, s, i+100)
	}
	if n := len(stateIn(t, s).head.Segments); n == 0 {
		t.Fatal("it wasn't folded")
	}
	if got := marks(t, folding(t, f))[d]; !got.Equal(at) {
		t.Fatalf("marked since %v, want %v", got, at)
	}
}

// A repository that holds nothing can be retired, and comes back as a new one.
func TestRetire(t *testing.T) {
	t.Parallel()
	f := smallParts()
	a, b := openOn(t, f, Options{}), openOn(t, f, Options{})
	retire := func(s *Store) bool {
		t.Helper()
		gone, err := s.Repository(app).(storage.Collectable).Retire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	names := func(s *Store) (n int) {
		t.Helper()
		for _, err := range s.Repositories(t.Context(), oci.Name{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	for range 3 {
		d := pushText(t, a, 10)
		if retire(b) {
			t.Fatal("it's retired with a blob")
		}
		if err := storage.DeleteBlob(t.Context(), b.Repository(app), d, ""); err != nil {
			t.Fatal(err)
		}
		if names(a) != 1 || !retire(a) || names(b) != 0 {
			t.Fatalf("%d repositories", names(b))
		}
		for _, s := range []*Store{a, b} {
			if _, err := s.Repository(app).Index(t.Context()); !errors.Is(err, oci.NameUnknown) {
				t.Fatalf("Index: %v, want oci.NameUnknown", err)
			}
		}
	}
	if size := len(f.objects["repositories/team.app"].body); size == 0 || size >= smallest {
		t.Fatalf("what is left has %d bytes", size)
	}
}

// Who looks into many, as a collector does, doesn't ask for the record each time.
func TestPeekKnowsWhatWasThere(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, b := openOn(t, f, Options{}), openOn(t, f, Options{DigestsFreshFor: time.Hour})
	if err := push(t, a); err != nil {
		t.Fatal(err)
	}
	there, unknown := b.Repository(app), digest.FromString("unknown")
	total, calls, _ := f.counted(func() {
		for range 50 {
			blob, err := there.(storage.Collectable).Peek(t.Context(), digest.FromString("x"))
			if err != nil {
				t.Fatal(err)
			}
			if err := blob.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	if total != 1 {
		t.Errorf("%d calls, want that for the record: %v", total, calls)
	}
	total, _, _ = f.counted(func() {
		if _, err := there.(storage.Collectable).Peek(t.Context(), unknown); !errors.Is(err, oci.BlobUnknown) {
			t.Errorf("err = %v", err)
		}
	})
	if total != 1 {
		t.Errorf("%d calls, want one: it may have come", total)
	}
}
