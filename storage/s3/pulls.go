package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// pulls are when manifests were last pulled here. They're written to one object
// of this process's, whole, at most once a minute, and not at all while nothing
// is pulled; from some size or age on to another one.
type pulls struct {
	mu      sync.Mutex
	id      string // of the object
	since   time.Time
	times   map[pulled]time.Time // what it says, and what it doesn't yet
	fresh   bool                 // there's something that it doesn't
	writing bool                 // somebody is going to write it
}

// pulled is a manifest that was pulled.
type pulled struct {
	name   oci.Name
	digest digest.Digest
}

// pullLine is a line of such an object. The latest one of a manifest counts.
type pullLine struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Time       time.Time     `json:"time"`
}

const (
	pullTime  = time.Minute    // how often it's written
	pullsAge  = 24 * time.Hour // after which another one is begun,
	pullsSize = 256 << 10      // or from so many bytes on
	pullsRest = time.Hour      // how much longer nobody has written one that's merged: clocks differ
)

var _ storage.PullRecorder = (*Repository)(nil)

// RecordPull implements storage.PullRecorder. It makes no call.
func (r *Repository) RecordPull(_ context.Context, d digest.Digest) {
	s, p := r.store, &r.store.pulls
	if s.options().ReadOnly {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = make(map[pulled]time.Time)
	}
	p.times[pulled{r.name.Clone(), d}] = time.Now()
	p.fresh = true
	if !p.writing {
		p.writing = s.background(s.writePulls)
	}
}

// writePulls writes what was pulled until nothing is any more, or the store is closed.
func (s *Store) writePulls() {
	again := time.NewTicker(pullTime)
	defer again.Stop()
	for closing := false; !closing; {
		select {
		case <-again.C:
		case <-s.closing:
			closing = true
		}
		if !s.flushPulls(context.Background()) {
			return
		}
	}
}

// flushPulls is false if there was nothing to write. What can't be written is kept.
func (s *Store) flushPulls(ctx context.Context) bool {
	p := &s.pulls
	p.mu.Lock()
	if !p.fresh {
		p.writing = false
		p.mu.Unlock()
		return false
	}
	if p.id == "" || time.Since(p.since) > pullsAge {
		p.id, p.since = newID(), time.Now()
	}
	body, id := encodePulls(p.times), p.id
	p.fresh = false
	written := p.times
	if full := len(body) > pullsSize; full {
		p.id, p.times = "", make(map[pulled]time.Time)
	}
	p.mu.Unlock()
	err := s.probe.outcome()
	if err == nil {
		_, err = s.bucket.put(ctx, putRequest{Key: s.keys.pulls(id), Body: body})
	}
	if err != nil {
		s.options().Log.WarnContext(ctx, "last pulls aren't written down", "error", err)
		p.keep(written)
	}
	return true
}

// keep adds times that aren't written down, unless there are later ones.
func (p *pulls) keep(times map[pulled]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, at := range times {
		if at.After(p.times[what]) {
			p.times[what] = at
		}
	}
	p.fresh = true
}

func encodePulls(times map[pulled]time.Time) []byte {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for what, at := range times {
		_ = enc.Encode(pullLine{what.name.String(), what.digest, at.UTC().Truncate(time.Second)}) // into memory
	}
	return lines.Bytes()
}

// decodePulls adds what an object says, unless it's known better. Lines that can't
// be read say nothing.
func decodePulls(body []byte, times map[pulled]time.Time) {
	for l := range bytes.Lines(body) {
		var line pullLine
		if json.Unmarshal(l, &line) != nil {
			continue
		}
		name, err := oci.ParseName(line.Repository)
		if what := (pulled{name, line.Digest}); err == nil && line.Time.After(times[what]) {
			times[what] = line.Time
		}
	}
}

// A sweep makes one object of so many old ones, or more, that are no larger than this.
const (
	mergePulls   = 16
	mergedAtMost = 4 << 20
)

// sweepPulls makes one of objects that nobody writes any more, and leaves out what
// isn't there any more.
func (w *sweep) sweepPulls(ctx context.Context) {
	var keys []string
	complete := w.each(ctx, w.store.keys.pulls(""), func(o listed) {
		if w.old(o) && time.Since(o.Modified) > pullsAge+pullsRest && o.Size <= mergedAtMost && len(keys) < 4*mergePulls {
			keys = append(keys, o.Key)
		}
	})
	if !complete || w.dry || len(keys) < mergePulls {
		return
	}
	if err := w.mergePulls(ctx, keys); err != nil {
		w.fail(fmt.Errorf("last pulls: %w", err))
	}
}

func (w *sweep) mergePulls(ctx context.Context, keys []string) error {
	times := make(map[pulled]time.Time)
	for _, key := range keys {
		body, _, err := w.store.bucket.fetch(ctx, getRequest{Key: key})
		if err != nil {
			return err
		}
		decodePulls(body, times)
	}
	if err := w.store.forgetGone(ctx, times); err != nil {
		return err
	}
	if err := w.store.writable(ctx); err != nil {
		return err
	}
	if len(times) > 0 {
		put := putRequest{Key: w.store.keys.pulls(newID()), Body: encodePulls(times)}
		if _, err := w.store.bucket.put(ctx, put); err != nil {
			return err
		}
	}
	return w.remove(ctx, keys)
}

// forgetGone leaves out what isn't there any more, one repository after the other.
func (s *Store) forgetGone(ctx context.Context, times map[pulled]time.Time) error {
	var last oci.Name
	var now *state
	for _, what := range slices.SortedFunc(maps.Keys(times), func(a, b pulled) int { return a.name.Compare(b.name) }) {
		if now == nil || what.name != last {
			var err error
			if now, err = s.look(ctx, what.name); err != nil {
				return err
			}
			last = what.name
		}
		if now.find(what.digest) == nil {
			delete(times, what)
		}
	}
	return nil
}

// look returns the state of a repository, whether it exists or not.
func (s *Store) look(ctx context.Context, name oci.Name) (*state, error) {
	r := s.cache.acquire(s, name)
	defer s.cache.release(r)
	return r.refresh(ctx)
}
