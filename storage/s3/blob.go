package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// inRecord is a blob whose bytes are known.
type inRecord struct{ *bytes.Reader }

func (inRecord) Close() error { return nil }

// content returns the bytes of a blob, of which none is read yet.
func (r *Repository) content(ctx context.Context, d digest.Digest, e entry) io.ReadSeekCloser {
	if e.inline() {
		return inRecord{bytes.NewReader(e.Raw)}
	}
	at := &located{r, d, e}
	return inObject{&content{ctx: ctx, patience: r.store.patience, what: d, size: e.Size, open: at.open}, at}
}

// inObject is a blob that has an object of its own, or a part of one.
type inObject struct {
	*content

	at *located
}

// content is a blob that's being read. Reading on is one call for all that
// follows; reading elsewhere is another one.
type content struct {
	ctx      context.Context //nolint:containedctx // an io.Reader has no other way to be told
	patience *patience
	what     digest.Digest
	size     int64
	open     func(ctx context.Context, at int64) (io.ReadCloser, error) // reads from at on

	at     int64
	body   io.ReadCloser // the rest from at on, or nil
	closed bool
}

// Seek implements io.Seeker. It doesn't ask the bucket.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.size
	default:
		return 0, fmt.Errorf("seek from %d", whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	if offset != c.at {
		c.at = offset
		return offset, c.stop()
	}
	return offset, nil
}

func (c *content) stop() error {
	if c.body == nil {
		return nil
	}
	body := c.body
	c.body = nil
	return body.Close()
}

// Close implements io.Closer.
func (c *content) Close() error {
	c.closed = true
	return c.stop()
}

// Read implements io.Reader. A connection that breaks is made anew.
func (c *content) Read(p []byte) (int, error) {
	if c.closed {
		return 0, storage.ErrClosed
	}
	if c.at >= c.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.size-c.at)]
	for tries := c.patience.begin(); ; {
		n, err := c.readOnce(p)
		c.at += int64(n)
		if n > 0 {
			return n, nil
		}
		if !passing(err) {
			return 0, err
		}
		if err := tries.again(c.ctx, err); err != nil {
			return 0, err
		}
	}
}

func (c *content) readOnce(p []byte) (int, error) {
	if c.body == nil {
		var err error
		if c.body, err = c.open(c.ctx, c.at); err != nil {
			return 0, err
		}
	}
	n, err := c.body.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	if c.ctx.Err() != nil {
		return 0, errors.Join(err, c.stop())
	}
	return 0, fmt.Errorf("%w: read %s: %w", errTemporary, c.what, errors.Join(err, c.stop()))
}

// errGone says that a record names bytes that aren't there.
var errGone = errors.New("the bytes are gone")

// located is where a blob of a repository was when somebody asked for it.
type located struct {
	repository *Repository
	digest     digest.Digest
	entry      entry
}

// open reads from at on. If the object is gone the blob may be elsewhere.
func (l *located) open(ctx context.Context, at int64) (io.ReadCloser, error) {
	body, err := l.get(ctx, at)
	if !errors.Is(err, errNotFound) {
		return body, err
	}
	known, done, err := l.repository.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := known.refresh(ctx)
	if err != nil {
		return nil, err
	}
	b := s.find(l.digest)
	if b == nil {
		return nil, unknownBlob(l.digest)
	}
	if b.inline() && b.Size > 0 {
		return inRecord{bytes.NewReader(b.Raw[at:])}, nil
	}
	if b.ID == l.entry.ID {
		return nil, fmt.Errorf("%w: %s at %s", errGone, l.digest, l.repository.store.keys.data(l.entry.ID))
	}
	l.entry = b.entry
	return l.get(ctx, at)
}

func (l *located) get(ctx context.Context, at int64) (io.ReadCloser, error) {
	s := l.repository.store
	return read(ctx, s.bucket, getRequest{Key: s.keys.data(l.entry.ID), Offset: l.entry.Offset + at, Length: l.entry.Size - at})
}

// read is get for who needs no etag.
func read(ctx context.Context, from *patient, what getRequest) (io.ReadCloser, error) {
	got, err := from.get(ctx, what)
	if err != nil {
		return nil, err
	}
	return got.ReadCloser, nil
}
