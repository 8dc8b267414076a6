package s3

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// format is the version of records and segments.
const format = 1

// A record is lines of JSON: its head, then the commits since the last segment,
// which are its tail. A segment is lines of commits, and is written once.
type head struct {
	Format     int       `json:"format"`
	Count      int64     `json:"count"` // of commits, ever
	Repository string    `json:"repository,omitempty"`
	Retired    bool      `json:"retired,omitempty"`
	Segments   []segment `json:"segments,omitempty"` // in order; the first begins with an empty repository
	Folded     []string  `json:"folded,omitempty"`   // the last commits that aren't in the tail any more
}

type segment struct {
	ID   string `json:"id"`
	Size int    `json:"size"`
}

// commit is what one Update, Commit or mount has changed. Those that were written
// together have one ID.
type commit struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
	Changes []change  `json:"do"`
}

// change has one of Put, Tag, Untag, Delete, Blob, Drop, Mark and Unmark.
type change struct {
	Put      *oci.Descriptor `json:"put,omitempty"` // a manifest, as a list of referrers has it
	Subject  digest.Digest   `json:"subject,omitempty"`
	Children []child         `json:"children,omitempty"`

	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"` // what Tag names

	Untag  string        `json:"untag,omitempty"`
	Delete digest.Digest `json:"delete,omitempty"`

	Blob    digest.Digest `json:"blob,omitempty"`
	Session string        `json:"session,omitempty"` // the upload session that the blob comes from
	entry

	Drop   digest.Digest `json:"drop,omitempty"`
	Lost   bool          `json:"lost,omitempty"` // Drop's bytes were bad, or gone
	Mark   digest.Digest `json:"mark,omitempty"`
	Since  time.Time     `json:"since,omitzero"` // of a mark, or of a blob that's unsure
	Unmark digest.Digest `json:"unmark,omitempty"`

	retire bool // it's never written: a record that is retired holds nothing else
}

type child struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// entry says where the bytes of a blob are: at data/<ID> from Offset on, or in Raw.
type entry struct {
	ID     string `json:"data,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Raw    []byte `json:"raw,omitempty"`
	Also   string `json:"also,omitempty"`   // other data with the same bytes, which mustn't go: a move to it has begun
	Unsure bool   `json:"unsure,omitempty"` // it's being mounted: the bytes mustn't go, and nobody may rely on them
}

// inline reports whether the bytes are in the record.
func (e *entry) inline() bool { return e.ID == "" }

// line is an encoded commit, with its line feed.
type line []byte

func encodeLine(v any) (line, error) {
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}

func decodeCommit(l line) (commit, error) {
	var c commit
	if err := json.Unmarshal(l, &c); err != nil {
		return commit{}, fmt.Errorf("commit: %w", err)
	}
	return c, nil
}

// names reports whether an ID stands in the line: that of the commit, of an
// upload session, or of data. IDs are random, so nothing else looks like one.
func (l line) names(id string) bool { return bytes.Contains(l, []byte(`"`+id+`"`)) }

func splitLines(data []byte) ([]line, error) {
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return nil, errors.New("the last line is cut off")
	}
	var lines []line
	for l := range bytes.Lines(data) {
		lines = append(lines, line(l))
	}
	return lines, nil
}

// smallest is the least size of a record that isn't retired, in bytes: so a list
// of records shows which are.
const smallest = 100

// retired is the head of all that is left of a repository. It's written over the
// record and never removed, so that who knows the old one can't bring it back.
func retired(count int64, id string) head {
	return head{Format: format, Count: count, Retired: true, Folded: []string{id}}
}

// decodeRecord splits a record.
func decodeRecord(data []byte) (h head, tail []line, err error) {
	lines, err := splitLines(data)
	if err != nil {
		return head{}, nil, err
	}
	if len(lines) == 0 {
		return head{}, nil, errors.New("it's empty")
	}
	if err := json.Unmarshal(lines[0], &h); err != nil {
		return head{}, nil, err
	}
	if h.Format != format {
		return head{}, nil, fmt.Errorf("format %d, and this program knows %d", h.Format, format)
	}
	return h, lines[1:], nil
}
