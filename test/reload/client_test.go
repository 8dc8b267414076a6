//go:build real

package reload

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// patient sends requests again that nobody has begun to serve.
//
// When Caddy reloads, it opens its port anew, and connections that wait at the
// old one, or are idle, are dropped: about two for each reload under load, at a
// site that only responds as well as at a registry. Every client has to send
// those requests again. It would hide what this test looks for to do that
// with others, so bodies wait until the registry asks for them: a request that
// fails afterwards has failed.
type patient struct {
	next   http.RoundTripper
	resent atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	const attempts = 5
	for i := 1; ; i++ {
		var served atomic.Bool
		ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got100Continue:       func() { served.Store(true) },
			GotFirstResponseByte: func() { served.Store(true) },
		})
		try := req.Clone(ctx)
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			try.Body = body
		}
		if try.Body != nil {
			try.Header.Set("Expect", "100-continue")
		}
		resp, err := p.next.RoundTrip(try)
		if err == nil || served.Load() || i == attempts {
			return resp, err
		}
		p.resent.Add(1)
	}
}

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
