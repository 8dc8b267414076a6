package filesystem

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"slices"
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
// I/O, nor does anybody else: only a digest that one of them is busy with is waited
// for.
type marks struct {
	none atomic.Bool // there are none, which is known

	fileMu sync.Mutex      // one at a time reads or writes the file; taken before mu
	lines  int             // of the file
	owed   []digest.Digest // that have no mark any more, for which there was no room in the file

	mu    sync.Mutex                      // not held over I/O
	since map[digest.Digest]time.Time     // nil until the file was read
	busy  map[digest.Digest]chan struct{} // closed once it's decided whether it's there, unmarked
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
	if err := r.loadMarks(); err != nil || !m.begin(d) {
		return err
	}
	err := r.takeOff(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.since, d)
	}
	m.end(d)
	return err
}

// begin makes the caller busy with a mark; false if there's none.
func (m *marks) begin(d digest.Digest) bool {
	for {
		m.mu.Lock()
		_, marked := m.since[d]
		busy := m.busy[d]
		if busy == nil && marked {
			m.setBusy(d)
		}
		m.mu.Unlock()
		if busy == nil {
			return marked
		}
		<-busy
	}
}

// setBusy and end are for who holds mu.
func (m *marks) setBusy(d digest.Digest) {
	if m.busy == nil {
		m.busy = make(map[digest.Digest]chan struct{})
	}
	m.busy[d] = make(chan struct{})
}

func (m *marks) end(d digest.Digest) {
	close(m.busy[d])
	delete(m.busy, d)
}

// takeOff writes down that d has no mark.
func (r *repo) takeOff(d digest.Digest) error {
	r.marks.fileMu.Lock()
	defer r.marks.fileMu.Unlock()
	err := r.appendMarks([]markEntry{{Digest: d}})
	if err == nil {
		err = r.store.disk.Barrier()
	}
	if errors.Is(r.store.space.note(err), storage.ErrFull) { // what is there can be pulled nevertheless
		r.marks.owed = append(r.marks.owed, d)
		return nil
	}
	return err
}

// loadMarks reads the file unless it was read.
func (r *repo) loadMarks() error {
	m := &r.marks
	if m.isLoaded() {
		return nil
	}
	m.fileMu.Lock()
	defer m.fileMu.Unlock()
	if m.isLoaded() {
		return nil
	}
	data, err := r.readFile(marksPath(r.name))
	if err != nil && !missing(err) && !irregular(err) {
		return err
	}
	since := make(map[digest.Digest]time.Time)
	m.lines = 0
	for line := range bytes.Lines(data) {
		var e markEntry
		m.lines++
		switch {
		case json.Unmarshal(line, &e) != nil: // it was cut off
		case e.Since.IsZero():
			delete(since, e.Digest)
		default:
			since[e.Digest] = e.Since
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = since
	m.none.Store(len(since) == 0)
	return nil
}

func (m *marks) isLoaded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since != nil
}

// appendMarks adds lines, which are durable from the next Barrier on. fileMu is held.
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
	if err := r.loadMarks(); err != nil {
		return time.Time{}, false, err
	}
	r.marks.mu.Lock()
	defer r.marks.mu.Unlock()
	since, ok := r.marks.since[d]
	return since, ok, nil
}

// claim decides that d goes, if it has had a mark since at or longer: until the
// batch is over, who is about to rely on it waits.
func (r *repo) claim(b *batch, d digest.Digest, at time.Time) (bool, error) {
	m := &r.marks
	if err := r.loadMarks(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	since, marked := m.since[d]
	switch {
	case !marked || since.After(at) || b.unmark[d]:
		return false, nil
	case slices.Contains(b.claimed, d):
		return true, nil
	case m.busy[d] != nil: // somebody is taking it off
		return false, nil
	}
	m.setBusy(d)
	b.claimed = append(b.claimed, d)
	return true, nil
}

// release tells who waits that what the batch has claimed is gone, or isn't.
func (m *marks) release(b *batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range b.claimed {
		m.end(d)
	}
	b.claimed = nil
}

// writeMarks writes down the marks that a batch sets and takes off.
func (r *repo) writeMarks(b *batch) error {
	m := &r.marks
	if len(b.mark) == 0 && m.none.Load() {
		return nil
	}
	if err := r.loadMarks(); err != nil {
		return err
	}
	entries := m.entries(b)
	if len(entries) == 0 {
		return nil
	}
	m.fileMu.Lock()
	defer m.fileMu.Unlock()
	return r.appendMarks(entries)
}

// entries are the lines that a batch needs.
func (m *marks) entries(b *batch) []markEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := make([]markEntry, 0, len(b.mark))
	for d := range b.unmark {
		if _, marked := m.since[d]; marked {
			entries = append(entries, markEntry{Digest: d})
		}
	}
	for d, at := range b.mark {
		entries = append(entries, markEntry{d, at})
	}
	return entries
}

// setMarks makes the marks be as a batch has written them.
func (r *repo) setMarks(b *batch) {
	m := &r.marks
	if !m.set(b) {
		return
	}
	m.fileMu.Lock()
	defer m.fileMu.Unlock()
	m.mu.Lock()
	n := len(m.since)
	var since map[digest.Digest]time.Time
	if m.lines > 1000 && m.lines > 4*n {
		since = maps.Clone(m.since)
		for d := range m.busy { // its line may say already that it has none
			delete(since, d)
		}
	}
	m.none.Store(n == 0 && len(m.owed) == 0)
	m.mu.Unlock()
	if since != nil {
		r.compactMarks(since)
	}
}

// set reports whether there were any to be set or taken off.
func (m *marks) set(b *batch) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since == nil {
		return false // nothing was written, and it's read when it's needed
	}
	was := len(m.since)
	for d := range b.unmark {
		delete(m.since, d)
	}
	changed = len(m.since) < was || len(b.mark) > 0
	maps.Copy(m.since, b.mark)
	return changed
}

// compactMarks writes the file anew with one line a mark. fileMu is held.
func (r *repo) compactMarks(since map[digest.Digest]time.Time) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for d, at := range since {
		_ = enc.Encode(markEntry{d, at}) // strings and times, into memory
	}
	if err := r.store.disk.Replace(marksPath(r.name), ownDir(r.name), lines.Bytes()); err != nil {
		r.store.log().Warn("marks aren't compacted", "repository", r.name.String(), "error", err)
		return
	}
	r.marks.lines = len(since)
}
