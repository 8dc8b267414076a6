package ociregistry

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestBlobsAreSentInLargeChunks: but not against the will of who has set a chunk,
// or wants clients to be quick.
func TestBlobsAreSentInLargeChunks(t *testing.T) {
	const caddys = caddyhttp.DefaultMaxWriteChunk
	for name, tc := range map[string]struct {
		method, path string
		chunk        int
		timeout      time.Duration
		want         int
	}{
		"a pull":             {http.MethodGet, "/v2/a/blobs/sha256:0", caddys, time.Minute, sendChunk},
		"a manifest":         {http.MethodGet, "/v2/a/manifests/v1", caddys, time.Minute, caddys},
		"an upload":          {http.MethodPatch, "/v2/a/blobs/uploads/1", caddys, time.Minute, caddys},
		"a chunk that's set": {http.MethodGet, "/v2/a/blobs/sha256:0", 128 << 10, time.Minute, 128 << 10},
		"less time":          {http.MethodGet, "/v2/a/blobs/sha256:0", caddys, 10 * time.Second, caddys},
	} {
		w := &caddyhttp.IdleTimeoutWriter{MaxChunk: tc.chunk, Deadline: caddyhttp.IdleDeadline{Timeout: tc.timeout}}
		r := httptest.NewRequestWithContext(caddyhttp.ContextWithIdleTimeouts(t.Context(), nil, w), tc.method, tc.path, nil)
		restore := sendInChunks(r)
		if w.MaxChunk != tc.want || w.Deadline.Timeout != tc.timeout {
			t.Errorf("%s: chunks of %d bytes in %s each, want %d in %s", name, w.MaxChunk, w.Deadline.Timeout, tc.want, tc.timeout)
		}
		restore()
		if w.MaxChunk != tc.chunk {
			t.Errorf("%s: afterwards chunks are %d bytes, want %d", name, w.MaxChunk, tc.chunk)
		}
	}
	sendInChunks(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/a/blobs/sha256:0", nil))() // write_idle off
}
