package handler

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-oci/oci-registry/oci"
)

// chunk is what a client says of the bytes it sends to an upload session.
type chunk struct {
	offset int64 // where they belong; negative if it doesn't say
	length int64 // how many they are; negative if it doesn't say
}

// parseChunk reads Content-Range and Content-Length, which must agree.
func parseChunk(r *http.Request) (chunk, error) {
	c := chunk{offset: -1, length: r.ContentLength}
	s := r.Header.Get("Content-Range")
	if s == "" {
		return c, nil
	}
	start, length, ok := parseContentRange(s)
	if !ok {
		return c, oci.Errorf(oci.BlobUploadInvalid, "Content-Range %q, want <first>-<last>", clip(s))
	}
	if c.length >= 0 && c.length != length {
		return c, oci.Errorf(oci.SizeInvalid, "Content-Range says %d bytes, Content-Length %d", length, c.length)
	}
	return chunk{start, length}, nil
}

// parseContentRange reads the spec's <first>-<last>, and the "bytes
// <first>-<last>/<size>" of RFC 9110 that some clients send instead.
func parseContentRange(s string) (start, length int64, ok bool) {
	if rest, isHTTP := strings.CutPrefix(s, "bytes "); isHTTP {
		s, _, _ = strings.Cut(rest, "/")
	}
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, false
	}
	// 62 bits, so that no sum of two overflows.
	a, err := strconv.ParseUint(first, 10, 62)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(last, 10, 62)
	if err != nil || b < a {
		return 0, 0, false
	}
	return int64(a), int64(b-a) + 1, true
}
