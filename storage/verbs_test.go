package storage_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// What a store makes of the verbs is checked by storagetest for every store.
// Here is what only a repository can tell that watches how it's used.

// watched notes what the verbs ask of a repository.
type watched struct {
	storage.Repository

	commitErr error // what each Commit fails with, if it isn't nil; the session goes on

	mu      sync.Mutex
	opts    []storage.UploadOptions
	ids     []string
	closed  int
	opened  int
	editBy  []string
	updates int
}

func watch(t *testing.T) *watched {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n, err := oci.ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	return &watched{Repository: s.Repository(n)}
}

func (w *watched) NewUpload(ctx context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	u, err := w.Repository.NewUpload(ctx, opts)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opts, w.ids = append(w.opts, opts), append(w.ids, u.ID())
	return watchedUpload{u, w}, nil
}

type watchedUpload struct {
	storage.Upload

	w *watched
}

func (u watchedUpload) Close() error {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.w.closed++
	return u.Upload.Close()
}

func (u watchedUpload) Commit(ctx context.Context, want digest.Digest) (oci.Descriptor, error) {
	if u.w.commitErr != nil {
		return oci.Descriptor{}, u.w.commitErr
	}
	return u.Upload.Commit(ctx, want)
}

func (w *watched) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	b, err := w.Repository.OpenBlob(ctx, d)
	if err == nil {
		w.opened++
		b.ReadSeekCloser = closing{b.ReadSeekCloser, &w.opened}
	}
	return b, err
}

type closing struct {
	io.ReadSeekCloser

	open *int
}

func (c closing) Close() error {
	*c.open--
	return c.ReadSeekCloser.Close()
}

func (w *watched) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	w.updates++
	return w.Repository.Update(ctx, func(e *storage.Edit) error {
		err := fn(e)
		w.editBy = append(w.editBy, e.By)
		return err
	})
}

func (w *watched) push(t *testing.T, m oci.Manifest, tags ...string) {
	t.Helper()
	opts := storage.PutOptions{Sparse: storage.SparseAll}
	for _, s := range tags {
		opts.Tags = append(opts.Tags, tag(t, s))
	}
	if err := storage.PutManifest(t.Context(), w, m, opts); err != nil {
		t.Fatal(err)
	}
}

