package handler

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// selection is what a GET or HEAD is answered with.
type selection struct {
	status int // 200, 206 or 304
	ranges []byteRange
}

// serveContent answers a GET or HEAD of the content that desc describes. b is
// that content; nil if it isn't open yet, and then it's opened if it's needed.
//
// http.ServeContent would do the same and lose sendfile inside Caddy, whose
// writer and it each limit the file once, where net/http sees through one limit.
func (r *request) serveContent(w http.ResponseWriter, desc oci.Descriptor, b *storage.Blob, cache string) error {
	s, err := r.selectContent(desc)
	if err != nil {
		if errors.Is(err, errUnsatisfiable) {
			w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(desc.Size, 10))
		}
		return err
	}
	if s.status == http.StatusNotModified || r.Method == http.MethodHead {
		r.describe(w.Header(), s, desc, cache)
		r.respond(w, s.status)
		return nil
	}
	if b == nil {
		if b, err = r.repo.OpenBlob(r.Context(), desc.Digest); err != nil {
			return err
		}
		defer closeBlob(b)
	}
	if err := checkSize(b, desc.Size); err != nil {
		return err
	}
	boundary := r.describe(w.Header(), s, desc, cache)
	r.respond(w, s.status)
	defer letGo(r.gather(desc.Size))
	return r.send(w, b, desc, s.ranges, boundary)
}

// selectContent evaluates conditions and ranges in the order of RFC 9110,
// section 13.2.2. Ranges are for GET only (section 14.2).
func (r *request) selectContent(desc oci.Descriptor) (selection, error) {
	whole := selection{status: http.StatusOK}
	match, err := strongTags(r.Header, "If-Match")
	if err != nil {
		return whole, err
	}
	if match != nil && !matchesTag(match, desc.Digest) {
		return whole, oci.WithStatus(http.StatusPreconditionFailed, oci.Denied, "If-Match doesn't hold")
	}
	noneMatch, err := weakTags(r.Header, "If-None-Match")
	if err != nil {
		return whole, err
	}
	if matchesTag(noneMatch, desc.Digest) {
		return selection{status: http.StatusNotModified}, nil
	}
	wanted, err := headerList(r.Header, "Range")
	if err != nil || wanted == "" || r.Method != http.MethodGet {
		return whole, err
	}
	if c := r.Header.Get("If-Range"); c != "" && c != entityTag(desc.Digest) {
		return whole, nil // other content, a weak tag, or a date, which digests don't have
	}
	ranges, err := parseRanges(wanted, desc.Size)
	if err != nil || len(ranges) == 0 {
		return whole, err
	}
	return selection{http.StatusPartialContent, ranges}, nil
}

// describe describes the response. It returns the boundary of its parts, if it has any.
func (r *request) describe(header http.Header, s selection, desc oci.Descriptor, cache string) (boundary string) {
	r.values.set(header, "Docker-Content-Digest", desc.Digest.String())
	r.values.set(header, "Etag", entityTag(desc.Digest))
	r.values.set(header, "Cache-Control", cache)
	if s.status == http.StatusNotModified {
		return ""
	}
	if r.kind == getBlob { // nobody resumes a manifest
		header["Accept-Ranges"] = anyBytes
	}
	mediaType, size := desc.MediaType, desc.Size
	switch len(s.ranges) {
	case 0:
	case 1:
		size = s.ranges[0].length
		r.values.set(header, "Content-Range", contentRange(s.ranges[0], desc.Size))
	default:
		boundary = newBoundary()
		size = multipartSize(s.ranges, desc, boundary)
		mediaType = "multipart/byteranges; boundary=" + boundary
	}
	r.values.set(header, "Content-Type", mediaType)
	r.values.setInt(header, "Content-Length", size)
	return boundary
}

func contentRange(r byteRange, size int64) string {
	return "bytes " + strconv.FormatInt(r.start, 10) + "-" + strconv.FormatInt(r.end()-1, 10) + "/" + strconv.FormatInt(size, 10)
}

// checkSize makes sure before the header is out that the content is as long as
// the header will say: sendfile knows no Content-Length and sends a file to its end.
func checkSize(b *storage.Blob, want int64) error {
	size := b.Size
	if _, isFile := b.ReadSeekCloser.(*os.File); !isFile { // a file's was looked up when it was opened
		var err error
		if size, err = b.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("measure %s: %w", b.Digest, err)
		}
	}
	if size != want {
		return fmt.Errorf("%s has %d bytes, its descriptor says %d", b.Digest, size, want)
	}
	return nil
}

