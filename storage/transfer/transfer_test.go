package transfer_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// copyAll copies, and returns what it says of problems.
func copyAll(t testing.TB, to, from storage.Store, opts transfer.Options) []string {
	t.Helper()
	var problems []string
	opts.Problem = func(p transfer.Problem) { problems = append(problems, p.String()) }
	if err := transfer.Copy(t.Context(), to, from, opts); err != nil {
		t.Fatal(err)
	}
	slices.Sort(problems)
	return problems
}

func wantProblems(t testing.TB, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("the problems are %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %q, want %q…", got[i], want[i])
		}
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	before := storagetest.Picture(t, source)
	target := onDisk(t, t.TempDir())
	var p transfer.Progress
	wantProblems(t, copyAll(t, target, source, transfer.Options{Progress: &p}))
	storagetest.WantPicture(t, storagetest.Picture(t, target), before)
	storagetest.WantPicture(t, storagetest.Picture(t, source), before)
	if p.Repositories.Load() != 8 || p.Finished.Load() != 8 || p.Copied.Load() == 0 || p.Bytes.Load() == 0 {
		t.Errorf("%d repositories, %d finished, %d copied, %d bytes", p.Repositories.Load(), p.Finished.Load(), p.Copied.Load(), p.Bytes.Load())
	}
	copied, skipped := p.Copied.Load(), p.Skipped.Load()
	wantProblems(t, copyAll(t, target, source, transfer.Options{Progress: &p}))
	if p.Copied.Load() != copied || p.Skipped.Load() != copied+2*skipped {
		t.Errorf("again: copied %d and skipped %d, first it was %d and %d", p.Copied.Load(), p.Skipped.Load(), copied, skipped)
	}
}

// Of a repository whose names can't be read the last good ones are copied, and it's
// said that they are.
func TestCopyOfBrokenNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	source, target := onDisk(t, root), onDisk(t, t.TempDir())
	m := repository(t, source, "broken").image("layer", "v1")
	repository(t, source, "other").image("layer", "v1")
	if err := os.WriteFile(filepath.Join(root, "broken", "index.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, copyAll(t, target, source, transfer.Options{}), "broken: these are its last good names: ")
	if desc, err := target.Repository(name(t, "broken")).Resolve(t.Context(), oci.TagRef(tag(t, "v1"))); err != nil || desc.Digest != m.Digest {
		t.Errorf("v1 is %s, %v", desc.Digest, err)
	}
	only := func(n oci.Name) bool { return n == name(t, "other") }
	wantProblems(t, copyAll(t, onDisk(t, t.TempDir()), source, transfer.Options{Only: only}))
}

// A store that can't tell what it holds gives what its manifests name, and one that
// can't tell what it has is asked for each thing.
func TestCopyOfStoresThatCannotTell(t *testing.T) {
	t.Parallel()
	source := inMemory(t)
	storagetest.Fill(t, source)
	target := inMemory(t)
	for range 2 {
		wantProblems(t, copyAll(t, target, source, transfer.Options{}))
		storagetest.WantSame(t, target, source)
	}
}

// What other tools wrote is copied too.
func TestCopyOfForeignRoots(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"skopeo", "regctl", "zot"} {
		root := t.TempDir()
		if err := os.CopyFS(root, os.DirFS(filepath.Join("..", "..", "test", "testdata", "foreign", tool))); err != nil {
			t.Fatal(err)
		}
		source, target := onDisk(t, root), onDisk(t, t.TempDir())
		wantProblems(t, copyAll(t, target, source, transfer.Options{}))
		storagetest.WantSame(t, target, source)
	}
}

func TestOnly(t *testing.T) {
	t.Parallel()
	source, target := onDisk(t, t.TempDir()), onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	copyAll(t, target, source, transfer.Options{Only: func(n oci.Name) bool { return n.String() == "team" }})
	want := storagetest.Picture(t, source)
	for key := range want {
		if !strings.HasPrefix(key, "team:") && !strings.HasPrefix(key, "team@") && !strings.HasPrefix(key, "team/sha") {
			delete(want, key)
		}
	}
	storagetest.WantPicture(t, storagetest.Picture(t, target), want)
}

// watched counts the uploads that begin, and may refuse them.
type watched struct {
	storage.Store

	uploads atomic.Int64
	refuse  func(n int64) error
}

func (w *watched) Repository(n oci.Name) storage.Repository {
	return watchedRepository{w.Store.Repository(n), w}
}

type watchedRepository struct {
	storage.Repository

	w *watched
}

func (r watchedRepository) Unwrap() any { return r.Repository }

func (r watchedRepository) NewUpload(ctx context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	if n := r.w.uploads.Add(1); r.w.refuse != nil {
		if err := r.w.refuse(n); err != nil {
			return nil, err
		}
	}
	return r.Repository.NewUpload(ctx, opts)
}

