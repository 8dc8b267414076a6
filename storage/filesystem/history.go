package filesystem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// historyEntry is a line of a repository's history: a name that came to mean
// something else. A manifest is untagged since the last line that took a tag
// off it, and known since the line that put it.
type historyEntry struct {
	Time time.Time     `json:"time"`
	By   string        `json:"by,omitempty"`  // empty: anonymous
	Tag  string        `json:"tag,omitempty"` // empty: the manifest itself came or went
	Was  digest.Digest `json:"was,omitempty"`
	Now  digest.Digest `json:"now,omitempty"`
}

func historyPath(n oci.Name) string { return path.Join(ownDir(n), "history") }

// appendHistory writes down what is about to change. It is synced if a manifest
// loses a name, since from that moment its grace is counted; a line that is
// lost counts as "now" and makes no deletion come sooner.
func (r *repo) appendHistory(b *batch) error {
	if len(b.events) == 0 {
		return nil
	}
	lines, loses, err := encodeHistory(b.events, timeNow())
	if err != nil {
		return err
	}
	if _, err := r.store.appendLines(historyPath(r.name), lines, loses); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	b.events = nil // not again when the batch is tried again
	return nil
}

// encodeHistory returns a line for each event, and whether one takes a name off
// a manifest.
func encodeHistory(events []event, now time.Time) (lines []byte, loses bool, err error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range events {
		loses = loses || e.Was != ""
		if err := enc.Encode(historyEntry{Time: now, By: e.by, Tag: e.Tag.String(), Was: e.Was, Now: e.Now}); err != nil {
			return nil, false, err
		}
	}
	return b.Bytes(), loses, nil
}
