//go:build real

// Package slow has uploads and downloads that take as long as a test wants.
package slow

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// Upload is an upload session, and the request of it that is under way.
type Upload struct {
	repository string
	session    *remote.Upload
	content    []byte
	acked      int // bytes that the server has said it has
	sent       int // bytes that it may have

	pipe  *io.PipeWriter
	ended chan error // how the request ended
}

// NewUpload begins a session and sends it the first quarter of the content.
func NewUpload(t *testing.T, to *remote.Repository, content []byte) *Upload {
	t.Helper()
	session, err := to.StartUpload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := &Upload{repository: to.Name, session: session, content: content, acked: len(content) / 4}
	u.sent = u.acked
	if err := session.Append(t.Context(), 0, content[:u.acked]); err != nil {
		t.Fatal(err)
	}
	return u
}

// Patch begins a request that adds to the content.
func (u *Upload) Patch() { u.begin(u.session.Stream) }

// Put begins a request that adds the rest of the content and commits it.
func (u *Upload) Put() {
	u.begin(func(ctx context.Context, r io.Reader) error {
		return u.session.CommitFrom(ctx, u.digest(), r)
	})
}

// begin: the request has no context of a test, since how it ends is what's tested.
func (u *Upload) begin(request func(context.Context, io.Reader) error) {
	r, w := io.Pipe()
	u.pipe, u.ended = w, make(chan error, 1)
	go func() {
		err := request(context.Background(), r)
		_ = r.CloseWithError(io.ErrClosedPipe) // nobody reads any more
		u.ended <- err
	}()
}

// Write sends so many more bytes in the request. It returns when the client has
// taken them; if that sends Expect: 100-continue, the server has asked for them.
func (u *Upload) Write(t *testing.T, n int) {
	t.Helper()
	if _, err := u.pipe.Write(u.content[u.sent : u.sent+n]); err != nil {
		t.Fatalf("after %d bytes: %v, %v", u.sent, err, <-u.ended)
	}
	u.sent += n
}

// Finish sends the rest of the content and ends the request.
func (u *Upload) Finish(t *testing.T) {
	t.Helper()
	u.Write(t, len(u.content)-u.sent)
	if err := u.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-u.ended; err != nil {
		t.Fatal(err)
	}
	u.acked = u.sent
}

// Abandon sends no more in the request, and says how it ended.
func (u *Upload) Abandon() error {
	_ = u.pipe.CloseWithError(errAbandoned) // which is never an error
	return <-u.ended
}

var errAbandoned = errors.New("the client sends no more")

// Resume goes on with the session at a server, where that says that it is, and
// reads what comes of it.
func (u *Upload) Resume(t *testing.T, at *remote.Registry) {
	t.Helper()
	ctx := t.Context()
	u.session.Registry = at
	offset, err := u.session.Offset(ctx)
	if err != nil {
		t.Fatalf("the session in %s: %v", u.repository, err)
	}
	if offset < u.acked || offset > u.sent {
		t.Fatalf("the session in %s has %d bytes; it had acknowledged %d and was sent %d", u.repository, offset, u.acked, u.sent)
	}
	t.Logf("the session in %s goes on at %d of %d bytes", u.repository, offset, len(u.content))
	if middle := (offset + len(u.content)) / 2; middle > offset {
		if err := u.session.Append(ctx, offset, u.content[offset:middle]); err != nil {
			t.Fatal(err)
		}
		offset = middle
	}
	if err := u.session.Commit(ctx, u.digest(), u.content[offset:]); err != nil {
		t.Fatal(err)
	}
	u.Check(t, at)
}

// Check reads the blob that has come of the upload.
func (u *Upload) Check(t *testing.T, at *remote.Registry) {
	t.Helper()
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: u.digest(), Size: int64(len(u.content))}
	if _, err := image.Verify(t.Context(), at.Repository(u.repository), want); err != nil {
		t.Fatal(err)
	}
}

func (u *Upload) digest() digest.Digest { return digest.FromBytes(u.content) }
