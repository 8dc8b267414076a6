package filesystem

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// marks are since when nothing has needed which content of a repository: see
// storage.Collectable. A file has them, a line each time one is set or taken off.
//
// Who takes a mark off and who removes what is marked don't wait for each other's
// I/O: a digest whose removal has been decided on is going, and who is about to
// rely on it waits until it's gone.
type marks struct {
	none atomic.Bool // there are none, which is known

	mu    sync.Mutex                  // held while one is taken off, which is rare
	since map[digest.Digest]time.Time // nil until the file was read
	lines int                         // of the file
	owed  []digest.Digest             // that have no mark any more, for which there was no room in the file

	goingMu sync.Mutex
	going   map[digest.Digest]chan struct{} // closed when it's decided
}

// markEntry is a line of a repository's marks. The last one of a digest counts.
type markEntry struct {
	Digest digest.Digest `json:"digest"`
	Since  time.Time     `json:"since,omitzero"` // zero: it has none
}

func marksPath(n oci.Name) string { return path.Join(ownDir(n), "marks") }

// rely takes the mark off what somebody is about to be told is there. If that is
// being removed it waits until it's gone.
func (r *repo) rely(d digest.Digest) error {
	m := &r.marks
	if m.none.Load() || !r.store.lock.held() {
		return nil
	}
	m.lockUnlessGoing(d)
	defer m.mu.Unlock()
	if err := r.loadMarks(); err != nil {
		return err
	}
	if _, marked := m.since[d]; !marked {
		return nil
	}
	err := r.appendMarks([]markEntry{{Digest: d}})
	if err == nil {
		err = r.store.disk.Barrier()
	}
	if errors.Is(r.store.space.note(err), storage.ErrFull) { // what is there can be pulled nevertheless
		m.owed = append(m.owed, d)
		err = nil
	}
	if err == nil {
		delete(m.since, d)
	}
	return err
}

// lockUnlessGoing locks mu when d isn't being removed. It isn't then, since who
// removes it needs mu to decide on it.
func (m *marks) lockUnlessGoing(d digest.Digest) {
	for {
		m.mu.Lock()
		m.goingMu.Lock()
		gone := m.going[d]
		m.goingMu.Unlock()
		if gone == nil {
			return
		}
		m.mu.Unlock()
		<-gone
	}
}

// loadMarks reads the file unless it was read. mu is held.
func (r *repo) loadMarks() error {
	m := &r.marks
	if m.since != nil {
		return nil
	}
	data, err := r.readFile(marksPath(r.name))
	if err != nil && !missing(err) && !irregular(err) {
		return err
	}
	m.since, m.lines = make(map[digest.Digest]time.Time), 0
	for line := range bytes.Lines(data) {
		var e markEntry
		m.lines++
		switch {
		case json.Unmarshal(line, &e) != nil: // it was cut off
		case e.Since.IsZero():
			delete(m.since, e.Digest)
		default:
			m.since[e.Digest] = e.Since
		}
	}
	m.none.Store(len(m.since) == 0)
	return nil
}

// appendMarks adds lines, which are durable from the next Barrier on. mu is held.
func (r *repo) appendMarks(entries []markEntry) error {
	for _, d := range r.marks.owed {
		entries = append([]markEntry{{Digest: d}}, entries...)
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, e := range entries {
		_ = enc.Encode(e) // strings and times, into memory
	}
	if _, err := r.store.appendLines(marksPath(r.name), lines.Bytes(), true); err != nil {
		return err
	}
	r.marks.owed = nil
	r.marks.lines += len(entries)
	return nil
}

// forget has the file read again: another process may have written it.
func (m *marks) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = nil
	m.none.Store(false)
}

// markedSince returns since when d has had a mark; false if it has none.
func (r *repo) markedSince(d digest.Digest) (time.Time, bool, error) {
	r.marks.mu.Lock()
	defer r.marks.mu.Unlock()
	if err := r.loadMarks(); err != nil {
		return time.Time{}, false, err
	}
	since, ok := r.marks.since[d]
	return since, ok, nil
}

// claim decides that d goes, if it has had a mark since at or longer: until the
// batch is over, who is about to rely on it waits.
func (r *repo) claim(b *batch, d digest.Digest, at time.Time) (bool, error) {
	m := &r.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := r.loadMarks(); err != nil {
		return false, err
	}
	since, marked := m.since[d]
	if !marked || since.After(at) || b.unmark[d] {
		return false, nil
	}
	m.goingMu.Lock()
	defer m.goingMu.Unlock()
	if m.going[d] == nil {
		if m.going == nil {
			m.going = make(map[digest.Digest]chan struct{})
		}
		m.going[d] = make(chan struct{})
		b.claimed = append(b.claimed, d)
	}
	return true, nil
}

// release tells who waits that what the batch has claimed is gone, or isn't.
func (m *marks) release(b *batch) {
	m.goingMu.Lock()
	defer m.goingMu.Unlock()
	for _, d := range b.claimed {
		close(m.going[d])
		delete(m.going, d)
	}
	b.claimed = nil
}

// writeMarks writes down the marks that a batch sets and takes off.
func (r *repo) writeMarks(b *batch) error {
	m := &r.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(b.mark) == 0 && m.none.Load() {
		return nil
	}
	if err := r.loadMarks(); err != nil {
		return err
	}
	entries := make([]markEntry, 0, len(b.mark))
	for d := range b.unmark {
		if _, marked := m.since[d]; marked {
			entries = append(entries, markEntry{Digest: d})
		}
	}
	for d, at := range b.mark {
		entries = append(entries, markEntry{d, at})
	}
	if len(entries) == 0 {
		return nil
	}
	return r.appendMarks(entries)
}

// setMarks makes the marks be as a batch has written them.
func (r *repo) setMarks(b *batch) {
	m := &r.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since == nil {
		return // nothing was written, and it's read when it's needed
	}
	for d := range b.unmark {
		delete(m.since, d)
	}
	maps.Copy(m.since, b.mark)
	m.none.Store(len(m.since) == 0 && len(m.owed) == 0)
	if m.lines > 1000 && m.lines > 4*len(m.since) {
		r.compactMarks()
	}
}

// compactMarks writes the file anew with one line a mark. mu is held.
func (r *repo) compactMarks() {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for d, at := range r.marks.since {
		_ = enc.Encode(markEntry{d, at}) // strings and times, into memory
	}
	if err := r.store.disk.Replace(marksPath(r.name), ownDir(r.name), lines.Bytes()); err != nil {
		r.store.log().Warn("marks aren't compacted", "repository", r.name.String(), "error", err)
		return
	}
	r.marks.lines = len(r.marks.since)
}
