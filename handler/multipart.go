package handler

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// newBoundary returns a delimiter that content can't hold other than by chance.
func newBoundary() string { return rand.Text() }

// partHeader is what precedes a part of multipart/byteranges (RFC 9110, section 14.6).
func partHeader(r byteRange, desc oci.Descriptor, boundary string) string {
	return "\r\n--" + boundary + "\r\nContent-Type: " + desc.MediaType +
		"\r\nContent-Range: " + contentRange(r, desc.Size) + "\r\n\r\n"
}

func lastBoundary(boundary string) string { return "\r\n--" + boundary + "--\r\n" }

// multipartSize is the length of what sendParts writes.
func multipartSize(ranges []byteRange, desc oci.Descriptor, boundary string) int64 {
	size := int64(len(lastBoundary(boundary)))
	for _, r := range ranges {
		size += int64(len(partHeader(r, desc, boundary))) + r.length
	}
	return size
}

// sendParts writes the ranges as multipart/byteranges, gathering small ones:
// most of a thousand are smaller than a packet.
func (r *request) sendParts(w http.ResponseWriter, b *storage.Blob, desc oci.Descriptor, ranges []byteRange, boundary string) error {
	buf, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	g := gatherer{w: w, buf: buf[:0]}
	defer func() { r.event.Sent += g.sent }()
	for _, part := range ranges {
		if err := g.writeString(partHeader(part, desc, boundary)); err != nil {
			return err
		}
		if _, err := b.Seek(part.start, io.SeekStart); err != nil {
			return fmt.Errorf("seek in %s: %w", b.Digest, err)
		}
		if err := g.readFrom(b, part.length); err != nil {
			return err
		}
	}
	if err := g.writeString(lastBoundary(boundary)); err != nil {
		return err
	}
	return g.flush()
}

// gatherer collects writes in a buffer, and reads into it without another copy.
type gatherer struct {
	w    io.Writer
	buf  []byte // of constant capacity
	sent int64
}

func (g *gatherer) flush() error {
	n, err := g.w.Write(g.buf)
	g.sent += int64(n)
	g.buf = g.buf[:0]
	return err
}

// writeString adds s, which is shorter than the buffer.
func (g *gatherer) writeString(s string) error {
	if len(g.buf)+len(s) > cap(g.buf) {
		if err := g.flush(); err != nil {
			return err
		}
	}
	g.buf = append(g.buf, s...)
	return nil
}

func (g *gatherer) readFrom(r io.Reader, length int64) error {
	for length > 0 {
		if len(g.buf) == cap(g.buf) {
			if err := g.flush(); err != nil {
				return err
			}
		}
		have := len(g.buf)
		free := min(length, int64(cap(g.buf)-have))
		n, err := io.ReadFull(r, g.buf[have:have+int(free)])
		if err != nil {
			return fmt.Errorf("content ends %d bytes early: %w", length-int64(n), err)
		}
		g.buf = g.buf[:have+n]
		length -= int64(n)
	}
	return nil
}