// send writes the ranges, or all of b. An error means that the response isn't whole.
func (r *request) send(w http.ResponseWriter, b *storage.Blob, desc oci.Descriptor, ranges []byteRange, boundary string) error {
	if len(ranges) > 1 {
		return r.sendParts(w, b, desc, ranges, boundary)
	}
	all := byteRange{0, desc.Size}
	if len(ranges) == 1 {
		all = ranges[0]
	}
	if f, isFile := b.ReadSeekCloser.(*os.File); isFile {
		return r.sendFromFile(w, f, all, desc.Size)
	}
	if _, err := b.Seek(all.start, io.SeekStart); err != nil {
		return fmt.Errorf("seek in %s: %w", b.Digest, err)
	}
	if content, ok := b.ReadSeekCloser.(inMemory); ok && len(ranges) == 0 {
		return r.sendAll(w, content, desc.Size)
	}
	return r.copyTo(w, b, all.length)
}

// inMemory is content that can be written as it is.
type inMemory interface {
	io.WriterTo
	Len() int // what isn't read yet, in bytes
}

func (r *request) sendAll(w io.Writer, content inMemory, length int64) error {
	n, err := content.WriteTo(w)
	r.event.Sent += n
	if err == nil && n != length {
		return fmt.Errorf("content ends early: %d bytes sent, want %d", n, length)
	}
	return err
}

// sendFromFile has the kernel send what it can send by itself: the rest of a file.
func (r *request) sendFromFile(w http.ResponseWriter, f *os.File, part byteRange, size int64) error {
	rf, canReadFrom := w.(io.ReaderFrom)
	if !canReadFrom || part.end() != size || part.length < sendfileFrom || !isPlainHTTP1(r.Request) {
		return r.copyTo(w, io.NewSectionReader(f, part.start, part.length), part.length)
	}
	if part.start > 0 {
		if _, err := f.Seek(part.start, io.SeekStart); err != nil {
			return err
		}
	}
	return r.sendFile(rf, f, part.length)
}

// sendfileFrom is the size from which sendfile is worth it, in bytes. Smaller
// content goes out in one write, sooner than two system calls for header and file.
const sendfileFrom = 64 << 10

// isPlainHTTP1 reports whether the kernel could send a file by itself.
func isPlainHTTP1(r *http.Request) bool { return r.ProtoMajor == 1 && r.TLS == nil }

// sendFile hands over the bare file, which ends where the response does.
func (r *request) sendFile(w io.ReaderFrom, f *os.File, length int64) error {
	n, err := w.ReadFrom(f)
	r.event.Sent += n
	if err == nil && n != length {
		return fmt.Errorf("file changed: %d bytes sent, want %d", n, length)
	}
	return err
}

// buffers hold what is copied. Through Caddy on HTTP/2, io.Copy would make a
// buffer of 32 KiB for every 64 KiB. Until bufferSize bytes are out a response
// makes do with one of firstBuffers: on one connection a client that reads
// nothing can ask for hundreds.
var (
	buffers      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	firstBuffers = sync.Pool{New: func() any { return new([firstBuffer]byte) }}
)

const (
	bufferSize  = 256 << 10
	firstBuffer = sendfileFrom
)

func (r *request) copyTo(w io.Writer, from io.Reader, length int64) error {
	first, _ := firstBuffers.Get().(*[firstBuffer]byte)
	n := min(length, bufferSize)
	err := r.copyBy(first[:], w, from, n)
	firstBuffers.Put(first)
	if err != nil || n == length {
		return err
	}
	buf, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	return r.copyBy(buf[:], w, from, length-n)
}

// copyBy copies by pieces of the size of buf.
func (r *request) copyBy(buf []byte, w io.Writer, from io.Reader, length int64) error {
	for length > 0 {
		n, err := io.ReadFull(from, buf[:min(length, int64(len(buf)))])
		if err != nil {
			return fmt.Errorf("content ends early: %w", err)
		}
		m, err := w.Write(buf[:n])
		r.event.Sent += int64(m)
		if err != nil {
			return err
		}
		length -= int64(n)
	}
	return nil
}
