package gc_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
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
