package memory_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// Sessions count from their beginning to their end.
func TestOpenUploads(t *testing.T) {
	t.Parallel()
	s := memory.New()
	name, err := oci.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	var begun []storage.Upload
	want := func(n int) {
		t.Helper()
		if got, err := s.OpenUploads(t.Context()); got != n || err != nil {
			t.Fatalf("%d sessions, %v, want %d", got, err, n)
		}
	}
	for i := range 3 {
		want(i)
		u, err := s.Repository(name).NewUpload(t.Context(), storage.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, u)
	}
	if err := begun[0].Close(); err != nil {
		t.Fatal(err)
	}
	want(3)
	if _, err := begun[0].Commit(t.Context(), digest.FromString("")); err != nil {
		t.Fatal(err)
	}
	want(2)
	if err := begun[1].Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenUploads(t.Context()); !errors.Is(err, storage.ErrClosed) {
		t.Fatalf("of a closed store: error %v", err)
	}
}
