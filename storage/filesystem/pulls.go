package filesystem

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"path"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
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
	repo, err := r.use()
	if err != nil {
		return // closed: nobody pulls
	}
	defer repo.done()
	repo.pulls.mu.Lock()
	if repo.pulls.times == nil {
		repo.pulls.times = make(map[digest.Digest]time.Time)
	}
	repo.pulls.times[d] = timeNow()
	repo.pulls.mu.Unlock()
	r.store.background.pulled(repo)
}

// writePulls appends what came since it was last called. It isn't synced: a
// pull that is lost counts as now. Pulls that can't be written down stay.
func (r *repo) writePulls() error {
	r.pulls.writeMu.Lock()
	defer r.pulls.writeMu.Unlock()
	r.pulls.mu.Lock()
	times := r.pulls.times
	r.pulls.times = nil
	r.pulls.mu.Unlock()
	if len(times) == 0 {
		return nil
	}
	size, err := r.appendPulls(times)
	if err != nil {
		r.pulls.restore(times)
		return err
	}
	if size < max(r.pulls.compact, compactFrom) {
		return nil
	}
	return r.compactPulls()
}

func (r *repo) appendPulls(times map[digest.Digest]time.Time) (size int64, err error) {
	if !r.store.lock.held() {
		return 0, storage.ErrStandby
	}
	return r.store.appendLines(pullsPath(r.name), encodePulls(times), false)
}

// restore puts back times, unless there are later ones.
func (p *pulls) restore(times map[digest.Digest]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(times, p.times)
	p.times = times
}

// compactPulls writes the file anew with one line a digest.
func (r *repo) compactPulls() error {
	data, err := r.readFile(pullsPath(r.name))
	if err != nil {
		return err
	}
	times := make(map[digest.Digest]time.Time)
	for line := range bytes.Lines(data) {
		var e pullEntry
		if json.Unmarshal(line, &e) == nil { // else it was cut off
			times[e.Digest] = e.Time
		}
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
