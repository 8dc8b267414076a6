package gc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// world is a store, a clock, and what a collector has found in it.
type world struct {
	*filesystem.Store

	t     *testing.T
	root  string
	mu    sync.Mutex
	now   time.Time
	found []gc.Finding
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	s, err := filesystem.Open(root, filesystem.Options{Unsynced: true})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return &world{Store: s, t: t, root: root, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

const (
	grace    = time.Hour
	untagged = 48 * time.Hour
)

// collect does a round.
func (w *world) collect(opts gc.Options) {
	w.t.Helper()
	if opts.Grace == 0 {
		opts.Grace, opts.UntaggedGrace = grace, untagged
	}
	opts.Now = w.time
	w.found = nil
	opts.Found = func(f gc.Finding) { w.found = append(w.found, f) }
	check(w.t, gc.Collect(w.t.Context(), w, oci.Name{}, func(oci.Name) {}, opts))
}

func (w *world) repo(name string) storage.Repository {
	n, err := oci.ParseName(name)
	check(w.t, err)
	return w.Repository(n)
}

func pushBlob(ctx context.Context, r storage.Repository, content string) (digest.Digest, error) {
	d := digest.FromString(content)
	if _, err := r.StatBlob(ctx, d); err == nil { // as clients do
		return d, nil
	}
	_, err := storage.PutBlob(ctx, r, d, strings.NewReader(content), storage.UploadOptions{})
	return d, err
}

func (w *world) blob(r storage.Repository, content string) digest.Digest {
	w.t.Helper()
	d, err := pushBlob(w.t.Context(), r, content)
	check(w.t, err)
	return d
}

type fields map[string]any

func manifest(mediaType string, f fields) (oci.Manifest, error) {
	f["schemaVersion"], f["mediaType"] = 2, mediaType
	raw, err := json.Marshal(f)
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.ParseManifest(mediaType, raw, digest.Canonical)
}

func descriptors(mediaType string, digests ...digest.Digest) []fields {
	list := make([]fields, 0, len(digests))
	for _, d := range digests {
		list = append(list, fields{"mediaType": mediaType, "digest": d, "size": 1})
	}
	return list
}

func (w *world) push(r storage.Repository, m oci.Manifest, tags ...string) digest.Digest {
	w.t.Helper()
	check(w.t, put(w.t.Context(), r, m, tags...))
	return m.Digest
}

func put(ctx context.Context, r storage.Repository, m oci.Manifest, tags ...string) error {
	opts := storage.PutOptions{Sparse: storage.SparseAll}
	for _, s := range tags {
		tag, err := oci.ParseTag(s)
		if err != nil {
			return err
		}
		opts.Tags = append(opts.Tags, tag)
	}
	return storage.PutManifest(ctx, r, m, opts)
}

func (w *world) image(title string, layers ...digest.Digest) oci.Manifest {
	w.t.Helper()
	m, err := manifest(oci.MediaTypeImageManifest, fields{
		"layers": descriptors("application/x.layer", layers...), "annotations": fields{"title": title},
	})
	check(w.t, err)
	return m
}

func (w *world) referrer(title string, subject digest.Digest) oci.Manifest {
	w.t.Helper()
	m, err := manifest(oci.MediaTypeImageManifest, fields{
		"layers": descriptors("application/x.layer"), "annotations": fields{"title": title},
		"subject": descriptors(oci.MediaTypeImageManifest, subject)[0],
	})
	check(w.t, err)
	return m
}

// contents are the blobs and manifests' bytes of a repository.
func (w *world) contents(r storage.Repository) []string {
	w.t.Helper()
	var all []string
	for c, err := range r.(storage.Collectable).Contents(w.t.Context()) {
		check(w.t, err)
		all = append(all, c.Digest.String())
	}
	slices.Sort(all)
	return all
}

func (w *world) wantContents(r storage.Repository, want ...digest.Digest) {
	w.t.Helper()
	texts := make([]string, 0, len(want))
	for _, d := range want {
		texts = append(texts, d.String())
	}
	slices.Sort(texts)
	if got := w.contents(r); !slices.Equal(got, texts) {
		w.t.Fatalf("there is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(texts, "\n"))
	}
}

func TestBlobsGoAGraceAfterTheyAreMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	m := w.push(r, w.image("m", x), "v1")
	w.wait(1000 * time.Hour) // nobody has looked yet
	w.collect(gc.Options{})
	w.wantContents(r, x, y, m)
	w.wait(grace - time.Second)
	w.collect(gc.Options{})
	w.wantContents(r, x, y, m)
	for range 2 {
		w.wait(time.Second)
		w.collect(gc.Options{DryRun: true})
		w.wantContents(r, x, y, m)
		if len(w.found) != 1 || w.found[0] != (gc.Finding{Kind: gc.Blob, Repository: "a", Name: y.String(), Size: 1, Due: w.time()}) {
			t.Fatalf("a dry run found %v", w.found)
		}
	}
	w.collect(gc.Options{})
	w.wantContents(r, x, m)
	if len(w.found) != 1 || w.found[0].Size != 1 {
		t.Fatalf("found %v", w.found)
	}
}

// A dry run also says what is going to go, and when at the soonest.
func TestDryRunForetells(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	old := w.push(r, w.image("old", w.blob(r, "x")), "v1")
	w.push(r, w.image("new"), "v1")
	w.collect(gc.Options{DryRun: true})
	if len(w.found) != 2 {
		t.Fatalf("a dry run found %v, want a manifest and its blob", w.found)
	}
	for _, f := range w.found {
		want := w.time().Add(grace)
		if f.Name == old.String() {
			want = w.time().Add(untagged)
		}
		if !f.Due.Equal(want) {
			t.Errorf("%v is due at %v, want %v", f, f.Due, want)
		}
	}
	w.wait(untagged + grace)
	w.collect(gc.Options{})
	w.wantContents(r, old, w.image("new").Digest, digest.FromString("x")) // the dry run has marked nothing
}

// Who deletes a subject doesn't mean its signatures to stay.
func TestReferrersFollowADeletedSubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = time.Now() // when storage marks
	r := w.repo("a")
	subject := w.push(r, w.image("subject"), "v1")
	early := w.push(r, w.referrer("early", digest.FromString("is going to come")))
	late := w.push(r, w.referrer("late", subject))
	check(t, storage.DeleteManifest(t.Context(), r, oci.DigestRef(subject), ""))
	for range 3 {
		w.collect(gc.Options{})
		w.wait(2 * untagged)
	}
	if _, err := r.Resolve(t.Context(), oci.DigestRef(late)); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("what refers to a subject that was deleted: %v", err)
	}
	if _, err := r.Resolve(t.Context(), oci.DigestRef(early)); err != nil {
		t.Errorf("what has come before its subject: %v", err)
	}
}

