package gc_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// graph is manifests of all kinds, that need each other at random.
type graph struct {
	manifests map[digest.Digest]oci.Manifest
	tagged    map[digest.Digest]bool
	blobs     []digest.Digest
}

func (w *world) graph(r storage.Repository, luck *rand.Rand) *graph {
	w.t.Helper()
	g := &graph{manifests: make(map[digest.Digest]oci.Manifest), tagged: make(map[digest.Digest]bool)}
	for i := range 20 {
		g.blobs = append(g.blobs, w.blob(r, fmt.Sprint("blob ", i)))
	}
	var all []digest.Digest
	some := func(from []digest.Digest) (some []digest.Digest) {
		for range luck.IntN(4) {
			if len(from) > 0 {
				some = append(some, from[luck.IntN(len(from))])
			}
		}
		return some
	}
	for i := range 30 {
		f := fields{"annotations": fields{"title": fmt.Sprint("manifest ", i)}}
		mediaType := []string{
			oci.MediaTypeImageManifest, oci.MediaTypeImageManifest, oci.MediaTypeImageIndex, oci.MediaTypeDockerList,
			oci.MediaTypeDockerManifest, "application/vnd.example.unknown+json",
		}[luck.IntN(6)]
		switch {
		case oci.IsIndex(mediaType):
			children := some(all)
			if luck.IntN(3) == 0 {
				children = append(children, digest.FromString(fmt.Sprint("sparse ", i)))
			}
			f["manifests"] = descriptors(oci.MediaTypeImageManifest, children...)
		case oci.IsManifest(mediaType):
			f["layers"] = descriptors("application/x.layer", some(g.blobs)...)
		default:
			f["parts"] = fmt.Sprint(some(g.blobs), some(all))
		}
		if luck.IntN(4) == 0 && len(all) > 0 && oci.IsManifest(mediaType) {
			f["subject"] = descriptors(oci.MediaTypeImageManifest, all[luck.IntN(len(all))])[0]
		}
		m, err := manifest(mediaType, f)
		check(w.t, err)
		var tags []string
		if luck.IntN(5) == 0 {
			tags = []string{fmt.Sprint("v", i)}
			g.tagged[m.Digest] = true
		}
		g.manifests[w.push(r, m, tags...)] = m
		all = append(all, m.Digest)
	}
	return g
}

// kept is what should be there in the end, by brute force: what is needed, until
// nothing more is.
func (g *graph) kept() map[digest.Digest]bool {
	kept := make(map[digest.Digest]bool)
	for d, m := range g.manifests {
		if g.tagged[d] || !oci.IsManifest(m.MediaType) {
			kept[d] = true
		}
	}
	for grown := true; grown; {
		before := len(kept)
		for d, m := range g.manifests {
			if kept[m.Subject] {
				kept[d] = true
			}
			if !kept[d] {
				continue
			}
			for _, list := range [][]oci.Descriptor{m.Blobs, m.Manifests} {
				for _, n := range list {
					kept[n.Digest] = true
				}
			}
			if m.Subject != "" {
				kept[m.Subject] = true
			}
			if !oci.IsManifest(m.MediaType) {
				for _, b := range slices.Concat(g.blobs, slices.Collect(maps.Keys(g.manifests))) {
					if strings.Contains(string(m.Raw), b.String()) {
						kept[b] = true
					}
				}
			}
		}
		grown = len(kept) > before
	}
	return kept
}

// Nothing is kept that should be gone, and nothing gone that should be kept.
func TestWhatStaysIsWhatAnOracleSays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.repo("a")
			g := w.graph(r, rand.New(rand.NewPCG(seed, 7)))
			for range 3 {
				w.collect(gc.Options{})
				w.wait(untagged)
			}
			var want []digest.Digest
			kept := g.kept()
			for _, d := range slices.Concat(g.blobs, slices.Collect(maps.Keys(g.manifests))) {
				if kept[d] {
					want = append(want, d)
				}
			}
			w.wantContents(r, want...)
		})
	}
}

// Pushers that share layers, with a collector at work all the time. The clock goes
// on only between pushes, so that each is done within the grace.
func TestCollectingBesidePushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rounds, pushers := 60, 8
	if os.Getenv("OCI_SOAK") == "1" {
		rounds, pushers = 2000, 50
	}
	var pushing sync.RWMutex
	var pushes atomic.Int64
	turns := make(chan struct{}) // to push
	var all sync.WaitGroup
	for i := range pushers {
		all.Go(func() {
			luck := rand.New(rand.NewPCG(uint64(i), 8))
			for n := 0; ; n++ {
				if _, ok := <-turns; !ok {
					return
				}
				pushing.RLock()
				err := pushSomething(t.Context(), w, luck, i, n)
				pushing.RUnlock()
				pushes.Add(1)
				if err != nil {
					t.Errorf("pusher %d: %v", i, err)
				}
			}
		})
	}
	for range rounds {
		var fed sync.WaitGroup
		fed.Go(func() { // pushes before, in and after the round
			for range 60 {
				turns <- struct{}{}
			}
		})
		w.collect(gc.Options{Grace: time.Minute, UntaggedGrace: 2 * time.Minute})
		for _, f := range w.found {
			if f.Problem != "" {
				t.Errorf("found %+v", f)
			}
		}
		fed.Wait()
		pushing.Lock()
		w.wait(40 * time.Second)
		pushing.Unlock()
	}
	close(turns)
	all.Wait()
	whole(t, w)
	t.Logf("%d pushes beside %d rounds", pushes.Load(), rounds)
}

// pushSomething pushes an image of layers that others push too, moves a tag to it,
// and now and then deletes one.
func pushSomething(ctx context.Context, w *world, luck *rand.Rand, i, n int) error {
	r := w.Repository(must(oci.ParseName([]string{"a", "b"}[luck.IntN(2)])))
	var layers []digest.Digest
	for range 3 {
		d, err := pushBlob(ctx, r, fmt.Sprint("layer ", luck.IntN(30)))
		if err != nil {
			return err
		}
		layers = append(layers, d)
	}
	m, err := manifest(oci.MediaTypeImageManifest, fields{
		"layers": descriptors("application/x.layer", layers...), "annotations": fields{"title": fmt.Sprint(i, n)},
	})
	if err != nil {
		return err
	}
	tag := must(oci.ParseTag(fmt.Sprint("v", luck.IntN(4), "-", i)))
	if err := storage.PutManifest(ctx, r, m, storage.PutOptions{Tags: []oci.Tag{tag}}); err != nil {
		return err
	}
	if luck.IntN(5) == 0 {
		return storage.DeleteManifest(ctx, r, oci.TagRef(tag), "")
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // a test's own
	}
	return v
}

// whole fails unless all that a tag needs is there.
func whole(t *testing.T, w *world) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		r := w.repo(name)
		idx, err := r.Index(t.Context())
		check(t, err)
		for tag, desc := range idx.Tags(oci.Tag{}) {
			m, err := storage.ReadManifest(t.Context(), r, desc)
			check(t, err)
			for _, b := range m.Blobs {
				if _, err := r.StatBlob(t.Context(), b.Digest); err != nil {
					t.Errorf("%s:%s lacks %s", name, tag, b.Digest)
				}
			}
		}
	}
}