// A blob is sent once, whatever number of repositories it's in.
func TestBlobsAreShared(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	for _, n := range []string{"a", "b", "c", "d/e", "f"} {
		repository(t, source, n).image("one layer", "v1")
	}
	target := &watched{Store: onDisk(t, t.TempDir())}
	wantProblems(t, copyAll(t, target, source, transfer.Options{}))
	storagetest.WantSame(t, target, source)
	if n := target.uploads.Load(); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// If whoever was to send a shared blob couldn't, another repository tries.
func TestSharedBlobThatFailsFirst(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	for _, n := range []string{"a", "b"} {
		repository(t, source, n).image("one layer", "v1")
	}
	target := &watched{Store: onDisk(t, t.TempDir()), refuse: func(n int64) error {
		if n == 1 {
			return errors.New("the line is bad")
		}
		return nil
	}}
	problems := copyAll(t, target, source, transfer.Options{})
	if len(problems) != 1 || !strings.Contains(problems[0], "the line is bad") {
		t.Fatalf("the problems are %q", problems)
	}
	wantProblems(t, copyAll(t, target, source, transfer.Options{}))
	storagetest.WantSame(t, target, source)
}

// A copy that's stopped leaves nothing half done, and the next one goes on.
func TestStoppedAndContinued(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	dir := t.TempDir()
	target := &watched{Store: onDisk(t, dir)}
	ctx, cancel := context.WithCancel(t.Context())
	target.refuse = func(n int64) error {
		if n == 3 {
			cancel()
		}
		return ctx.Err()
	}
	err := transfer.Copy(ctx, target, source, transfer.Options{Parallel: 1, Problem: func(p transfer.Problem) { t.Errorf("a problem: %s", p) }})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	again := &watched{Store: onDisk(t, dir)}
	wantProblems(t, copyAll(t, again, source, transfer.Options{Parallel: 1}))
	storagetest.WantSame(t, again, source)
	whole := &watched{Store: onDisk(t, t.TempDir())}
	copyAll(t, whole, source, transfer.Options{Parallel: 1})
	if got, want := again.uploads.Load(), whole.uploads.Load()-2; got != want {
		t.Errorf("%d blobs were sent again, want %d", got, want)
	}
}

// vanishing has repositories that list a blob which is gone when it's read.
type vanishing struct {
	storage.Store

	gone digest.Digest
}

func (v vanishing) Repository(n oci.Name) storage.Repository {
	c, _ := storage.As[storage.Collectable](v.Store.Repository(n))
	return vanishingRepository{c, v.gone}
}

type vanishingRepository struct {
	storage.Collectable

	gone digest.Digest
}

func (r vanishingRepository) Contents(ctx context.Context) iter.Seq2[storage.Content, error] {
	return func(yield func(storage.Content, error) bool) {
		if yield(storage.Content{Digest: r.gone, Size: 4}, nil) {
			r.Collectable.Contents(ctx)(yield)
		}
	}
}

// Garbage that is collected in the source meanwhile is missed by nobody, unless a
// manifest needs it.
func TestCollectedMeanwhile(t *testing.T) {
	t.Parallel()
	source, gone := onDisk(t, t.TempDir()), digest.FromString("gone")
	r := repository(t, source, "a")
	r.image("layer", "v1")
	target := onDisk(t, t.TempDir())
	wantProblems(t, copyAll(t, target, vanishing{source, gone}, transfer.Options{}))
	storagetest.WantSame(t, target, source)
	r.push(oci.MediaTypeImageManifest, layers(gone), digest.SHA256, "v2")
	wantProblems(t, copyAll(t, target, vanishing{source, gone}, transfer.Options{}), "a@"+gone.String()+": manifest sha256:")
}

// What keeps everything from being copied ends it, and is no list of problems.
func TestNoUseInGoingOn(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	for what, tc := range map[string]struct {
		target storage.Store
		want   error
	}{
		"full":      {&watched{Store: inMemory(t), refuse: func(int64) error { return storage.ErrFull }}, storage.ErrFull},
		"read-only": {&watched{Store: inMemory(t), refuse: func(int64) error { return oci.Errorf(oci.Unsupported, "no") }}, oci.Unsupported},
	} {
		err := transfer.Copy(t.Context(), tc.target, source, transfer.Options{Problem: func(p transfer.Problem) { t.Errorf("%s: %s", what, p) }})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: err = %v", what, err)
		}
	}
	if err := transfer.Copy(t.Context(), inMemory(t), unlisted{source}, transfer.Options{}); err == nil {
		t.Error("a store whose repositories can't be listed is copied")
	}
}

// unlisted can't list its repositories.
type unlisted struct{ storage.Store }

func (unlisted) Repositories(context.Context, oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) { yield(oci.Name{}, errors.New("no")) }
}

