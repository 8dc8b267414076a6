package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// request is a change that somebody waits for.
type request struct {
	plan plan // called again if the state turns out to be another one

	err  error
	done chan struct{} // closed once err is final
	lead chan struct{} // closed if it's now for the one who waits to do the work

	stored map[digest.Digest]entry // manifests too large for a record
}

const (
	groupSize = 64       // how many requests are written at once
	maxInline = 16 << 10 // how large a manifest may be that lives in a record, in bytes
)

// change does what plan says to the repository. Requests that come while the
// record is being written wait, and are written together.
func (r *repo) change(ctx context.Context, plan plan) error {
	if err := r.store.writable(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	q := &request{plan: plan, done: make(chan struct{}), lead: make(chan struct{})}
	r.mu.Lock()
	r.queue = append(r.queue, q)
	first := !r.leading
	r.leading = true
	r.mu.Unlock()
	if !first {
		select {
		case <-q.done:
			return q.err
		case <-q.lead:
		}
	}
	r.work(ctx)
	return q.err
}

// work does the requests at the head of the queue, the caller's the first of
// them, and hands on the rest.
func (r *repo) work(ctx context.Context) {
	r.mu.Lock()
	n := min(len(r.queue), groupSize)
	group := r.queue[:n:n]
	r.queue = r.queue[n:]
	r.mu.Unlock()
	if err := r.commit(ctx, group); err != nil {
		for _, q := range group {
			q.err = fmt.Errorf("change %s: %w", r.name, err)
		}
	}
	r.mu.Lock()
	if r.leading = len(r.queue) > 0; r.leading {
		close(r.queue[0].lead)
	}
	r.mu.Unlock()
	for _, q := range group {
		close(q.done)
	}
}

// commit plans on the state that is known, and writes the outcome if the record
// is still that. What a plan says of an old state counts for nothing: if there's
// nothing to write, the state is compared with the bucket's.
func (r *repo) commit(ctx context.Context, group []*request) error {
	if err := r.giveWay(ctx); err != nil {
		return err
	}
	tries, stored := r.store.patience.begin(), time.Now()
	s, fresh, err := r.current(ctx)
	if err != nil {
		return err
	}
	for {
		id, began := newID(), time.Now()
		if began.Sub(stored) > r.store.limits.slow/2 {
			forget(group)
			stored = began
		}
		next, err := r.plan(ctx, s, group, id)
		if err != nil {
			return err
		}
		if time.Since(began) > r.store.limits.slow { // what was stored on the way may be going to be swept
			return errTooLong
		}
		if next == s && fresh {
			return nil
		}
		var latest *state
		if next == s {
			latest, err = r.refresh(ctx)
		} else {
			latest, err = r.swap(ctx, tries, s, next, id)
		}
		if err != nil || latest == next {
			return err
		}
		s, fresh = latest, true
	}
}

// giveWay waits if it's another process's turn to write, unless there's none.
func (r *repo) giveWay(ctx context.Context) error {
	if r.store.options().SingleWriter {
		return nil
	}
	return r.turns.wait(ctx)
}

var errTooLong = errors.New("storing a manifest took too long")

// forget makes what the requests have stored be stored anew.
func forget(group []*request) {
	for _, q := range group {
		q.stored = nil
	}
}

// plan returns the state after the group's requests, or s if they change nothing.
func (r *repo) plan(ctx context.Context, s *state, group []*request, id string) (*state, error) {
	next, now := s, time.Now().UTC().Truncate(time.Millisecond)
	for _, q := range group {
		var changes []change
		var by string
		changes, by, q.err = q.plan(next)
		if q.err != nil || len(changes) == 0 {
			continue
		}
		if err := r.putLarge(ctx, q, changes); err != nil {
			return nil, err
		}
		after, err := next.with(r.name, commit{ID: id, At: now, By: by, Changes: changes})
		if err != nil {
			return nil, err
		}
		next = after
	}
	if next == s || next.tailSize() <= r.store.limits.tail {
		return next, nil
	}
	return r.fold(ctx, next)
}

// putLarge gives manifests that are too large for a record objects of their own.
func (r *repo) putLarge(ctx context.Context, q *request, changes []change) error {
	for i := range changes {
		ch := &changes[i]
		if ch.Blob == "" || len(ch.Raw) <= maxInline {
			continue
		}
		e, ok := q.stored[ch.Blob]
		if !ok {
			e = entry{ID: newID(), Size: int64(len(ch.Raw))}
			if _, err := r.store.bucket.put(ctx, putRequest{Key: r.store.keys.data(e.ID), Body: ch.Raw}); err != nil {
				return err
			}
			if q.stored == nil {
				q.stored = make(map[digest.Digest]entry)
			}
			q.stored[ch.Blob] = e
		}
		ch.entry = e
	}
	return nil
}

// swap makes the record next if it's still s, and returns next. If it has become
// something else it returns that.
//
// The answer to a write may be lost, and a write that seems to have failed may
// still come through later. So the record is read until it holds the commit, or
// another one; and as long as it's still s, the same bytes are sent again.
func (r *repo) swap(ctx context.Context, tries *attempts, s, next *state, id string) (*state, error) {
	body, err := next.bytes()
	if err != nil {
		return nil, err
	}
	write := putRequest{Key: r.store.keys.record(r.name), Body: body, IfMatch: s.etag, IfAbsent: s.etag == ""}
	for {
		asked := time.Now()
		etag, err := r.store.bucket.put(ctx, write)
		if err == nil {
			next.etag = etag
			r.keep(s, next, asked)
			r.turns.wrote(asked)
			return next, nil
		}
		pause := tries.again
		if errors.Is(err, errConflict) || errors.Is(err, errNotFound) {
			err, pause = fmt.Errorf("others write to it: %w", err), tries.soon
		} else if !passing(err) {
			return nil, err
		}
		if err := pause(ctx, err); err != nil {
			return nil, err
		}
		latest, err := r.refresh(ctx)
		if err != nil {
			return nil, err
		}
		if latest.knows(id) {
			return next, nil
		}
		if latest.etag != s.etag {
			return latest, nil
		}
	}
}
