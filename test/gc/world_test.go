//go:build real

package gc_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/test/age"
	"github.com/caddy-oci/oci-registry/test/crowd"
	"github.com/caddy-oci/oci-registry/test/ledger"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// world is a registry, served by one process or more, and what its clients know of it.
type world struct {
	t         *testing.T
	caddyfile string
	servers   []*registry.Server
	pushers   []*pusher
	ledger    ledger.Ledger

	mu     sync.Mutex
	parts  map[digest.Digest][]digest.Digest // what a tag of this digest needs
	pushed map[digest.Digest]bool            // whatever was
}

func newWorld(t *testing.T, caddyfile string, pushers int) *world {
	w := &world{t: t, caddyfile: caddyfile, parts: make(map[digest.Digest][]digest.Digest), pushed: make(map[digest.Digest]bool)}
	for i := range pushers {
		w.pushers = append(w.pushers, newPusher(w, i))
	}
	return w
}

func (w *world) start(processes int) {
	w.t.Helper()
	w.servers = nil
	for range processes {
		srv := registry.Config(w.t, w.caddyfile)
		srv.Await("/v2/")
		w.servers = append(w.servers, srv)
	}
}

func (w *world) stop() {
	for _, srv := range w.servers {
		srv.Stop()
	}
}

// work has clients push for some time beside one round after the other, and
// returns how much those have removed.
func (w *world) work(long time.Duration) (removed int64) {
	w.t.Helper()
	clients := make([]func(context.Context) error, len(w.pushers))
	for i, p := range w.pushers {
		clients[i] = p.turn
	}
	c := crowd.Start(w.t, clients...)
	rounds := 0
	for begun := time.Now(); time.Since(begun) < long; rounds++ {
		counts := w.collect(w.servers[rounds%len(w.servers)])
		removed += counts["removed_blobs"] + counts["removed_manifests"]
		if counts["problems"] > 0 {
			w.t.Errorf("a round has found problems: %v", counts)
		}
	}
	turns := c.Stop()
	w.check()
	w.t.Logf("%d turns beside %d rounds, %d things removed", turns, rounds, removed)
	return removed
}

// check fails the test unless every process has all that was acknowledged, whole.
func (w *world) check() (found map[ledger.Tag]digest.Digest) {
	w.t.Helper()
	now := w.ledger.Now()
	for _, srv := range w.servers {
		found = w.ledger.Check(w.t, srv, now, now)
	}
	return found
}

const job = "/oci_registry/registries/inline/jobs/gc"

// collect does a round and returns what that has counted.
func (w *world) collect(srv *registry.Server) map[string]int64 {
	w.t.Helper()
	var begun tasks.Report
	w.ask(srv, http.MethodPost, &begun)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		var status tasks.Status
		w.ask(srv, http.MethodGet, &status)
		if last := status.Last; last != nil && last.ID == begun.ID {
			if last.Error != "" {
				w.t.Fatalf("a round: %s", last.Error)
			}
			return last.Counts
		}
		<-again.C
	}
}

// ask asks the admin endpoint about the job. A process whose claim another one has
// just released may find it taken still.
func (w *world) ask(srv *registry.Server, method string, to any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	err := srv.Until(ctx, func(ctx context.Context) error {
		resp, err := srv.Admin.Do(ctx, method, job, nil)
		if remote.Status(err) == http.StatusConflict {
			return err
		}
		if err != nil {
			w.t.Error(err)
			return nil
		}
		return errors.Join(json.NewDecoder(resp.Body).Decode(to), resp.Body.Close())
	})
	if err != nil || w.t.Failed() {
		w.t.Fatal(err)
	}
}

// settle has all garbage of a root go, and compares what is left with what the
// tags need.
func (w *world) settle(root string) {
	w.t.Helper()
	var found map[ledger.Tag]digest.Digest
	for pass := range 4 { // a manifest goes, then its blobs, then the repository
		w.start(1)
		if pass == 0 {
			found = w.check()
		}
		for len(w.collect(w.servers[0])) > 0 { // it has removed something
		}
		w.stop()
		age.Marks(w.t, root, 2*time.Minute)
	}
	w.compare(found, func(name string) map[digest.Digest]bool { return w.blobs(root, name) })
}

// settleSlowly is settle where no time can be made to pass, and where only clients
// can say what there is.
func (w *world) settleSlowly() {
	w.t.Helper()
	w.start(1)
	found := w.check()
	for range 4 {
		for len(w.collect(w.servers[0])) > 0 { // it has removed something
		}
		time.Sleep(grace + time.Second)
	}
	for len(w.collect(w.servers[0])) > 0 {
	}
	w.compare(found, w.served)
	w.stop()
}

// needed is what each repository has to have for its tags.
func (w *world) needed(tags map[ledger.Tag]digest.Digest) map[string]map[digest.Digest]bool {
	needed := make(map[string]map[digest.Digest]bool)
	for tag, d := range tags {
		if d != "" && needed[tag.Repository] == nil {
			needed[tag.Repository] = make(map[digest.Digest]bool)
		}
		for _, part := range w.parts[d] {
			needed[tag.Repository][part] = true
		}
	}
	return needed
}

// compare fails the test unless each repository has what its tags need, and nothing
// else.
func (w *world) compare(tags map[ledger.Tag]digest.Digest, has func(name string) map[digest.Digest]bool) {
	w.t.Helper()
	kept, needed := 0, w.needed(tags)
	for _, name := range repositories {
		there := has(name)
		for _, d := range slices.Sorted(maps.Keys(there)) {
			if !needed[name][d] {
				w.t.Errorf("%s still has %s, which nothing needs", name, d)
			}
		}
		for d := range needed[name] {
			if !there[d] {
				w.t.Errorf("%s has lost %s", name, d)
			}
		}
		kept += len(there)
	}
	w.t.Logf("%d blobs are left", kept)
	if kept == 0 {
		w.t.Error("all has gone, so this has shown nothing")
	}
}

// blobs are what a repository has on disk.
func (w *world) blobs(root, name string) map[digest.Digest]bool {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(root, name, "blobs", "sha256", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	there := make(map[digest.Digest]bool)
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			w.t.Fatal(err)
		}
		there[digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(f))] = true
	}
	return there
}

// served is what a repository says it has, of all that was ever pushed.
func (w *world) served(name string) map[digest.Digest]bool {
	w.t.Helper()
	r, there := w.servers[0].Repository(name), make(map[digest.Digest]bool)
	var mu sync.Mutex // guards there
	var group errgroup.Group
	group.SetLimit(64)
	for d := range w.pushed {
		group.Go(func() error {
			has, err := r.HasBlob(w.t.Context(), d)
			if err == nil && !has { // a manifest may be no blob
				_, err = r.Resolve(w.t.Context(), d.String())
				has = err == nil
			}
			if has {
				mu.Lock()
				defer mu.Unlock()
				there[d] = true
			}
			if remote.Status(err) == http.StatusNotFound {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	return there
}
