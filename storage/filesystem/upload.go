package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// upload is a handle on a session.
type upload struct {
	repository *Repository
	session    *session

	size int64 // as last seen
	once sync.Once
}

var _ storage.Upload = (*upload)(nil)

// NewUpload implements storage.Repository.
func (r *Repository) NewUpload(_ context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	defer r.store.leave()
	if err := r.store.lock.check(); err != nil {
		return nil, err
	}
	a := opts.Algorithm
	if a == "" {
		a = digest.Canonical
	}
	if !a.Available() {
		return nil, oci.Errorf(oci.DigestInvalid, "digest algorithm %q", a)
	}
	return &upload{repository: r, session: r.store.sessions.create(r.name, rand.Text(), a, opts.By)}, nil
}

// ResumeUpload implements storage.Repository.
func (r *Repository) ResumeUpload(_ context.Context, id string) (storage.Upload, error) {
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	defer r.store.leave()
	if err := r.store.mayWrite(); err != nil {
		return nil, err
	}
	s, err := r.store.sessions.resume(r.name, id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, errors.Join(unknownUpload(id), r.leaveLater(s))
	}
	return &upload{repository: r, session: s, size: s.size}, nil
}

// leaveLater takes a handle off a session whose lock is held.
func (r *Repository) leaveLater(s *session) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return r.store.sessions.leave(s)
}

func (u *upload) ID() string  { return u.session.id }
func (u *upload) Size() int64 { return u.size }

// Close saves the state of a session on disk that is going to outlive its first
// request. One in memory is written down if it rests there.
func (u *upload) Close() (err error) {
	u.once.Do(func() {
		s := u.session
		s.mu.Lock()
		if s.onDisk.Load() {
			err = s.persist()
		}
		s.mu.Unlock()
		err = errors.Join(err, u.repository.store.sessions.leave(s))
	})
	return err
}

// errTakenOver ends an Append whose session another one has claimed.
var errTakenOver = oci.RangeErrorf("another request goes on with this session")

// Append implements storage.Upload.
func (u *upload) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	store := u.repository.store
	if err := store.enter(); err != nil {
		return u.size, err
	}
	defer store.leave()
	s := u.session
	me, err := u.claim(offset)
	if err != nil {
		return u.size, err
	}
	err = s.copyFrom(ctx, me, r)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashing.Wait()
	s.giveBack()
	u.size = s.size
	if err == nil && s.holder != me {
		err = errTakenOver
	}
	if err = errors.Join(err, s.save()); errors.Is(err, storage.ErrFull) {
		err = errors.Join(err, s.end()) // a session that can't grow only takes room
	}
	return u.size, err
}

// claim makes the caller the one that may write.
func (u *upload) claim(offset int64) (me int, err error) {
	s := u.session
	if err := s.store.lock.check(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, unknownUpload(s.id)
	}
	if offset < 0 {
		offset = u.size
	}
	u.size = s.size
	if offset != s.size {
		return 0, oci.RangeErrorf("offset %d, the session holds %d bytes", offset, s.size)
	}
	if s.size > 0 && !s.onDisk.Load() { // what is acknowledged mustn't wait for what may take long
		if err := s.persist(); err != nil {
			return 0, err
		}
	}
	if err := s.openFile(); err != nil {
		return 0, s.fail(err)
	}
	s.hashing.Wait() // for what the one before has written
	s.holder++
	return s.holder, nil
}

// How much is read before it is written and hashed, in bytes, grows with what has come,
// to firstBytes and to narrowBytes: of the uploads that stand still most have hardly
// begun, and each keeps what it reads into.
const (
	firstChunk  = 32 << 10
	firstBytes  = 256 << 10
	narrowBytes = 4 << 20
)

var firstChunks = sync.Pool{New: func() any { return new([firstChunk]byte) }}

