package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// repo is what this process knows of a repository, and those who wait to change
// it. All handles on a repository share one while somebody uses it.
type repo struct {
	store *Store
	name  oci.Name
	use   usage // guarded by the store's cache

	mu      sync.Mutex
	state   *state    // as last seen; nil if it wasn't
	seen    time.Time // when state was what the bucket had
	running *reading  // the one that was begun last
	waiting *reading  // the next one, which hasn't begun
	queue   []*request
	leading bool // somebody works on the queue

	turns turns // of who works on the queue
}

// reading is one read of the record, for all who asked before it began.
type reading struct {
	done  chan struct{}
	state *state
	err   error
}

// refresh returns the state as it is at some moment after the call.
func (r *repo) refresh(ctx context.Context) (*state, error) {
	r.mu.Lock()
	next := r.waiting
	if next != nil {
		r.mu.Unlock()
		return next.wait(ctx)
	}
	next, before := &reading{done: make(chan struct{})}, r.running
	r.waiting = next
	r.mu.Unlock()
	if before != nil {
		<-before.done
	}
	r.mu.Lock()
	r.waiting, r.running = nil, next
	r.mu.Unlock()
	next.state, next.err = r.read(context.WithoutCancel(ctx)) // others wait for it
	r.mu.Lock()
	if r.running == next {
		r.running = nil
	}
	r.mu.Unlock()
	close(next.done)
	return next.state, next.err
}

func (n *reading) wait(ctx context.Context) (*state, error) {
	select {
	case <-n.done:
		return n.state, n.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// current returns the state as last seen. It may be an old one.
func (r *repo) current(ctx context.Context) (s *state, fresh bool, err error) {
	r.mu.Lock()
	s = r.state
	r.mu.Unlock()
	if s != nil {
		return s, false, nil
	}
	s, err = r.refresh(ctx)
	return s, true, err
}

// lately returns the state if it was the bucket's within the time given, else nil.
func (r *repo) lately(within time.Duration) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil || time.Since(r.seen) >= within {
		return nil
	}
	return r.state
}

// read asks the bucket for the record, and for segments that aren't known.
func (r *repo) read(ctx context.Context) (*state, error) {
	for tries := 0; ; tries++ {
		s, err := r.readOnce(ctx)
		// Who folds makes new segments, and old ones go some time.
		if errors.Is(err, errNotFound) && tries < 3 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the record of %s: %w", r.name, err)
		}
		return s, nil
	}
}

func (r *repo) readOnce(ctx context.Context) (*state, error) {
	r.mu.Lock()
	old, asked := r.state, time.Now()
	r.mu.Unlock()
	from := old
	if from == nil {
		from = absent()
	}
	body, etag, err := r.store.bucket.fetch(ctx, getRequest{Key: r.store.keys.record(r.name), IfNoneMatch: from.etag})
	next := from
	switch {
	case errors.Is(err, errNotModified):
	case errors.Is(err, errNotFound):
		next = absent()
	case err != nil:
		return nil, err
	default:
		if next, err = r.decode(ctx, from, body); err != nil {
			return nil, err
		}
		next.etag = etag
	}
	r.keep(old, next, asked)
	return next, nil
}

// keep remembers a state that was read, unless a later one is known.
func (r *repo) keep(old, next *state, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == old || next.head.Count > r.state.head.Count {
		r.state, r.seen = next, asked
	}
}

// decode reads a record, of which from is an earlier state. What they share isn't done again.
func (r *repo) decode(ctx context.Context, from *state, body []byte) (*state, error) {
	h, tail, err := decodeRecord(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrBroken, err)
	}
	next := &state{head: h, tail: tail}
	if h.Retired {
		next.base, next.contents = nothing(), nothing()
		return next, nil
	}
	if next.base, err = r.segments(ctx, from, h.Segments); err != nil {
		return nil, err
	}
	begin, done := next.base, 0
	if n := len(from.tail); sameSegments(from.head.Segments, h.Segments) && samePrefix(from.tail, tail) {
		begin, done = from.contents, n
	}
	if next.contents, err = begin.replay(tail[done:]); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrBroken, err)
	}
	return next, nil
}

func sameSegments(a, b []segment) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID {
			return false
		}
	}
	return true
}

func samePrefix(short, long []line) bool {
	if len(short) > len(long) {
		return false
	}
	for i, l := range short {
		if string(l) != string(long[i]) {
			return false
		}
	}
	return true
}

// segments returns what the segments say.
func (r *repo) segments(ctx context.Context, from *state, segments []segment) (contents, error) {
	base, known := nothing(), 0
	if n := len(from.head.Segments); n <= len(segments) && sameSegments(from.head.Segments, segments[:n]) {
		base, known = from.base, n
	}
	segments = segments[known:]
	bodies := make([][]byte, len(segments))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(segmentsAtOnce)
	for i, seg := range segments {
		group.Go(func() (err error) {
			bodies[i], _, err = r.store.bucket.fetch(ctx, getRequest{Key: r.store.keys.segment(r.name, seg.ID)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return contents{}, err
	}
	for i, body := range bodies {
		lines, err := splitLines(body)
		if err == nil && len(body) != segments[i].Size {
			err = fmt.Errorf("it has %d bytes, not %d", len(body), segments[i].Size)
		}
		if err == nil {
			base, err = base.replay(lines)
		}
		if err != nil {
			return contents{}, fmt.Errorf("%w: segment %s: %w", storage.ErrBroken, segments[i].ID, err)
		}
	}
	return base, nil
}

const segmentsAtOnce = 8
