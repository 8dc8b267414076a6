//go:build real

package reload

import (
	"bytes"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// slowUpload is an upload in one request that takes as long as the test.
type slowUpload struct {
	upload  *remote.Upload
	pipe    *io.PipeWriter
	ended   chan error
	content bytes.Buffer
	srv     *registry.Server
}

func newSlowUpload(t *testing.T, srv *registry.Server) *slowUpload {
	t.Helper()
	u, err := srv.Repository("slow").StartUpload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	s := &slowUpload{upload: u, pipe: w, ended: make(chan error, 1), srv: srv}
	go func() {
		err := u.Stream(t.Context(), r)
		_ = r.CloseWithError(io.ErrClosedPipe) // nobody reads any more
		s.ended <- err
	}()
	s.write(t)
	return s
}

// write sends another chunk.
func (s *slowUpload) write(t *testing.T) {
	t.Helper()
	chunk := bytes.Repeat([]byte{byte(s.content.Len() >> 10)}, 10<<10)
	s.content.Write(chunk)
	if _, err := s.pipe.Write(chunk); err != nil {
		t.Fatalf("after %d bytes: %v, %v", s.content.Len(), err, <-s.ended)
	}
}

// finish ends the upload and commits it.
func (s *slowUpload) finish(t *testing.T) {
	t.Helper()
	if err := s.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
	if err := s.upload.Commit(t.Context(), digest.FromBytes(s.content.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
}
