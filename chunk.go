package ociregistry

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sendChunk is how much of a blob is handed to the kernel at a time, in bytes.
// Caddy's 64 KiB take a fifth more CPU. A client has Caddy's write_idle, a minute,
// to take each chunk: at 4 KiB/s it does.
const sendChunk = 256 << 10

// sendInChunks has the blob that r asks for sent in chunks of sendChunk, unless
// somebody has set another size, or gives clients less time. The caller calls
// restore once r is answered.
func sendInChunks(r *http.Request) (restore func()) {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
		return func() {}
	}
	_, w := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if w == nil || w.MaxChunk != caddyhttp.DefaultMaxWriteChunk || w.Deadline.Timeout < time.Minute {
		return func() {}
	}
	return w.Override(w.Deadline.Timeout, w.Deadline.MinRate, sendChunk)
}
