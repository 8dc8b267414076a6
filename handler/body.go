package handler

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
)

// body reads a request's body: no further than its end, which servers mind,
// and no further than a limit. It remembers what ended it, so that a failure
// to receive can be told from a failure to store.
type body struct {
	r       io.Reader
	n       int64 // bytes read
	limit   int64 // bytes that may come; negative if any number may
	tooLong error // what it's called if more do
	err     error // what ended it, io.EOF at its end
}

func newBody(r *http.Request) body {
	b := body{r: r.Body, limit: -1}
	if r.ContentLength == 0 || r.Body == nil {
		b.err = io.EOF // known without looking
	}
	return b
}

// atMost makes b fail with tooLong once more than limit bytes have come. The
// bytes up to the limit are read before that.
func (b *body) atMost(limit int64, tooLong error) {
	if b.limit < 0 || limit < b.limit {
		b.limit, b.tooLong = limit, tooLong
	}
}

// ended reports whether there's nothing more to read.
func (b *body) ended() bool { return b.err != nil }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.ended() || len(p) == 0 {
		return 0, b.err
	}
	if b.limit >= 0 {
		p = p[:min(int64(len(p)), b.limit-b.n+1)] // one byte more than may come shows that it's too long
	}
	n, err := b.r.Read(p)
	if b.limit >= 0 && b.n+int64(n) > b.limit {
		n, err = int(b.limit-b.n), b.tooLong
	}
	b.n += int64(n)
	b.err = err
	return n, err
}

// failure says what was wrong with the body, or returns err, the error of who
// read it, if nothing was.
func (b *body) failure(err error) error {
	var oe *oci.Error
	var tooBig *http.MaxBytesError
	switch {
	case b.err == nil || b.err == io.EOF: //nolint:errorlint // as Read returned it
		return err
	case errors.As(b.err, &oe), errors.As(b.err, &tooBig):
		return b.err
	case b.timedOut():
		return errors.Join(oci.WithStatus(http.StatusRequestTimeout, oci.SizeInvalid, "no more came in time, after %d bytes", b.n), b.err)
	case errors.Is(b.err, io.ErrUnexpectedEOF):
		return oci.Errorf(oci.SizeInvalid, "the body ended after %d bytes", b.n)
	}
	// The cause may name our addresses: it's for the log.
	return errors.Join(oci.Errorf(oci.SizeInvalid, "the body broke off after %d bytes", b.n), b.err)
}

// timedOut reports whether the server has lost its patience with the client, which
// may be there and be told.
func (b *body) timedOut() bool { return errors.Is(b.err, os.ErrDeadlineExceeded) }

// drainable is how much of a body net/http reads by itself after the response, to
// use the connection again.
const drainable = 256 << 10

// leaveBody makes sure that an answer reaches a client that is still sending.
// On HTTP/1 net/http would read on before it answers, and wait for a client that
// waits for it, unless the connection is to be closed anyway. It reports whether
// hearOut has to follow the answer.
//
// After chunks the connection is closed even if all were read: where a proxy in
// front has believed a Content-Length beside them, what comes next may be what
// it took for the body (RFC 9112, section 6.3). net/http takes that length away.
func (r *request) leaveBody(header http.Header) bool {
	chunked := r.ContentLength < 0
	if r.ProtoMajor != 1 || !chunked && r.ContentLength-r.body.n <= drainable {
		return false
	}
	if chunked || r.body.err != io.EOF { //nolint:errorlint // as Read returned it
		header.Set("Connection", "close")
	}
	return r.body.err != io.EOF //nolint:errorlint // the same
}

// patience is how long a client may go on sending that was refused.
const patience = time.Second

// hearOut sends the answer, and drops what the client sends until it has seen it.
// To close the connection before that would reset it, and the client may lose the
// answer. net/http waits by itself, but not for a body that another handler has
// wrapped, as Caddy does with each.
func (r *request) hearOut(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	if c.Flush() != nil || c.SetReadDeadline(time.Now().Add(patience)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // it ends with an error, and nobody minds
}
