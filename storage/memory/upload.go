package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Upload = (*upload)(nil)

const (
	chunkSize = 64 << 10 // what an Append reads at once, in bytes
	largest   = 1 << 20  // what's set aside for a session on the client's word, in bytes
)

// session is an upload session. Commit and Cancel take it out of the store and end it.
type session struct {
	id        string
	repo      *repository
	algorithm digest.Algorithm

	mu      sync.Mutex
	content []byte
	hash    hash.Hash // of content, by algorithm
	appends int       // how many have begun: the one that began last may write
	ended   bool
}

// upload is a handle on a session.
type upload struct {
	*session

	seen atomic.Int64
}

func (r *repository) NewUpload(_ context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	algorithm := opts.Algorithm
	if algorithm == "" {
		algorithm = digest.Canonical
	}
	if _, err := oci.ParseAlgorithm(algorithm.String()); err != nil {
		return nil, err
	}
	s := &session{
		id: rand.Text(), repo: r, algorithm: algorithm, hash: algorithm.Hash(),
		content: make([]byte, 0, max(0, min(opts.Size, largest))),
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if r.store.closed {
		return nil, storage.ErrClosed
	}
	r.store.sessions[s.id] = s
	return &upload{session: s}, nil
}

func (r *repository) ResumeUpload(_ context.Context, id string) (storage.Upload, error) {
	r.store.mu.RLock()
	defer r.store.mu.RUnlock()
	if r.store.closed {
		return nil, storage.ErrClosed
	}
	s := r.store.sessions[id]
	if s == nil || s.repo.name != r.name {
		return nil, oci.Errorf(oci.BlobUploadUnknown, "upload of another repository, or none")
	}
	u := &upload{session: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	u.see()
	return u, nil
}

func (u *upload) ID() string   { return u.id }
func (u *upload) Size() int64  { return u.seen.Load() }
func (u *upload) Close() error { return nil }

// see notes the session's size, which it returns. The session's mu is held.
func (u *upload) see() int64 {
	size := int64(len(u.content))
	u.seen.Store(size)
	return size
}

func (u *upload) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	done, err := u.repo.store.begin()
	if err != nil {
		return u.Size(), err
	}
	defer done()
	turn, err := u.claim(offset)
	if err != nil {
		return u.Size(), err
	}
	chunk := make([]byte, chunkSize)
	for {
		n, err := r.Read(chunk)
		size, lost := u.write(turn, chunk[:n])
		if lost != nil {
			return size, lost
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return size, err
		}
	}
}

// claim makes this the Append that may write, if offset is right.
func (u *upload) claim(offset int64) (turn int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return 0, u.unknown()
	}
	if offset < 0 {
		offset = u.Size()
	}
	if end := u.see(); offset != end {
		return 0, oci.RangeErrorf("bytes from %d on, but the upload is at %d", offset, end)
	}
	u.appends++
	return u.appends, nil
}

// write adds p to the session, unless a later Append has taken it over.
func (u *upload) write(turn int, p []byte) (size int64, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return u.Size(), u.unknown()
	}
	if turn != u.appends {
		return u.see(), oci.RangeErrorf("another request continues this upload")
	}
	u.content = append(u.content, p...)
	_, _ = u.hash.Write(p) // a hash doesn't fail
	return u.see(), nil
}

func (s *session) unknown() error {
	return oci.Errorf(oci.BlobUploadUnknown, "upload %s has ended", s.id)
}

func (u *upload) Commit(_ context.Context, want digest.Digest) (oci.Descriptor, error) {
	done, err := u.repo.store.begin()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer done()
	if !u.end() {
		return oci.Descriptor{}, u.unknown()
	}
	// The session has ended, so what follows is nobody else's.
	if _, err := oci.ParseDigest(want.String()); err != nil {
		return oci.Descriptor{}, err
	}
	got := digest.NewDigest(u.algorithm, u.hash)
	if a := want.Algorithm(); a != u.algorithm {
		got = a.FromBytes(u.content)
	}
	if got != want {
		return oci.Descriptor{}, oci.Errorf(oci.DigestInvalid, "the content is %s", got)
	}
	return u.repo.add(want, u.content)
}

func (u *upload) Cancel(context.Context) error {
	done, err := u.repo.store.begin()
	if err != nil {
		return err
	}
	defer done()
	if u.end() {
		u.content = nil
	}
	return nil
}

// end ends the session, and reports whether it was this call that did.
func (s *session) end() bool {
	s.repo.store.mu.Lock()
	delete(s.repo.store.sessions, s.id)
	s.repo.store.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.ended
	s.ended = true
	return !was
}
