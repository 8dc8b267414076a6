package s3

import (
	"bytes"
	"context"
	"slices"
)

const (
	foldedIDs = 64  // how many commits a record remembers that it doesn't hold
	perLine   = 500 // changes in a line of a segment that is a snapshot
)

// fold moves the tail into a segment, and the bytes that lie in the record into
// an object. The segments become one when those behind the first are as large as
// that, so all the writing is a small multiple of what was changed.
func (r *repo) fold(ctx context.Context, s *state) (*state, error) {
	next := &state{head: s.head}
	lines, err := r.pack(ctx, s, next)
	if err != nil {
		return nil, err
	}
	body := bytes.Join(tailBytes(lines), nil)
	if later := sizeOf(s.head.Segments) + len(body); later > max(r.store.limits.segments, 2*first(s.head.Segments)) || len(s.head.Segments) == 0 {
		next.head.Segments = nil
		if body, err = next.snapshotLines(newID()); err != nil {
			return nil, err
		}
	}
	id := newID()
	if _, err := r.store.bucket.put(ctx, putRequest{Key: r.store.keys.segment(r.name, id), Body: body}); err != nil {
		return nil, err
	}
	next.head.Segments = append(slices.Clip(next.head.Segments), segment{id, len(body)})
	next.head.Folded = foldedAfter(s)
	next.base = next.contents
	return next, nil
}

func sizeOf(segments []segment) (n int) {
	for _, s := range segments {
		n += s.Size
	}
	return n
}

func first(segments []segment) int {
	if len(segments) == 0 {
		return 0
	}
	return segments[0].Size
}

// foldedAfter returns the last commits, those of the tail included.
func foldedAfter(s *state) []string {
	ids := append([]string(nil), s.head.Folded...)
	for _, l := range s.tail {
		if c, err := decodeCommit(l); err == nil && (len(ids) == 0 || ids[len(ids)-1] != c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids[max(0, len(ids)-foldedIDs):]
}

// pack makes next the contents of s with no bytes in the record, and returns the
// tail as it would have been.
func (r *repo) pack(ctx context.Context, s, next *state) ([]line, error) {
	id, blobs := newID(), s.blobs.Edit()
	var packed []byte
	lines := make([]line, 0, len(s.tail))
	for _, l := range s.tail {
		c, err := decodeCommit(l)
		if err != nil {
			return nil, err
		}
		for i := range c.Changes {
			ch := &c.Changes[i]
			if len(ch.Raw) == 0 {
				continue
			}
			switch b, ok := blobs.Get(byDigest(ch.Blob)); {
			case !ok: // it was dropped later
				ch.entry = entry{}
			case b.inline():
				at := entry{ID: id, Offset: int64(len(packed)), Size: b.Size}
				packed = append(packed, b.Raw...)
				blobs.Set(byDigest(ch.Blob), &blob{at, b.marked})
				ch.entry = at
			default: // it's packed already
				ch.entry = b.entry
			}
		}
		if l, err = encodeLine(c); err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	next.contents = contents{s.index, blobs.Tree(), s.lost}
	if len(packed) == 0 {
		return lines, nil
	}
	_, err := r.store.bucket.put(ctx, putRequest{Key: r.store.keys.data(id), Body: packed})
	return lines, err
}

// snapshotLines is a segment that holds all of the contents.
func (s *state) snapshotLines(id string) ([]byte, error) {
	var b bytes.Buffer
	for all := s.snapshot(); len(all) > 0; {
		n := min(len(all), perLine)
		l, err := encodeLine(commit{ID: id, Changes: all[:n]})
		if err != nil {
			return nil, err
		}
		b.Write(l)
		all = all[n:]
	}
	return b.Bytes(), nil
}