func TestPutBlobLeavesNoSession(t *testing.T) {
	t.Parallel()
	boom := errors.New("connection reset")
	for name, c := range map[string]struct {
		in        io.Reader
		commitErr error
		want      error
	}{
		"right content":   {strings.NewReader("x"), nil, nil},
		"wrong content":   {strings.NewReader("y"), nil, oci.DigestInvalid},
		"a broken reader": {io.MultiReader(strings.NewReader("x"), iotest.ErrReader(boom)), nil, boom},
		"a full disk":     {strings.NewReader("x"), storage.ErrFull, storage.ErrFull},
	} {
		w := watch(t)
		w.commitErr = c.commitErr
		_, err := storage.PutBlob(t.Context(), w, digest.FromString("x"), c.in, storage.UploadOptions{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if len(w.ids) != 1 || w.closed != 1 {
			t.Fatalf("%s: %d sessions begun, %d handles closed", name, len(w.ids), w.closed)
		}
		if _, err := w.ResumeUpload(t.Context(), w.ids[0]); !errors.Is(err, oci.BlobUploadUnknown) {
			t.Errorf("%s: the session is still there: %v", name, err)
		}
	}
}

func TestPutBlobCancelsAfterItsContextHasEnded(t *testing.T) {
	t.Parallel()
	w := watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := io.MultiReader(strings.NewReader("x"), iotest.ErrReader(context.Canceled))
	if _, err := storage.PutBlob(ctx, w, digest.FromString("x"), in, storage.UploadOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if _, err := w.ResumeUpload(t.Context(), w.ids[0]); !errors.Is(err, oci.BlobUploadUnknown) {
		t.Errorf("the session is still there: %v", err)
	}
}

func TestPutBlobHashesWithTheDigestsAlgorithm(t *testing.T) {
	t.Parallel()
	w := watch(t)
	opts := storage.UploadOptions{By: "alice", Size: 1, Algorithm: digest.SHA256}
	if _, err := storage.PutBlob(t.Context(), w, digest.SHA512.FromString("x"), strings.NewReader("x"), opts); err != nil {
		t.Fatal(err)
	}
	if want := (storage.UploadOptions{By: "alice", Size: 1, Algorithm: digest.SHA512}); w.opts[0] != want {
		t.Errorf("the session has options %+v, want %+v", w.opts[0], want)
	}
}

func TestVerbsSayWhoActs(t *testing.T) {
	t.Parallel()
	w, m := watch(t), image(t, "m")
	x := digest.FromString("x")
	if _, err := storage.PutBlob(t.Context(), w, x, strings.NewReader("x"), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	for what, verb := range map[string]func() error{
		"PutManifest": func() error {
			return storage.PutManifest(t.Context(), w, m, storage.PutOptions{Tags: []oci.Tag{tag(t, "v1")}, By: "alice"})
		},
		"DeleteBlob": func() error { return storage.DeleteBlob(t.Context(), w, x, "alice") },
	} {
		if err := verb(); err != nil || w.editBy[len(w.editBy)-1] != "alice" {
			t.Errorf("%s: by %q, %v", what, w.editBy[len(w.editBy)-1], err)
		}
	}
	for _, ref := range []oci.Reference{oci.TagRef(tag(t, "v1")), oci.DigestRef(m.Digest)} {
		if err := storage.DeleteManifest(t.Context(), w, ref, "alice"); err != nil || w.editBy[len(w.editBy)-1] != "alice" {
			t.Errorf("DeleteManifest %s: by %q, %v", ref, w.editBy[len(w.editBy)-1], err)
		}
	}
}

func TestVerbsCloseWhatTheyOpen(t *testing.T) {
	t.Parallel()
	w, m := watch(t), image(t, "m", "layer")
	w.push(t, m, "v1")
	if _, err := storage.ReadManifest(t.Context(), w, m.Descriptor); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("layer")
	if _, err := storage.PutBlob(t.Context(), w, d, strings.NewReader("layer"), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := storage.DeleteBlob(t.Context(), w, d, ""); !errors.Is(err, oci.Denied) {
		t.Fatalf("error %v", err)
	}
	if w.opened != 0 {
		t.Errorf("%d blobs are open", w.opened)
	}
}

// A manifest that comes while DeleteBlob reads the others is read too.
func TestDeleteBlobReadsWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	w := watch(t)
	d := digest.FromString("layer")
	if _, err := storage.PutBlob(t.Context(), w, d, strings.NewReader("layer"), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	w.push(t, image(t, "before"))
	late := image(t, "late", "layer")
	r := &meanwhile{watched: w, do: func() { w.push(t, late) }}
	if err := storage.DeleteBlob(t.Context(), r, d, ""); !errors.Is(err, oci.Denied) {
		t.Fatalf("error %v, want DENIED", err)
	}
	if _, err := w.StatBlob(t.Context(), d); err != nil {
		t.Errorf("the blob is gone: %v", err)
	}
}

// meanwhile does something before the first manifest is read.
type meanwhile struct {
	*watched

	once sync.Once
	do   func()
}

func (m *meanwhile) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	m.once.Do(m.do)
	return m.watched.OpenBlob(ctx, d)
}

func TestDeleteBlobStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := watch(t)
	d := digest.FromString("layer")
	if _, err := storage.PutBlob(t.Context(), w, d, strings.NewReader("layer"), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	w.push(t, image(t, "m"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := storage.DeleteBlob(ctx, w, d, ""); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if _, err := w.StatBlob(t.Context(), d); err != nil {
		t.Errorf("the blob is gone: %v", err)
	}
}