// A clock that was set makes nothing old.
func TestRenewedMarks(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]time.Duration{"a year forward": 365 * 24 * time.Hour, "a year back": -365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.repo("a")
			x := w.blob(r, "x")
			m := w.push(r, w.image("untagged", w.blob(r, "y")))
			w.collect(gc.Options{})
			w.wait(set)
			w.collect(gc.Options{Renew: set > 0}) // marks of the future are renewed anyway
			w.wait(grace - time.Second)
			w.collect(gc.Options{})
			w.wantContents(r, x, m, digest.FromString("y"))
			w.wait(time.Second)
			w.collect(gc.Options{})
			w.wantContents(r, m, digest.FromString("y"))
			w.wait(untagged - grace)
			w.collect(gc.Options{})
			w.wantContents(r)
		})
	}
}

func TestUntaggedManifestsMayBeKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	untaggedImage := w.push(r, w.image("old", x))
	for range 3 {
		w.collect(gc.Options{KeepUntagged: true})
		w.wait(2 * untagged)
	}
	w.wantContents(r, x, untaggedImage)
	if len(w.found) != 0 {
		t.Fatalf("found %v, but %v should have gone before", w.found, y)
	}
}

func TestUntaggedManifestsGoAfterTheirGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x := w.blob(r, "x")
	old := w.push(r, w.image("old", x), "v1")
	w.push(r, w.image("new"), "v1")
	w.collect(gc.Options{})
	w.wait(untagged - time.Second)
	w.collect(gc.Options{})
	if _, err := r.Resolve(t.Context(), oci.DigestRef(old)); err != nil {
		t.Fatal(err) // and now it has been asked for, which begins the grace anew
	}
	w.wait(time.Hour)
	w.collect(gc.Options{})
	w.wait(untagged - time.Hour)
	w.collect(gc.Options{})
	w.wantContents(r, x, old, w.image("new").Digest)
	w.wait(time.Hour)
	w.collect(gc.Options{})
	w.wantContents(r, w.image("new").Digest)
}

func TestWhatCannotBeReadKeepsItsRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, other := w.repo("a"), w.repo("b")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	lost := w.push(r, w.image("lost", x), "v1")
	gone := w.blob(other, "z")
	check(t, os.Remove(filepath.Join(w.root, "a", "blobs", "sha256", lost.Encoded())))
	problems := 0
	for range 3 {
		w.collect(gc.Options{})
		for _, f := range w.found {
			if f.Problem != "" && f.Name == lost.String() {
				problems++
			}
		}
		w.wait(100 * time.Hour)
	}
	w.wantContents(r, x, y)
	if problems != 3 {
		t.Fatalf("told %d times of it in 3 rounds", problems)
	}
	if slices.Contains(w.contents(other), gone.String()) {
		t.Fatal("another repository isn't collected for it")
	}
}

func TestMissingBlobsAreToldOfAndStopNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	x, y := w.blob(r, "x"), w.blob(r, "y")
	m := w.push(r, w.image("m", x), "v1")
	check(t, os.Remove(filepath.Join(w.root, "a", "blobs", "sha256", x.Encoded())))
	w.collect(gc.Options{})
	if len(w.found) != 1 || w.found[0].Name != x.String() || w.found[0].Problem == "" {
		t.Fatalf("found %v", w.found)
	}
	w.wait(grace)
	w.collect(gc.Options{})
	w.wantContents(r, m)
	_ = y
}

func TestEmptyRepositoriesGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.repo("a")
	w.push(r, w.image("m", w.blob(r, "x")), "v1")
	check(t, storage.DeleteManifest(t.Context(), r, mustTag(t, "v1"), ""))
	for range 3 {
		w.collect(gc.Options{})
		w.wait(untagged)
	}
	w.collect(gc.Options{})
	for name, err := range w.Repositories(t.Context(), oci.Name{}) {
		t.Fatalf("%s is there, %v", name, err)
	}
}

func mustTag(t *testing.T, s string) oci.Reference {
	t.Helper()
	tag, err := oci.ParseTag(s)
	check(t, err)
	return oci.TagRef(tag)
}

func TestARoundMayBeStoppedAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.blob(w.repo(fmt.Sprint("r", i)), "x")
	}
	w.collect(gc.Options{})
	w.wait(grace)
	var done []string
	boom := errors.New("the clock has moved")
	opts := gc.Options{Grace: grace, Now: w.time, Stop: func() error {
		if len(done) == 2 {
			return boom
		}
		return nil
	}}
	err := gc.Collect(t.Context(), w, oci.Name{}, func(n oci.Name) { done = append(done, n.String()) }, opts)
	if !errors.Is(err, boom) || !slices.Equal(done, []string{"r0", "r1"}) {
		t.Fatalf("error %v, done %v", err, done)
	}
	last, err := oci.ParseName("r1")
	check(t, err)
	opts.Stop = nil
	check(t, gc.Collect(t.Context(), w, last, func(n oci.Name) { done = append(done, n.String()) }, opts))
	if !slices.Equal(done, []string{"r0", "r1", "r2", "r3", "r4"}) {
		t.Fatalf("done %v", done)
	}
}

func TestGraceIsNotTooShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := gc.Collect(t.Context(), w, oci.Name{}, func(oci.Name) {}, gc.Options{Grace: 59 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "1m0s") {
		t.Fatalf("error %v", err)
	}
}

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
