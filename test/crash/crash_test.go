//go:build real

// Package crash kills the real program while clients push, and shows that what
// it has acknowledged is there when it comes back.
package crash

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/ledger"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/slow"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const pushers = 6

var repositories = []string{"app", "team/app", "team/app/deep"}

func TestKill(t *testing.T) {
	t.Parallel()
	rounds, layerSize := tool.Sized(20, 100), tool.Sized(20<<10, 128<<10)
	root := t.TempDir()
	var l ledger.Ledger
	var sessions []*slow.Upload
	for round := range rounds {
		begun := time.Now()
		srv := registry.Serve(t, root)
		t.Logf("round %d: ready after %s, %d tags pushed so far", round, time.Since(begun).Round(time.Millisecond), l.Len())
		check(t, srv, &l)
		for _, s := range sessions {
			s.Resume(t, &srv.Registry)
		}
		w := work{t: t, srv: srv, ledger: &l, round: round, layerSize: layerSize, acked: make(chan struct{}), killed: make(chan struct{})}
		sessions = w.untilKilled(10 + 13*round%40)
	}
	srv := registry.Serve(t, root)
	check(t, srv, &l)
	for _, s := range sessions {
		s.Resume(t, &srv.Registry)
	}
}

// check compares what the registry has with what was acknowledged. What was under
// way when the server was killed may have happened or not.
func check(t *testing.T, srv *registry.Server, l *ledger.Ledger) {
	t.Helper()
	now := l.Now()
	l.Settle(l.Check(t, srv, now, now))
}

// work is what clients do between the start of the server and its end.
type work struct {
	t         *testing.T
	srv       *registry.Server
	ledger    *ledger.Ledger
	round     int
	layerSize int

	acked   chan struct{} // a value for each acknowledged push
	killed  chan struct{} // closed before the server is killed
	isEnded atomic.Bool
	seed    atomic.Uint64
}

// untilKilled pushes until so many pushes were acknowledged, and kills the
// server in the midst of the next ones. It returns the upload sessions that were
// open: one without a request, and one with a request that was under way.
func (w *work) untilKilled(pushes int) []*slow.Upload {
	w.seed.Store(uint64(w.round+1) << 32)
	idle, streaming := w.session("idle"), w.session("streaming")
	streaming.Patch()
	streaming.Write(w.t, w.layerSize)
	var wg sync.WaitGroup
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
	w.failed(streaming.Abandon())
	if w.t.Failed() {
		w.t.FailNow()
	}
	return []*slow.Upload{idle, streaming}
}

// onDisk is more than the server keeps of a session in memory, in bytes. A
// smaller one isn't sure to outlive a kill that comes at once.
const onDisk = 100 << 10

// session begins an upload.
func (w *work) session(repository string) *slow.Upload {
	w.t.Helper()
	return slow.NewUpload(w.t, w.srv.Repository(repository), image.RandomLayer(w.seed.Add(1), 4*max(w.layerSize, onDisk)))
}

// push pushes one image after the other, each to a tag of its own and to one
// that moves.
func (w *work) push(pusher int) {
	shared := image.RandomLayer(uint64(pusher%2), w.layerSize)
	for i := 0; ; i++ {
		c := image.New("amd64", shared, image.RandomLayer(w.seed.Add(1), w.layerSize))
		repository := repositories[(pusher+i)%len(repositories)]
		for _, tag := range []string{fmt.Sprintf("round%d-%d-%d", w.round, pusher, i), fmt.Sprintf("latest-%d", pusher)} {
			acknowledge := w.ledger.Begin(ledger.Tag{Repository: repository, Name: tag}, c.Digest)
			if err := w.srv.Repository(repository).Push(context.Background(), c, tag); err != nil {
				w.failed(err)
				return
			}
			acknowledge()
		}
		select {
		case w.acked <- struct{}{}:
		case <-w.killed:
			return
		}
	}
}

// failed is told of an error, which is none of the server's if it was killed.
func (w *work) failed(err error) {
	if !w.isEnded.Load() || err == nil || remote.Status(err) != 0 {
		w.t.Errorf("before the server was killed: %v", err)
	}
}
