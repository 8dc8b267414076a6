package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// claims say who copies a blob, so that one which lies in several repositories is
// copied once and shared by the others.
type claims struct {
	mu sync.Mutex
	by map[digest.Digest]*claim
}

type claim struct {
	in   oci.Name      // the target's repository that has the blob, or is going to
	done chan struct{} // closed once it's known whether it has
	ok   bool          // it has; to be read once done is closed
}

// take returns the claim on a blob, and whether it's the caller's to settle.
func (c *claims) take(d digest.Digest, in oci.Name) (*claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.by[d]; known != nil {
		return known, false
	}
	if c.by == nil {
		c.by = make(map[digest.Digest]*claim)
	}
	mine := &claim{in: in, done: make(chan struct{})}
	c.by[d] = mine
	return mine, true
}

// settle ends a claim. If it was in vain, the next one who asks gets a new one.
func (c *claims) settle(d digest.Digest, mine *claim, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok {
		delete(c.by, d)
	}
	mine.ok = ok
	close(mine.done)
}

// copyBlob copies a blob unless it's there, and tells if that can't be. Of one that
// is gone by now is told if a manifest needs it.
func (r *repository) copyBlob(ctx context.Context, d digest.Digest, size int64) error {
	err := r.bring(ctx, d, size)
	if err == nil {
		return nil
	}
	gone := errors.Is(err, errGone)
	r.mu.Lock()
	r.absent[d], r.gone[d] = true, gone
	r.mu.Unlock()
	if gone {
		return nil
	}
	return r.problem(ctx, d.String(), err)
}

// bring makes the target have a blob, in the cheapest way there is.
func (r *repository) bring(ctx context.Context, d digest.Digest, size int64) error {
	for {
		c, mine := r.claims.take(d, r.name)
		if mine {
			err := r.putUnlessThere(ctx, d, size)
			r.claims.settle(d, c, err == nil)
			return err
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if c.ok {
			return r.share(ctx, d, size, c.in)
		}
	}
}

// share has a blob from another repository of the target.
func (r *repository) share(ctx context.Context, d digest.Digest, size int64, in oci.Name) error {
	if r.isThere(ctx, d, size) {
		return nil
	}
	_, err := r.to.MountBlob(ctx, d, in)
	if errors.Is(err, oci.BlobUnknown) { // it lies in another store, or is gone
		return r.send(ctx, d)
	}
	if err == nil {
		r.opts.Progress.Skipped.Add(1)
	}
	return err
}

func (r *repository) putUnlessThere(ctx context.Context, d digest.Digest, size int64) error {
	if r.isThere(ctx, d, size) {
		return nil
	}
	return r.send(ctx, d)
}

// isThere reports whether the target's repository has a blob, of the size that it should have.
func (r *repository) isThere(ctx context.Context, d digest.Digest, size int64) bool {
	has, ok := r.there[d]
	if r.there == nil && r.known != nil {
		desc, err := r.to.StatBlob(ctx, d)
		has, ok = desc.Size, err == nil
	}
	if !ok || has != size {
		return false
	}
	r.opts.Progress.Skipped.Add(1)
	return true
}

// errGone is a blob of the source that isn't there any more.
var errGone = errors.New("it's gone")

// send copies a blob. Its bytes are checked by the store that gets them.
func (r *repository) send(ctx context.Context, d digest.Digest) error {
	b, err := Peek(ctx, r.from, d)
	if errors.Is(err, oci.BlobUnknown) {
		return errGone
	}
	if err != nil {
		return err
	}
	_, err = storage.PutBlob(ctx, r.to, d, counting{b, &r.opts.Progress.Bytes}, storage.UploadOptions{By: r.opts.By, Size: b.Size})
	if errors.Is(err, oci.DigestInvalid) {
		err = errors.New("its bytes are damaged")
	}
	if err = errors.Join(err, b.Close()); err == nil {
		r.opts.Progress.Copied.Add(1)
	}
	return err
}

// counting counts what is read.
type counting struct {
	io.Reader

	bytes *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}
