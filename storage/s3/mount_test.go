package s3

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// A mount of what was condemned, or is gone, is no mount, and leaves nothing that
// one could rely on.
func TestMountOfTheCondemned(t *testing.T) {
	t.Parallel()
	content := text(10_000)
	d := digest.FromString(content)
	for name, doom := range map[string]func(t *testing.T, s *Store, f *fake, id string){
		"condemned": func(t *testing.T, s *Store, _ *fake, id string) {
			err := s.condemn(t.Context(), id, func(ids map[string]time.Time) { ids[id] = time.Now() })
			if err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(_ *testing.T, _ *Store, f *fake, id string) { delete(f.objects, "data/"+id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := openOn(t, f, Options{})
			if _, err := storage.PutBlob(t.Context(), s.Repository(app), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
				t.Fatal(err)
			}
			doom(t, s, f, stateIn(t, s).find(d).ID)
			if _, err := s.Repository(other).MountBlob(t.Context(), d, app); !errors.Is(err, oci.BlobUnknown) {
				t.Fatalf("mount: %v, want oci.BlobUnknown", err)
			}
			if _, err := s.Repository(other).StatBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
				t.Fatalf("after it: %v, want oci.BlobUnknown", err)
			}
		})
	}
}

// halfway is a bucket at which something happens before an object is looked at.
type halfway struct {
	*fake

	before func()
}

func (h *halfway) stat(ctx context.Context, key string) (listed, error) {
	h.before()
	return h.fake.stat(ctx, key)
}

// While a blob is being mounted nobody can rely on it.
func TestMountHalfway(t *testing.T) {
	t.Parallel()
	content := text(10_000)
	d := digest.FromString(content)
	f := &halfway{fake: newFake()}
	s := openOn(t, f, Options{})
	if _, err := storage.PutBlob(t.Context(), s.Repository(app), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	f.before = func() {
		if _, err := s.Repository(other).StatBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
			t.Errorf("StatBlob: %v", err)
		}
		err := storage.PutManifest(t.Context(), s.Repository(other), imageOf(t, "x", d), storage.PutOptions{})
		if !errors.Is(err, oci.ManifestBlobUnknown) {
			t.Errorf("PutManifest: %v", err)
		}
	}
	if _, err := s.Repository(other).MountBlob(t.Context(), d, app); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutManifest(t.Context(), s.Repository(other), imageOf(t, "x", d), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// asleep is a bucket whose caller stands still for long before it writes a record.
type asleep struct {
	*fake

	sweep bool // while it does
}

func (a *asleep) put(ctx context.Context, what putRequest) (string, error) {
	if strings.HasPrefix(what.Key, "repositories/") && a.sweep {
		a.sweep = false
		time.Sleep(48 * time.Hour)
		for key := range a.objects {
			if strings.HasPrefix(key, "data/") {
				delete(a.objects, key)
			}
		}
	}
	return a.fake.put(ctx, what)
}

// A process that stands still between storing bytes and naming them doesn't name
// what was swept meanwhile.
func TestCommitAfterLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &asleep{newFake(), true}
		s := openOn(t, f, Options{})
		content := text(10_000)
		d := digest.FromString(content)
		push := func() error {
			_, err := storage.PutBlob(t.Context(), s.Repository(app), d, strings.NewReader(content), storage.UploadOptions{})
			return err
		}
		if err := push(); err == nil {
			t.Error("it's acknowledged")
		}
		if _, err := s.Repository(app).StatBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
			t.Errorf("after it: %v, want oci.BlobUnknown", err)
		}
		if err := push(); err != nil {
			t.Error(err)
		}
		wantBlob(t, s, content)
	})
}
