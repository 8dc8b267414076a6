//go:build real

package reload

import (
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/slow"
)

// listen returns an address on which something else listens.
func listen(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

// TestMovedRoot changes the root while an upload and a download are under way.
// They end where they have begun, and then the old root is free.
func TestMovedRoot(t *testing.T) {
	t.Parallel()
	before, after := t.TempDir(), t.TempDir()
	srv := registry.Config(t, config(before, 0))
	makePatient(srv)
	blob, old, next := image.RandomBlob(1, blobSize), image.Random(1, 2, chunk), image.Random(2, 2, chunk)
	if err := srv.Repository("slow").PushBlob(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	srv.Push(old, "app", "v1")
	down := slow.NewDownload(t, srv.Repository("slow"), blob)
	up := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(2, 100*chunk))
	up.Put()
	left := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(3, 100*chunk))

	reload(t, srv, config(after, 0))
	wantLocked(t, srv, before, after)
	srv.Push(next, "app", "v1")
	srv.Check("app", "v1", next)
	if all, err := srv.Repositories(t.Context()); err != nil || !slices.Equal(all, []string{"app"}) {
		t.Fatalf("the new root has %q, %v", all, err)
	}
	// Another process on the old root only reads as long as the upload goes on.
	other := registry.Config(t, config(before, 0))
	if err := other.Get(t.Context(), "/health/readyz"); remote.Status(err) != http.StatusServiceUnavailable {
		t.Fatalf("readiness of a second process: %v, want 503", err)
	}

	down.Read(t, chunk)
	up.Write(t, chunk)
	down.Finish(t)
	wantLocked(t, srv, before, after)
	up.Finish(t)
	other.Await("/health/readyz")
	wantLocked(t, srv, after)
	wantLocked(t, other, before)
	up.Check(t, &other.Registry)
	other.Check("app", "v1", old)
	left.Resume(t, &other.Registry)
	if all, err := srv.Repositories(t.Context()); err != nil || !slices.Equal(all, []string{"app"}) {
		t.Fatalf("the new root has %q, %v", all, err)
	}
}
