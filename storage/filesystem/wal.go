package filesystem

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// wal is a repository's log: the changes that index.json lacks. Each line is a
// record: the CRC-32C of the rest in 8 hexadecimal digits, a space, JSON, a
// line feed. A line that is cut off at the end was never acknowledged.
type wal struct {
	file vfs.File
	size int64 // where the last good record ends
}

// record is one line. It has either changes or a fold.
type record struct {
	Changes []change `json:"changes,omitempty"`

	// Fold says that index.json with this sha256 has all that came before.
	Fold digest.Digest `json:"fold,omitempty"`
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

// parseLog returns the changes that an index.json with the given digest lacks,
// and where the last good record ends. A bad record with a good one behind it
// is damage, and an error; at the end it's a write that was cut off.
func parseLog(data []byte, index digest.Digest) (changes []change, end int64, err error) {
	var bad error
	for at := 0; at < len(data); {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			break
		}
		rec, err := decodeRecord(data[at : at+n])
		at += n + 1
		switch {
		case err != nil:
			bad = fmt.Errorf("log: byte %d: %w", at-n-1, err)
			continue
		case bad != nil:
			return nil, 0, bad
		}
		end = int64(at)
		if rec.Fold != "" && rec.Fold == index {
			changes = changes[:0]
		}
		changes = append(changes, rec.Changes...)
	}
	return changes, end, nil
}

// toStorage turns a record back into what the index applies.
func toStorage(changes []change) ([]storage.Change, error) {
	out := make([]storage.Change, 0, len(changes))
	for _, c := range changes {
		s := storage.Change{Digest: c.Digest}
		var err error
		switch {
		case c.Put != nil:
			s.Kind, s.Digest, s.Manifest = storage.PutChange, c.Put.Digest, oci.Manifest{Descriptor: *c.Put}
		case c.Tag != "":
			s.Kind = storage.TagChange
			s.Tag, err = oci.ParseTag(c.Tag)
		case c.Untag != "":
			s.Kind = storage.UntagChange
			s.Tag, err = oci.ParseTag(c.Untag)
		case c.Deleted != "":
			s.Kind, s.Digest = storage.DeleteChange, c.Deleted
		}
		if err != nil {
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
		case storage.DropBlobChange:
		}
	}
	return out
}

// replay returns the index with what the log adds to it, and opens the log if
// this process may write it.
func (r *repo) replay(idx *layout.Index, sum digest.Digest) (*layout.Index, error) {
	r.closeLog()
	data, err := r.readFile(logPath(r.name))
	if missing(err) {
		return idx, nil
	}
	if err != nil {
		return nil, err
	}
	changes, end, err := parseLog(data, sum)
	if err != nil {
		return nil, err
	}
	back, err := toStorage(changes)
	if err != nil {
		return nil, err
	}
	if r.store.lock.held() && end > 0 {
		if err := r.openLog(end); err != nil {
			return nil, err
		}
		r.changed = timeNow()
		r.store.background.wake(r)
	}
	return idx.Replay(back), nil
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

// append adds a record and makes it durable. If that fails, the log is as it
// was before, or closed if even that can't be done.
func (w *wal) append(rec record, sync func(vfs.File) error) error {
	line, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	_, err = w.file.Write(line)
	if err == nil {
		err = sync(w.file)
	}
	if err == nil {
		w.size += int64(len(line))
		return nil
	}
	if terr := w.file.Truncate(w.size); terr != nil {
		return errors.Join(err, terr)
	}
	_, serr := w.file.Seek(w.size, io.SeekStart)
	return errors.Join(err, serr)
}
