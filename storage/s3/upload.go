package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// upload is a handle on a session.
type upload struct {
	session *session

	size atomic.Int64 // as last seen
	once sync.Once
}

var _ storage.Upload = (*upload)(nil)

func (u *upload) ID() string  { return u.session.id.text }
func (u *upload) Size() int64 { return u.size.Load() }

func (u *upload) store() *Store { return u.session.repository.store }

// Close writes down what other processes don't know of the session yet, if this
// is the last handle on it here.
func (u *upload) Close() error { return u.leave(context.Background()) }

func (u *upload) leave(ctx context.Context) (err error) {
	u.once.Do(func() {
		done, closed := u.store().begin()
		if closed != nil { // which has written it down
			return
		}
		defer done()
		err = u.store().sessions.leave(context.WithoutCancel(ctx), u.session)
	})
	return err
}

// errTakenOver ends an Append whose session another one has claimed.
var errTakenOver = oci.RangeErrorf("another request goes on with this session")

// Append implements storage.Upload.
func (u *upload) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	done, err := u.store().begin()
	if err != nil {
		return u.Size(), err
	}
	defer done()
	me, err := u.claim(ctx, offset)
	if err != nil {
		return u.Size(), err
	}
	err = u.session.copyFrom(ctx, me, r)
	return u.finish(context.WithoutCancel(ctx), me, err)
}

// claim makes the caller the one that may write. A session that others know of
// is claimed where they see it.
func (u *upload) claim(ctx context.Context, offset int64) (me int, err error) {
	s := u.session
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.unlock()
	if offset < 0 {
		offset = u.Size()
	}
	for {
		if s.ended {
			return 0, unknownUpload(s.id.text)
		}
		err := s.settle()
		if u.size.Store(s.size); err != nil {
			return 0, err
		}
		if offset != s.size {
			return 0, oci.RangeErrorf("offset %d, the session holds %d bytes", offset, s.size)
		}
		if s.etag == "" {
			break
		}
		err = s.write(ctx, s.rec)
		if err == nil {
			break
		}
		if !errors.Is(err, errConflict) {
			return 0, err
		}
		if err := s.reload(ctx); err != nil {
			return 0, err
		}
	}
	s.holder++
	s.writers++
	return s.holder, nil
}

// settle waits for what's being sent. What couldn't be isn't part of the session.
func (s *session) settle() error {
	err := s.content.land(0)
	if err == nil {
		return nil
	}
	s.content.abandon()
	s.size = s.content.inParts()
	return errors.Join(err, restore(s.hash, s.content.partsHash))
}

// reload gives up what is here only for what others see.
func (s *session) reload(ctx context.Context) error {
	s.content.abandon()
	s.dirty = false
	asked := time.Now()
	rec, etag, err := s.read(ctx)
	if err != nil {
		return err
	}
	if etag == "" {
		err = unknownUpload(s.id.text)
	} else {
		err = s.take(rec, etag, asked)
	}
	s.ended = errors.Is(err, oci.BlobUploadUnknown)
	return err
}

// Chunks are what is read before it's hashed. Until one has come it's read in
// smaller ones: of the uploads that stand still most have hardly begun.
const (
	chunkSize  = 256 << 10
	firstChunk = 16 << 10
)

var (
	chunks      = sync.Pool{New: func() any { return new([chunkSize]byte) }}
	firstChunks = sync.Pool{New: func() any { return new([firstChunk]byte) }}
)

// copyFrom reads r to its end.
func (s *session) copyFrom(ctx context.Context, me int, r io.Reader) error {
	first, _ := firstChunks.Get().(*[firstChunk]byte)
	defer firstChunks.Put(first)
	for n := 0; n < chunkSize; n += firstChunk {
		if ended, err := s.copyChunk(ctx, me, r, first[:]); ended || err != nil {
			return err
		}
	}
	chunk, _ := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)
	for {
		if ended, err := s.copyChunk(ctx, me, r, chunk[:]); ended || err != nil {
			return err
		}
	}
}

// copyChunk adds what of r fits into chunk, and reports whether r has ended.
func (s *session) copyChunk(ctx context.Context, me int, r io.Reader, chunk []byte) (ended bool, err error) {
	n, rerr := readChunk(r, chunk)
	if n > 0 {
		if err := s.add(ctx, me, chunk[:n]); err != nil {
			return false, err
		}
	}
	switch {
	case rerr == io.EOF: //nolint:errorlint // a Reader's end is this value; wrapped, it's a failure
		return true, nil
	case rerr != nil:
		return false, fmt.Errorf("upload stopped: %w", rerr)
	}
	return false, ctx.Err()
}

// add appends p for the Append that may write.
func (s *session) add(ctx context.Context, me int, p []byte) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	for len(p) > 0 {
		if s.ended {
			return unknownUpload(s.id.text)
		}
		if s.holder != me {
			return errTakenOver
		}
		room := s.content.room()
		if room <= 0 {
			if err := s.sendPart(context.WithoutCancel(ctx)); err != nil {
				return s.overtaken(ctx, err)
			}
			continue
		}
		n := min(room, int64(len(p)))
		if err := s.content.add(ctx, p[:n]); err != nil {
			return err
		}
		_, _ = s.hash.Write(p[:n]) // a hash doesn't fail
		s.size += n
		s.dirty = true
		p = p[n:]
	}
	return nil
}

// overtaken returns what an error means that came of writing the session's
// record. If another process has claimed the session, what is here only is lost.
func (s *session) overtaken(ctx context.Context, err error) error {
	if !errors.Is(err, errConflict) {
		return err
	}
	s.holder++
	if err := s.reload(ctx); err != nil {
		return err
	}
	return errTakenOver
}

// finish ends an Append that came to err.
func (u *upload) finish(ctx context.Context, me int, err error) (int64, error) {
	s := u.session
	_ = s.lock(ctx) // it doesn't end
	defer s.unlock()
	s.writers--
	if lost := s.settle(); lost != nil {
		err = errors.Join(err, lost)
	}
	u.size.Store(s.size)
	switch {
	case err != nil:
	case s.ended:
		err = unknownUpload(s.id.text)
	case s.holder != me:
		err = errTakenOver
	}
	return s.size, err
}

// save writes down what is here only.
func (s *session) save(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.ended || !s.dirty {
		return nil
	}
	err := errors.Join(s.settle(), s.persist(ctx))
	if errors.Is(err, errConflict) {
		return s.overtaken(ctx, err)
	}
	return err
}

// persist makes the record say all there is.
func (s *session) persist(ctx context.Context) (err error) {
	c, rec := &s.content, s.rec
	if len(c.buf) > c.store.limits.inline {
		if err := c.spill(ctx); err != nil {
			return err
		}
	}
	rec.Parts, rec.PartsHash, rec.PartSize, rec.NextPart = c.parts, c.partsHash, c.partSize, c.next
	rec.Rests, rec.Inline, rec.Size = c.rests, c.buf, s.size
	if rec.Hash, err = stateOf(s.hash); err != nil {
		return err
	}
	if rec.By == "" {
		rec.By = s.by
	}
	if err := s.write(ctx, rec); err != nil {
		return err
	}
	s.dirty = false
	c.become(s.rec)
	return nil
}