// copyFrom reads r to its end. While chunks are hashed the next are read and
// written, so a stream is as fast as the slower of the two.
func (s *session) copyFrom(ctx context.Context, me int, r io.Reader) error {
	ended, err := s.copyFirst(ctx, me, r)
	if !ended && err == nil {
		ended, err = s.copyBy(ctx, me, r, openNarrowLane(s), narrowBytes)
	}
	for !ended && err == nil {
		l := openLane(s)
		ended, err = s.copyBy(ctx, me, r, l, l.most())
	}
	return err
}

// copyFirst is copyFrom for the first bytes.
func (s *session) copyFirst(ctx context.Context, me int, r io.Reader) (ended bool, err error) {
	buf, _ := firstChunks.Get().(*[firstChunk]byte)
	defer firstChunks.Put(buf)
	for n := 0; n < firstBytes && !ended && err == nil; n += firstChunk {
		ended, err = s.copyChunk(ctx, me, r, buf[:], nil)
	}
	return ended, err
}

// copyBy is copyFrom by a lane, which it closes, for so many bytes or some more.
func (s *session) copyBy(ctx context.Context, me int, r io.Reader, l *lane, most int) (ended bool, err error) {
	defer l.close()
	for n := 0; n < most && !ended && err == nil; {
		buf := l.take()
		n += len(buf)
		ended, err = s.copyChunk(ctx, me, r, buf, l)
	}
	return ended, err
}

// copyChunk adds what of r fits into buf, which is one of the lane's if there's a
// lane. It reports whether r has ended.
func (s *session) copyChunk(ctx context.Context, me int, r io.Reader, buf []byte, l *lane) (ended bool, err error) {
	n, rerr := readChunk(r, buf)
	if n > 0 {
		err = s.write(me, buf[:n], l)
	}
	if l != nil && (n == 0 || err != nil) {
		l.free <- buf // the lane hasn't got it
	}
	if err != nil {
		return false, err
	}
	switch {
	case rerr == io.EOF: //nolint:errorlint // a Reader's end is this value; wrapped, it's a failure
		return true, nil
	case rerr != nil:
		return false, fmt.Errorf("upload stopped: %w", rerr)
	}
	return false, ctx.Err()
}

// readChunk fills p or returns the error that kept it from that. It is not
// io.ReadFull, which makes a body that was cut off look like one that ended.
func readChunk(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// write adds a chunk. With a lane it's hashed later, in one of the lane's buffers.
func (s *session) write(me int, chunk []byte, l *lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return unknownUpload(s.id)
	}
	if s.holder != me {
		return errTakenOver
	}
	n := int64(len(chunk))
	s.setAside(n)
	if err := s.put(chunk); err != nil {
		return err
	}
	s.size += n
	if l == nil {
		_, _ = s.hash.Write(chunk) // a hash doesn't fail
	} else {
		l.add(chunk)
	}
	s.startWriteback(n)
	return nil
}

// diskStep is how much of a large upload, in bytes, there's room set aside for at a time,
// and is then to be written.
const diskStep = 8 << 20

// setAside makes room for the next n bytes of a large upload, and for those after them.
func (s *session) setAside(n int64) {
	if s.file == nil || s.noRoom || s.size < narrowBytes || s.size+n <= s.room {
		return
	}
	from := max(s.size, s.room)
	s.noRoom = !vfs.SetAside(s.file, from, diskStep)
	if !s.noRoom {
		s.room = from + diskStep
	}
}

// giveBack gives back the room that nothing has come for.
func (s *session) giveBack() {
	if s.file != nil && s.room > s.size {
		vfs.GiveBack(s.file, s.size)
		s.room = s.size
	}
}

func (s *session) startWriteback(n int64) {
	if s.file != nil && s.size/diskStep != (s.size-n)/diskStep {
		vfs.StartWriteback(s.file, s.size/diskStep*diskStep-diskStep, diskStep)
	}
}

// Cancel implements storage.Upload.
func (u *upload) Cancel(context.Context) error {
	store := u.repository.store
	if err := store.enter(); err != nil {
		return err
	}
	defer store.leave()
	u.session.mu.Lock()
	defer u.session.mu.Unlock()
	return u.session.end()
}
