package filesystem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// pulls are when manifests were last pulled, as far as that isn't written down.
type pulls struct {
	mu    sync.Mutex
	times map[digest.Digest]time.Time

	writeMu sync.Mutex
	compact int64 // size from which on the file is written anew; 0 stands for compactFrom
}

// compactFrom is the least size, in bytes, at which lines that don't count any
// more are dropped.
const compactFrom = 1 << 20

// pullEntry is a line of a repository's pulls. The last line of a digest counts.
type pullEntry struct {
	Digest digest.Digest `json:"digest"`
	Time   time.Time     `json:"time"`
}

func pullsPath(n oci.Name) string { return path.Join(ownDir(n), "pulls") }

// RecordPull implements storage.PullRecorder. It is written down within a minute.
func (r *Repository) RecordPull(_ context.Context, d digest.Digest) {
	repo, done, err := r.use()
	if err != nil {
		return // closed: nobody pulls
	}
	defer done()
	repo.pulls.mu.Lock()
	if repo.pulls.times == nil {
		repo.pulls.times = make(map[digest.Digest]time.Time)
	}
	repo.pulls.times[d] = timeNow()
	repo.pulls.mu.Unlock()
	r.store.background.pulled(repo)
}

// writePulls appends what came since it was last called. It isn't synced: a
// pull that is lost counts as now.
func (r *repo) writePulls() error {
	r.pulls.mu.Lock()
	times := r.pulls.times
	r.pulls.times = nil
	r.pulls.mu.Unlock()
	if len(times) == 0 || !r.store.lock.held() {
		return nil
	}
	r.pulls.writeMu.Lock()
	defer r.pulls.writeMu.Unlock()
	f, err := r.store.openAppend(pullsPath(r.name))
	if err != nil {
		return err
	}
	_, err = f.Write(encodePulls(times))
	fi, serr := f.Stat()
	if err = errors.Join(err, serr, f.Close()); err != nil {
		return err
	}
	if fi.Size() < max(r.pulls.compact, compactFrom) {
		return nil
	}
	return r.compactPulls()
}

// compactPulls writes the file anew with one line a digest.
func (r *repo) compactPulls() error {
	data, err := r.readFile(pullsPath(r.name))
	if err != nil {
		return err
	}
	times := make(map[digest.Digest]time.Time)
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var e pullEntry
		if dec.Decode(&e) != nil {
			break // the end, or a line that was cut off
		}
		times[e.Digest] = e.Time
	}
	lines := encodePulls(times)
	r.pulls.compact = 2 * int64(len(lines))
	return r.store.disk.Replace(pullsPath(r.name), ownDir(r.name), lines)
}

func encodePulls(times map[digest.Digest]time.Time) []byte {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for d, t := range times {
		_ = enc.Encode(pullEntry{d, t}) // strings and times, into memory
	}
	return lines.Bytes()
}