// What is damaged or missing is told, and all else is copied.
func TestProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled := onDisk(t, dir)
	r := repository(t, filled, "a")
	r.image("whole", "whole")
	r.image("damaged layer", "layer")
	damaged := r.image("damaged manifest", "manifest")
	gone := digest.FromString("nowhere")
	r.push(oci.MediaTypeImageManifest, layers(gone), digest.SHA256, "missing")
	if err := filled.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, "a", digest.FromString("damaged layer"))
	flip(t, dir, "a", damaged.Digest)

	source, target := onDisk(t, dir), onDisk(t, t.TempDir())
	wantProblems(t, copyAll(t, target, source, transfer.Options{Parallel: 1}), sorted(
		"a@"+digest.FromString("damaged layer").String()+": its bytes are damaged",
		"a@"+damaged.Digest.String()+": its bytes are damaged",
		"a@"+gone.String()+": manifest sha256:",
		"a:manifest: what it names wasn't copied",
	)...)
	to := repository(t, target, "a")
	for tag, want := range map[string]bool{"whole": true, "layer": true, "missing": true, "manifest": false} {
		if _, err := to.Resolve(t.Context(), must(oci.ParseReference(tag))(t)); (err == nil) != want {
			t.Errorf("%s: %v", tag, err)
		}
	}
	content(t, to, digest.FromString("whole"))
	for _, d := range []digest.Digest{digest.FromString("damaged layer"), damaged.Digest} {
		if _, err := to.StatBlob(t.Context(), d); !errors.Is(err, oci.BlobUnknown) {
			t.Errorf("%s: %v", d, err)
		}
	}
}

func sorted(s ...string) []string { slices.Sort(s); return s }

// flip changes a byte of a blob.
func flip(t *testing.T, root, repository string, d digest.Digest) {
	t.Helper()
	file := filepath.Join(root, repository, "blobs", d.Algorithm().String(), d.Encoded())
	raw := must(os.ReadFile(file))(t)
	raw[len(raw)/2] ^= 1
	if err := errors.Join(os.Remove(file), os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// What an index.json calls a manifest, and isn't one, is kept as bytes.
func TestNoManifest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	filled := onDisk(t, dir)
	d := repository(t, filled, "a").blob("no manifest", digest.SHA256)
	if err := filled.Close(); err != nil {
		t.Fatal(err)
	}
	list := `{"schemaVersion":2,"manifests":[{"mediaType":"` + oci.MediaTypeImageManifest + `","digest":"` + d.String() + `","size":11,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "a", "index.json"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	target := onDisk(t, t.TempDir())
	wantProblems(t, copyAll(t, target, onDisk(t, dir), transfer.Options{}), "a:v1: what it names wasn't copied", "a@"+d.String()+": ")
	if got := content(t, repository(t, target, "a"), d); got != "no manifest" {
		t.Errorf("it's %q", got)
	}
}

// A tag that names something else in the target is moved only if that's wanted.
func TestTagsOfTheTarget(t *testing.T) {
	t.Parallel()
	source, target := onDisk(t, t.TempDir()), onDisk(t, t.TempDir())
	ours, theirs := repository(t, source, "a").image("ours", "v1", "v2"), repository(t, target, "a").image("theirs", "v1", "v3")
	wantProblems(t, copyAll(t, target, source, transfer.Options{}), "a:v1: the target has it for "+theirs.Digest.String())
	wantTags(t, target, map[string]digest.Digest{"v1": theirs.Digest, "v2": ours.Digest, "v3": theirs.Digest})
	wantProblems(t, copyAll(t, target, source, transfer.Options{Overwrite: true}))
	wantTags(t, target, map[string]digest.Digest{"v1": ours.Digest, "v2": ours.Digest, "v3": theirs.Digest})
}

func wantTags(t *testing.T, s storage.Store, want map[string]digest.Digest) {
	t.Helper()
	index := must(repository(t, s, "a").Index(t.Context()))(t)
	n := 0
	for tag, desc := range index.Tags(oci.Tag{}) {
		n++
		if want[tag.String()] != desc.Digest {
			t.Errorf("%s is %s, want %s", tag, desc.Digest, want[tag.String()])
		}
	}
	if n != len(want) {
		t.Errorf("there are %d tags, want %d", n, len(want))
	}
}

// Reading the source is no use of it; what the target has already is in use.
func TestMarks(t *testing.T) {
	t.Parallel()
	source, target := onDisk(t, t.TempDir()), onDisk(t, t.TempDir())
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range []storage.Store{source, target} {
		r := repository(t, s, "a")
		m := r.image("layer")
		if err := r.Update(t.Context(), func(e *storage.Edit) error {
			e.Mark(m.Digest, at)
			e.Mark(digest.FromString("layer"), at)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	wantProblems(t, copyAll(t, target, source, transfer.Options{}))
	for s, want := range map[storage.Store]bool{source: true, target: false} {
		c, _ := storage.As[storage.Collectable](s.Repository(name(t, "a")))
		for found, err := range c.Contents(t.Context()) {
			if err != nil || found.Marked.IsZero() == want {
				t.Errorf("%s is marked since %v, %v; want a mark: %t", found.Digest, found.Marked, err, want)
			}
		}
	}
}

// More than is done in one Update is done in several.
func TestManyTags(t *testing.T) {
	t.Parallel()
	source, target := inMemory(t), inMemory(t)
	r := repository(t, source, "a")
	m := r.image("layer")
	if err := r.Update(t.Context(), func(e *storage.Edit) error {
		for i := range 2500 {
			e.Tag(tag(t, "v"+strings.Repeat("0", i%100)+digest.FromString(string(rune(i))).Encoded()[:20]), m.Digest)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, copyAll(t, target, source, transfer.Options{}))
	storagetest.WantSame(t, target, source)
}
