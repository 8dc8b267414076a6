//go:build real

package crash

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// session is an upload that is open when the server is killed.
type session struct {
	repository string
	content    []byte
	acked      int // bytes that the server has said it has
	sent       int // bytes that it may have
	upload     *remote.Upload
}

// newSession begins an upload and sends its first part.
func newSession(w *work, repository string) *session {
	w.t.Helper()
	s := &session{repository: repository, content: image.RandomLayer(w.seed.Add(1), 4*w.layerSize)}
	s.acked = len(s.content) / 4
	s.sent = s.acked
	var err error
	if s.upload, err = w.srv.Repository(repository).StartUpload(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := s.upload.Append(w.t.Context(), 0, s.content[:s.acked]); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// stream sends a second part in a request that goes on until the server is killed.
func (s *session) stream(w *work) {
	s.sent = len(s.content) / 2
	err := s.upload.Stream(context.Background(), &halting{s.content[s.acked:s.sent], w.killed})
	if err == nil {
		w.t.Error("a request ended that never did")
		return
	}
	w.failed(err)
}

// halting is a reader that has something, and then only waits for the end.
type halting struct {
	rest []byte
	end  <-chan struct{}
}

func (h *halting) Read(p []byte) (int, error) {
	if len(h.rest) == 0 {
		<-h.end
		return 0, errKilled
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

// finish goes on with the session where another server says that it is.
func (s *session) finish(t *testing.T, srv *registry.Server) {
	t.Helper()
	ctx := t.Context()
	s.upload.Registry = &srv.Registry
	offset, err := s.upload.Offset(ctx)
	if err != nil {
		t.Fatalf("the session %s: %v", s.repository, err)
	}
	if offset < s.acked || offset > s.sent {
		t.Fatalf("the session %s has %d bytes; it had acknowledged %d and was sent %d", s.repository, offset, s.acked, s.sent)
	}
	t.Logf("the session %s goes on at %d of %d bytes", s.repository, offset, len(s.content))
	middle := (offset + len(s.content)) / 2
	if err := s.upload.Append(ctx, offset, s.content[offset:middle]); err != nil {
		t.Fatal(err)
	}
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(s.content), Size: int64(len(s.content))}
	if err := s.upload.Commit(ctx, want.Digest, s.content[middle:]); err != nil {
		t.Fatal(err)
	}
	if _, err := image.Verify(ctx, srv.Repository(s.repository), want); err != nil {
		t.Fatal(err)
	}
}
