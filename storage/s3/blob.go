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
	return &content{ctx: ctx, repository: r, digest: d, entry: e}
}

// content is a blob that's being read. Reading on is one call for all that
// follows; reading elsewhere is another one.
type content struct {
	ctx        context.Context //nolint:containedctx // an io.Reader has no other way to be told
	repository *Repository
	digest     digest.Digest
	entry      entry

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
		offset += c.entry.Size
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
	if c.at >= c.entry.Size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), c.entry.Size-c.at)]
	for tries := c.repository.store.patience.begin(); ; {
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
		if err := c.start(); err != nil {
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
	return 0, fmt.Errorf("%w: read %s: %w", errTemporary, c.digest, errors.Join(err, c.stop()))
}

// errGone says that a record names bytes that aren't there.
var errGone = errors.New("the bytes are gone")

// start begins to read from at on. If the object is gone the blob may be elsewhere.
func (c *content) start() error {
	err := c.get()
	if !errors.Is(err, errNotFound) {
		return err
	}
	known, done, err := c.repository.enter()
	if err != nil {
		return err
	}
	defer done()
	s, err := known.refresh(c.ctx)
	if err != nil {
		return err
	}
	b := s.find(c.digest)
	if b == nil {
		return unknownBlob(c.digest)
	}
	if b.inline() && b.Size > 0 {
		c.body = inRecord{bytes.NewReader(b.Raw[c.at:])}
		return nil
	}
	if b.ID == c.entry.ID {
		return fmt.Errorf("%w: %s at %s", errGone, c.digest, c.repository.store.keys.data(c.entry.ID))
	}
	c.entry = b.entry
	return c.get()
}

func (c *content) get() error {
	what := getRequest{Key: c.repository.store.keys.data(c.entry.ID), Offset: c.entry.Offset + c.at, Length: c.entry.Size - c.at}
	got, err := c.repository.store.bucket.get(c.ctx, what)
	if err != nil {
		return err
	}
	c.body = got.ReadCloser
	return nil
}
