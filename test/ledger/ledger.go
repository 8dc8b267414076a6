//go:build real

// Package ledger remembers what tests have made tags name, and compares a
// registry with it.
package ledger

import (
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/registry"
)

// Tag is a tag of a repository.
type Tag struct{ Repository, Name string }

// Ledger is what was asked for, and what of it was acknowledged. Only one client
// at a time may change a tag. The zero Ledger is empty.
type Ledger struct {
	mu   sync.Mutex
	tags map[Tag]*history
}

// history is what a tag was to name, one after the other; empty for nothing.
type history struct {
	states []digest.Digest
	acked  int // the last one that was acknowledged
}

// Begin notes that a tag is going to name d, or nothing if d is empty. Call
// acknowledge when the registry has said so.
func (l *Ledger) Begin(tag Tag, d digest.Digest) (acknowledge func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.tags[tag]
	if h == nil {
		if l.tags == nil {
			l.tags = make(map[Tag]*history)
		}
		h = &history{states: []digest.Digest{""}}
		l.tags[tag] = h
	}
	h.states = append(h.states, d)
	now := len(h.states) - 1
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		h.acked = now
	}
}

// Len is the number of tags.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tags)
}

// Moment is how far each tag has come.
type Moment map[Tag]struct{ acked, begun int }

// Now is this moment.
func (l *Ledger) Now() Moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(Moment)
	for tag, h := range l.tags {
		m[tag] = struct{ acked, begun int }{h.acked, len(h.states) - 1}
	}
	return m
}

// Check reads all that the registry has, and fails the test unless each tag is
// what it was at some time between two moments, and whole. It returns what tags
// name.
func (l *Ledger) Check(t *testing.T, srv *registry.Server, from, to Moment) map[Tag]digest.Digest {
	t.Helper()
	found := all(t, srv)
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, h := range l.tags {
		if may := h.states[from[tag].acked : to[tag].begun+1]; !slices.Contains(may, found[tag]) {
			t.Errorf("%v is %q, acknowledged was %q, asked for since %q", tag, found[tag], may[0], may[1:])
		}
	}
	for tag := range found {
		if l.tags[tag] == nil {
			t.Errorf("%v is there, and nobody pushed it", tag)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return found
}

// Settle takes what tags name for the last word on them: nothing is under way.
func (l *Ledger) Settle(found map[Tag]digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tag, h := range l.tags {
		*h = history{states: []digest.Digest{found[tag]}}
	}
}

// all is what the tags of a registry name. Each manifest is read whole, once.
func all(t *testing.T, srv *registry.Server) map[Tag]digest.Digest {
	t.Helper()
	ctx := t.Context()
	found := make(map[Tag]digest.Digest)
	repositories, err := srv.Repositories(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range repositories {
		repository := srv.Repository(name)
		tags, err := repository.Tags(ctx)
		if err != nil {
			t.Fatal(err)
		}
		verified := make(map[digest.Digest]bool)
		for _, tag := range tags {
			desc, err := repository.Resolve(ctx, tag)
			if err == nil && !verified[desc.Digest] {
				_, err = repository.Verify(ctx, desc.Digest.String())
				verified[desc.Digest] = true
			}
			if err != nil {
				t.Error(err)
			}
			found[Tag{name, tag}] = desc.Digest
		}
	}
	return found
}
