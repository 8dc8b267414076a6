//go:build real

// Package crash kills the real program while clients push, and shows that what
// it has acknowledged is there when it comes back.
package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const pushers = 6

var repositories = []string{"app", "team/app", "team/app/deep"}

func TestKill(t *testing.T) {
	t.Parallel()
	rounds, layerSize := tool.Sized(20, 25), tool.Sized(20<<10, 3<<20)
	root := t.TempDir()
	l := ledger{tags: make(map[name]*history)}
	var sessions []*session
	for round := range rounds {
		begun := time.Now()
		srv := registry.Serve(t, root)
		t.Logf("round %d: ready after %s, %d tags pushed so far", round, time.Since(begun).Round(time.Millisecond), len(l.tags))
		l.check(t, srv)
		for _, s := range sessions {
			s.finish(t, srv)
		}
		w := work{t: t, srv: srv, ledger: &l, round: round, layerSize: layerSize, acked: make(chan struct{}), killed: make(chan struct{})}
		sessions = w.untilKilled(10 + 13*round%40)
	}
	srv := registry.Serve(t, root)
	l.check(t, srv)
	for _, s := range sessions {
		s.finish(t, srv)
	}
}

// work is what clients do between the start of the server and its end.
type work struct {
	t         *testing.T
	srv       *registry.Server
	ledger    *ledger
	round     int
	layerSize int

	acked   chan struct{} // a value for each acknowledged push
	killed  chan struct{} // closed before the server is killed
	isEnded atomic.Bool
	seed    atomic.Uint64
}

// untilKilled pushes until so many pushes were acknowledged, and kills the
// server in the midst of the next ones. It returns the upload sessions that were open.
func (w *work) untilKilled(pushes int) []*session {
	w.seed.Store(uint64(w.round+1) << 32)
	var wg sync.WaitGroup
	sessions := []*session{newSession(w, "idle"), newSession(w, "streaming")}
	wg.Go(func() { sessions[1].stream(w) })
	for p := range pushers {
		wg.Go(func() { w.push(p) })
	}
	for range pushes {
		select {
		case <-w.acked:
		case <-w.srv.Exited():
			w.t.Error(w.srv.Ended())
		}
	}
	w.isEnded.Store(true)
	close(w.killed)
	w.srv.Kill()
	wg.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
	return sessions
}

// push pushes one image after the other, each to a tag of its own and to one
// that moves.
func (w *work) push(pusher int) {
	shared := image.RandomLayer(uint64(pusher%2), w.layerSize)
	for i := 0; ; i++ {
		c := image.New("amd64", shared, image.RandomLayer(w.seed.Add(1), w.layerSize))
		repository := repositories[(pusher+i)%len(repositories)]
		for _, tag := range []string{fmt.Sprintf("round%d-%d-%d", w.round, pusher, i), fmt.Sprintf("latest-%d", pusher)} {
			h := w.ledger.begin(name{repository, tag}, c.Digest)
			if err := w.srv.Repository(repository).Push(context.Background(), c, tag); err != nil {
				w.failed(err)
				return
			}
			w.ledger.acknowledge(h, c.Digest)
		}
		select {
		case w.acked <- struct{}{}:
		case <-w.killed:
			return
		}
	}
}

// failed is told of an error, which is none if the server was killed.
func (w *work) failed(err error) {
	if !w.isEnded.Load() || remote.Status(err) != 0 {
		w.t.Errorf("before the server was killed: %v", err)
	}
}

// name is a tag of a repository.
type name struct{ repository, tag string }

// history is what a tag may be after a crash: what was acknowledged last, or
// something pushed since.
type history struct {
	acked digest.Digest // empty if nothing was
	since []digest.Digest
}

func (h *history) allows(d digest.Digest) bool { return d == h.acked || slices.Contains(h.since, d) }

// ledger remembers what was pushed, and what of it was acknowledged.
type ledger struct {
	mu   sync.Mutex
	tags map[name]*history
}

func (l *ledger) begin(n name, d digest.Digest) *history {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.tags[n]
	if h == nil {
		h = new(history)
		l.tags[n] = h
	}
	h.since = append(h.since, d)
	return h
}

func (l *ledger) acknowledge(h *history, d digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*h = history{acked: d}
}

// check reads all that the registry lists, every layer of it, and compares it
// with what was acknowledged.
func (l *ledger) check(t *testing.T, srv *registry.Server) {
	t.Helper()
	there := make(map[name]digest.Digest)
	repositories, err := srv.Repositories(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range repositories {
		repository := srv.Repository(r)
		tags, err := repository.Tags(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			desc, err := repository.Verify(t.Context(), tag)
			if err != nil {
				t.Error(err)
			}
			there[name{r, tag}] = desc.Digest
		}
	}
	for n, h := range l.tags {
		switch d, ok := there[n]; {
		case !ok && h.acked != "":
			t.Errorf("%v was acknowledged and is gone", n)
		case ok && !h.allows(d):
			t.Errorf("%v is %s, acknowledged was %s, pushed since %s", n, d, h.acked, h.since)
		}
		h.settle(there[n])
	}
	for n := range there {
		if l.tags[n] == nil {
			t.Errorf("%v is there, and nobody pushed it", n)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// settle takes what the tag is as its last word: nothing is under way any more.
func (h *history) settle(d digest.Digest) { *h = history{acked: d} }

var errKilled = errors.New("the server was killed")
