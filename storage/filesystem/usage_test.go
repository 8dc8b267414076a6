package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// Sessions count from their beginning to their end, whoever began them.
func TestOpenUploads(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, filesystem.Options{})
	want := func(n int) {
		t.Helper()
		if got := must(s.OpenUploads(t.Context()))(t); got != n {
			t.Fatalf("%d sessions, want %d", got, n)
		}
	}
	want(0)
	r := repository(t, s, "a")
	kept := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	want(1)
	check(t, kept.Close())
	want(1)
	cancelled := must(r.NewUpload(t.Context(), storage.UploadOptions{}))(t)
	want(2)
	check(t, cancelled.Cancel(t.Context()))
	check(t, cancelled.Close())
	want(1)
	must(storage.PutBlob(t.Context(), r, digest.FromString("x"), strings.NewReader("x"), storage.UploadOptions{}))(t)
	want(1)

	shut(t, s)
	if _, err := s.OpenUploads(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Fatalf("of a closed store: error %v", err)
	}
	s = open(t, root, filesystem.Options{})
	want(1)
	ended := resume(t, repository(t, s, "a"), kept.ID())
	must(ended.Commit(t.Context(), digest.FromString("")))(t)
	want(0)
}

func TestSpace(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), filesystem.Options{})
	got, err := s.Space(t.Context())
	known := err == nil && got.Free > 0 && got.Used > 0 && got.Free != got.Used
	if !known && !errors.Is(err, errors.ErrUnsupported) || !known && runtime.GOOS == "linux" {
		t.Fatalf("got %+v, %v", got, err)
	}
	shut(t, s)
	if _, err := s.Space(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Fatalf("of a closed store: error %v", err)
	}
}

// A scrape counts sessions: it has to be cheap even if thousands were given up.
func BenchmarkOpenUploads(b *testing.B) {
	root := b.TempDir()
	s := open(b, root, filesystem.Options{})
	for i := range 10_000 {
		if err := os.MkdirAll(filepath.Join(root, "_uploads", strconv.Itoa(i)), 0o750); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := s.OpenUploads(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
