package s3

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// sessions has the upload sessions that this process has handles on.
type sessions struct {
	mu   sync.Mutex
	live map[string]*session

	over   map[string]struct{} // some that were ended here
	ending []string            // the same, the oldest first
}

// maxOver is how many sessions are known to have ended.
const maxOver = 10_000

// session is an upload session, as one process has it. What came last may be
// here only: it's written down when the last handle is closed.
type session struct {
	repository *Repository
	id         sessionID
	by         string
	handles    int // guarded by the mu of sessions

	turn    chan struct{} // holds a token of who may use what is below
	loaded  bool
	ended   bool
	rec     sessionRecord // what others see,
	etag    string        // and its etag; "" if there's none yet
	at      time.Time     // when that was so
	dirty   bool          // there's more than that
	size    int64
	hash    hash.Hash // of all size bytes
	content stream
	holder  int // the Append that may write: the last one that claimed the session
	writers int // how many Appends are under way
}

func (s *session) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) unlock() { <-s.turn }

// handle returns the session, which somebody has a handle on from now on.
func (ss *sessions) handle(r *Repository, id sessionID, by string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.live[id.text]
	if s == nil {
		s = &session{repository: r, id: id, by: by, turn: make(chan struct{}, 1), hash: id.algorithm.Hash()}
		s.content = stream{store: r.store, partSize: r.store.options().PartSize}
		ss.live[id.text] = s
	}
	s.handles++
	return s
}

// leave takes a handle off. Who takes the last one writes down what is here only.
func (ss *sessions) leave(ctx context.Context, s *session) error {
	ss.mu.Lock()
	s.handles--
	last := s.handles == 0
	ss.mu.Unlock()
	if !last {
		return nil
	}
	err := s.save(ctx)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s.handles == 0 {
		delete(ss.live, s.id.text)
	}
	return err
}

// flush writes down all sessions.
func (ss *sessions) flush(ctx context.Context) error {
	ss.mu.Lock()
	all := make([]*session, 0, len(ss.live))
	for _, s := range ss.live {
		all = append(all, s)
	}
	ss.mu.Unlock()
	errs := make([]error, 0, len(all))
	for _, s := range all {
		errs = append(errs, s.save(ctx))
	}
	return errors.Join(errs...)
}

func (ss *sessions) end(id string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.over[id] = struct{}{}
	if ss.ending = append(ss.ending, id); len(ss.ending) > maxOver {
		delete(ss.over, ss.ending[0])
		ss.ending = ss.ending[1:]
	}
}

func (ss *sessions) ended(id string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_, ok := ss.over[id]
	return ok
}

// load makes the session what the bucket says, unless there's more of it here.
func (s *session) load(ctx context.Context) error {
	if s.ended || s.repository.store.sessions.ended(s.id.text) {
		return unknownUpload(s.id.text)
	}
	if s.dirty || s.writers > 0 {
		return nil
	}
	asked := time.Now()
	rec, etag, err := s.read(ctx)
	if err != nil {
		return err
	}
	if etag == "" {
		return s.fresh(ctx)
	}
	return s.take(rec, etag, asked)
}

// fresh makes it a session of which nothing was written down. One that was
// committed is found in the repository's record, as long as it's among the last.
func (s *session) fresh(ctx context.Context) error {
	if s.etag != "" || time.Since(s.id.began) > lifetime {
		return unknownUpload(s.id.text)
	}
	if s.loaded {
		return nil
	}
	known, done, err := s.repository.enter()
	if err != nil {
		return err
	}
	defer done()
	now, _, err := known.current(ctx)
	if err != nil {
		return err
	}
	if now.knows(s.id.text) {
		return unknownUpload(s.id.text)
	}
	s.loaded = true
	return nil
}

// take makes the session what a record says.
func (s *session) take(rec sessionRecord, etag string, asked time.Time) error {
	if rec.Ended || rec.Repository != s.repository.name.String() {
		return unknownUpload(s.id.text)
	}
	s.at = asked
	if etag == s.etag {
		return nil
	}
	h := s.id.algorithm.Hash()
	if err := restore(h, rec.Hash); err != nil {
		return fmt.Errorf("%w: hash of upload session %s: %w", storage.ErrBroken, s.id.text, err)
	}
	s.rec, s.etag, s.loaded, s.dirty = rec, etag, true, false
	s.size, s.hash = rec.Size, h
	s.content.become(rec)
	return nil
}

func restore(h hash.Hash, state []byte) error {
	h.Reset()
	if len(state) == 0 {
		return nil
	}
	u, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return errors.New("it can't be restored")
	}
	return u.UnmarshalBinary(state)
}

func stateOf(h hash.Hash) ([]byte, error) {
	m, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("the hash can't be saved")
	}
	return m.MarshalBinary()
}

// NewUpload implements storage.Repository. It makes no call.
func (r *Repository) NewUpload(_ context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	done, err := r.store.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	a := opts.Algorithm
	if a == "" {
		a = digest.Canonical
	}
	if _, err := oci.ParseAlgorithm(a.String()); err != nil {
		return nil, err
	}
	s := r.store.sessions.handle(r, newSessionID(r.name, a), opts.By)
	s.loaded = true
	s.content.partSize = r.store.partSize(opts.Size)
	return &upload{session: s}, nil
}

// ResumeUpload implements storage.Repository.
func (r *Repository) ResumeUpload(ctx context.Context, text string) (storage.Upload, error) {
	done, err := r.store.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	id, ok := parseSessionID(r.name, text)
	if !ok {
		return nil, unknownUpload(text)
	}
	s := r.store.sessions.handle(r, id, "")
	u := &upload{session: s}
	if err := s.lock(ctx); err != nil {
		return nil, errors.Join(err, u.leave(ctx))
	}
	err = s.load(ctx)
	u.size.Store(s.size)
	s.unlock()
	if err != nil {
		return nil, errors.Join(err, u.leave(ctx))
	}
	return u, nil
}

// maxParts is how many parts an object may have, less those that are lost with
// whoever wrote them.
const maxParts = 9000

// partSize is the size of the parts of a blob that may have that many bytes.
func (s *Store) partSize(size int64) int64 {
	least := (size/maxParts + 1<<20) >> 20 << 20
	return min(max(s.options().PartSize, least), s.memory.sent.most())
}
