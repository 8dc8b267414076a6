package filesystem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/durable"
	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// wal is a repository's log: the changes that index.json lacks. Each line is a
// record: the CRC-32C of the rest in 8 hexadecimal digits, a space, JSON, a
// line feed. A line that is cut off at the end was never acknowledged.
type wal struct {
	file   vfs.File
	size   int64    // where the last good record ends
	staged []string // files of folds that didn't come to their end
	spent  bool     // index.json lacks nothing of it, and nothing may be appended
}

// record is one line: changes, a fold, or a base, with which a log begins.
type record struct {
	Changes []change `json:"changes,omitempty"`

	// Fold says that index.json has all that came before as soon as its sha256 is
	// this. Base was its sha256 before, and Staged the file, beside the log, that
	// became index.json: once it's gone, any other index.json is a later one that
	// another tool has written, so what came before isn't to be done again.
	Fold   digest.Digest `json:"fold,omitempty"`
	Staged string        `json:"staged,omitempty"`

	// Base alone is a log's first record: the sha256 of the index.json that lacks
	// what follows. If index.json is another one, another tool has written it, and
	// what follows is to be done to that. But not if this is a copy of a log, whose
	// index.json was copied at another moment: see originalPath.
	Base digest.Digest `json:"base,omitempty"`
}

// change is a storage.Change of the index; dropped blobs aren't in it.
type change struct {
	Put     *oci.Descriptor `json:"put,omitempty"`
	Tag     string          `json:"tag,omitempty"` // set to Digest
	Digest  digest.Digest   `json:"digest,omitempty"`
	Untag   string          `json:"untag,omitempty"`
	Deleted digest.Digest   `json:"delete,omitempty"`
}

func encodeRecord(rec record) ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(line, body...), '\n'), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errTorn = errors.New("record is torn")

func decodeRecord(line []byte) (record, error) {
	var rec record
	sum, body, ok := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return rec, errTorn
	}
	return rec, json.Unmarshal(body, &rec)
}

// parseLog returns the records of a log, and where the last good one ends. A bad
// record with a good one behind it is damage, and an error beside what was good
// before it; at the end it's a write that was cut off.
func parseLog(data []byte) (records []record, end int64, err error) {
	var bad error
	for at := 0; at < len(data); {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			break
		}
		rec, err := decodeRecord(data[at : at+n])
		at += n + 1
		switch {
		case err != nil && bad == nil:
			bad = fmt.Errorf("log: byte %d: %w", at-n-1, err)
		case err != nil:
		case bad != nil:
			return records, end, bad
		default:
			end = int64(at)
			records = append(records, rec)
		}
	}
	return records, end, nil
}

