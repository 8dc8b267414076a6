//go:build real

package slow

import (
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// Download is a GET of a blob whose client takes its time.
type Download struct {
	body io.ReadCloser
	got  digest.Verifier
	n    int64
	of   image.Part
}

// NewDownload asks for a blob. One of a few MiB doesn't fit the buffers between
// server and client, so the server waits for the client.
func NewDownload(t *testing.T, from *remote.Repository, blob image.Part) *Download {
	t.Helper()
	body, err := from.Open(t.Context(), blob.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = body.Close() })
	return &Download{body: body, got: blob.Digest.Verifier(), of: blob}
}

// Read takes so many more bytes.
func (d *Download) Read(t *testing.T, n int64) {
	t.Helper()
	read, err := io.CopyN(d.got, d.body, n)
	if d.n += read; err != nil {
		t.Fatalf("after %d bytes of %d: %v", d.n, d.of.Size, err)
	}
}

// Finish takes the rest, which has to be that of the blob.
func (d *Download) Finish(t *testing.T) {
	t.Helper()
	n, err := io.Copy(d.got, d.body)
	if d.n += n; err != nil || d.n != d.of.Size || !d.got.Verified() {
		t.Fatalf("%d bytes of %d, verified %t: %v", d.n, d.of.Size, d.got.Verified(), err)
	}
}

// Cut takes what still comes, of which the client has to know that it isn't all.
func (d *Download) Cut(t *testing.T) {
	t.Helper()
	n, err := io.Copy(d.got, d.body)
	if d.n += n; err == nil || d.n >= d.of.Size {
		t.Fatalf("%d bytes of %d, and the client is told %v", d.n, d.of.Size, err)
	}
}