// toStorage turns a record back into what the index applies. A change that it
// doesn't know is an error: a later release may have written it.
func toStorage(changes []change) ([]storage.Change, error) {
	out := make([]storage.Change, 0, len(changes))
	for _, c := range changes {
		s := storage.Change{Digest: c.Digest}
		var tagErr, err error
		switch {
		case c.Put != nil:
			s.Kind, s.Digest, s.Manifest = storage.PutChange, c.Put.Digest, oci.Manifest{Descriptor: *c.Put}
		case c.Tag != "":
			s.Kind = storage.TagChange
			s.Tag, tagErr = oci.ParseTag(c.Tag)
		case c.Untag != "":
			s.Kind = storage.UntagChange
			s.Tag, tagErr = oci.ParseTag(c.Untag)
		default:
			s.Kind, s.Digest = storage.DeleteChange, c.Deleted
		}
		if s.Kind != storage.UntagChange {
			_, err = oci.ParseDigest(s.Digest.String())
		}
		if err = errors.Join(tagErr, err); err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// fromStorage is what a record keeps of changes.
func fromStorage(changes []storage.Change) []change {
	out := make([]change, 0, len(changes))
	for _, s := range changes {
		switch s.Kind {
		case storage.PutChange:
			d := oci.Descriptor{MediaType: s.Manifest.MediaType, Digest: s.Digest, Size: s.Manifest.Size}
			out = append(out, change{Put: &d})
		case storage.TagChange:
			out = append(out, change{Tag: s.Tag.String(), Digest: s.Digest})
		case storage.UntagChange:
			out = append(out, change{Untag: s.Tag.String()})
		case storage.DeleteChange:
			out = append(out, change{Deleted: s.Digest})
		case storage.DropBlobChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	return out
}

// replay returns the index with what the log adds to it, and opens the log if
// this process may write it. sum is the sha256 of index.json, empty for a copy
// of it. Of a damaged log it returns what comes before the damage, and damage.
func (r *repo) replay(idx *layout.Index, sum digest.Digest) (*layout.Index, error) {
	r.closeLog()
	data, err := r.readFile(logPath(r.name))
	switch {
	case missing(err):
		return idx, nil
	case irregular(err):
		return idx, damage{err}
	case err != nil:
		return nil, err
	}
	records, end, bad := parseLog(data)
	p, err := r.pendingOf(records, sum)
	if err == nil && bad != nil && !p.void {
		err = damage{bad}
	}
	if _, damaged := errors.AsType[damage](err); err != nil && !damaged {
		return nil, err
	}
	if idx = idx.Replay(p.changes); err != nil {
		return idx, err
	}
	if r.store.lock.held() {
		if err := r.openLog(end); err != nil {
			return nil, err
		}
		r.log.staged, r.log.spent = p.staged, len(p.changes) == 0
		r.changed = timeNow()
		r.store.background.wake(r)
	}
	return idx, nil
}

// pending is what an index.json lacks that its log has.
type pending struct {
	changes []storage.Change
	staged  []string
	void    bool // the log and index.json are of two moments
}

func (r *repo) pendingOf(records []record, sum digest.Digest) (p pending, err error) {
	for _, rec := range records {
		past, err := r.isPast(rec, sum)
		if err != nil {
			return p, err
		}
		if past && rec.Fold == "" {
			return pending{void: true}, nil
		}
		if past {
			p.changes = nil
		} else if rec.Staged != "" {
			p.staged = append(p.staged, rec.Staged)
		}
		more, err := toStorage(rec.Changes)
		if err != nil {
			return p, damage{err}
		}
		p.changes = append(p.changes, more...)
	}
	return p, nil
}

// isPast reports whether index.json, whose sha256 is sum, is past what rec says
// of it: a fold that has happened, or the base of a log that was copied.
func (r *repo) isPast(rec record, sum digest.Digest) (bool, error) {
	beside := path.Join(r.stageDir(), rec.Staged)
	switch {
	case rec.Base == "" || sum == "":
		return false, nil
	case rec.Fold == sum:
		return true, nil
	case rec.Base == sum:
		return false, nil
	case rec.Fold == "":
		beside = originalPath(r.name)
	case rec.Staged == "":
		return false, nil
	}
	_, err := r.store.fs.Stat(beside)
	if missing(err) {
		return true, nil
	}
	return false, err
}

// beginLog makes a log for the index.json that st is of, and returns what its
// first record has to be.
func (r *repo) beginLog(st *state) (record, error) {
	if r.log != nil {
		if err := r.removeLog(); err != nil {
			return record{}, err
		}
	}
	base := st.sum
	if base == "" {
		data, err := r.readFile(indexPath(r.name))
		if err != nil {
			return record{}, err
		}
		base = digest.FromBytes(data)
	}
	original, err := r.store.fs.OpenFile(originalPath(r.name), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return record{}, err
	}
	if err := errors.Join(original.Close(), r.openLog(0)); err != nil {
		return record{}, errors.Join(err, r.store.fs.Remove(originalPath(r.name)))
	}
	return record{Base: base}, r.store.disk.SyncDir(ownDir(r.name))
}

// openLog opens the log for appending behind its last good record.
func (r *repo) openLog(end int64) error {
	f, err := r.store.fs.OpenFile(logPath(r.name), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if err = f.Truncate(end); err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.log = &wal{file: f, size: end}
	return nil
}

func (r *repo) closeLog() {
	if r.log != nil {
		_ = r.log.file.Close() // every record was synced when it was written
		r.log = nil
	}
}

// append adds records and makes them durable, after all that was done before. If that
// fails, the log is as it was before, unless the error is joined by another one.
func (w *wal) append(disk *durable.Writer, records ...record) error {
	var lines []byte
	for _, rec := range records {
		line, err := encodeRecord(rec)
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	if err := disk.Append(w.file, lines); err != nil {
		return errors.Join(err, w.cut(w.size))
	}
	w.size += int64(len(lines))
	return nil
}

// cut takes back what was appended behind size.
func (w *wal) cut(size int64) error {
	if err := w.file.Truncate(size); err != nil {
		return err
	}
	w.size = size
	_, err := w.file.Seek(size, io.SeekStart)
	return err
}
