package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// zotBucket is a folder that a zot wrote, in a bucket, as zot has it there: the
// bytes of a digest are in one place, and all others are empty.
func zotBucket(t *testing.T, root, prefix string) *fake {
	t.Helper()
	f := newFake()
	f.page = 7
	full := make(map[string]bool)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if strings.Contains(key, "/blobs/") {
			hex := filepath.Base(key)
			if full[hex] {
				body = nil
			}
			full[hex] = true
		}
		_, err = f.put(t.Context(), putRequest{Key: prefix + key, Body: body})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const zotFixture = "../../test/testdata/foreign/zot"

// What zot has in a bucket is what it would have in a folder.
func TestLayouts(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(zotFixture)); err != nil {
		t.Fatal(err)
	}
	want, err := filesystem.Open(root, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = want.Close() })
	got := openLayouts(zotBucket(t, zotFixture, "zot/zot/"), "/zot/zot/")
	t.Cleanup(func() { _ = got.Close() })
	if err := got.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := wantNames(t, got)
	if !slices.Equal(names, wantNames(t, want)) {
		t.Fatalf("the repositories are %v", names)
	}
	for _, n := range names {
		wantSameRepository(t, got.Repository(n), want.Repository(n))
	}
}

func wantNames(t *testing.T, s storage.Store) (names []oci.Name) {
	t.Helper()
	for n, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, n)
	}
	for i, n := range names {
		for after, err := range s.Repositories(t.Context(), n) {
			if err != nil || after != names[i+1] {
				t.Fatalf("after %s comes %s, %v", n, after, err)
			}
			break
		}
	}
	return names
}

func wantSameRepository(t *testing.T, got, want storage.Repository) {
	t.Helper()
	a, errA := got.Index(t.Context())
	b, errB := want.Index(t.Context())
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	var tags []string
	for tag, desc := range b.Tags(oci.Tag{}) {
		tags = append(tags, tag.String())
		if found, err := got.Resolve(t.Context(), oci.TagRef(tag)); err != nil || found.Digest != desc.Digest {
			t.Errorf("%s:%s is %s, %v; want %s", want.Name(), tag, found.Digest, err, desc.Digest)
		}
	}
	for tag := range a.Tags(oci.Tag{}) {
		if !slices.Contains(tags, tag.String()) {
			t.Errorf("%s has the tag %s", got.Name(), tag)
		}
	}
	list := func(i storage.Index) (all []string) {
		for desc := range i.Manifests() {
			all = append(all, desc.MediaType+" "+desc.Digest.String())
			for r := range i.Referrers(desc.Digest, "") {
				all = append(all, "referrer "+r.Digest.String())
			}
		}
		return all
	}
	if !slices.Equal(list(a), list(b)) {
		t.Errorf("%s has %q, want %q", got.Name(), list(a), list(b))
	}
	wantSameContents(t, got, want)
}

func wantSameContents(t *testing.T, got, want storage.Repository) {
	t.Helper()
	count := func(r storage.Repository) (all []digest.Digest) {
		c, _ := storage.As[storage.Collectable](r)
		for found, err := range c.Contents(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found.Digest)
		}
		slices.Sort(all)
		return all
	}
	all := count(want)
	if !slices.Equal(count(got), all) {
		t.Fatalf("%s holds %v, want %v", got.Name(), count(got), all)
	}
	for _, d := range all {
		b, err := got.OpenBlob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil || d.Algorithm().FromBytes(raw) != d || int64(len(raw)) != b.Size {
			t.Errorf("%s@%s: %d bytes, %v", got.Name(), d, len(raw), err)
		}
	}
}

// Bytes may lie in a folder that is no repository; what is nowhere is unknown, and
// what really is empty isn't.
func TestLayoutsWithoutBytes(t *testing.T) {
	t.Parallel()
	f := newFake()
	elsewhere, nowhere, empty := digest.FromString("elsewhere"), digest.FromString("nowhere"), digest.FromString("")
	for key, body := range map[string]string{
		"a/index.json":                                   `{"schemaVersion":2,"manifests":[]}`,
		"a/blobs/sha256/" + elsewhere.Encoded():          "",
		"a/blobs/sha256/" + nowhere.Encoded():            "",
		"a/blobs/sha256/" + empty.Encoded():              "",
		"_blobstore/blobs/sha256/" + elsewhere.Encoded(): "elsewhere",
		"no/index/blobs/sha256/" + empty.Encoded():       "",
		"broken/index.json":                              "{",
	} {
		if _, err := f.put(t.Context(), putRequest{Key: key, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	l := openLayouts(f, "")
	r := l.Repository(mustName("a"))
	for d, want := range map[digest.Digest]int64{elsewhere: 9, empty: 0} {
		if desc, err := r.StatBlob(t.Context(), d); err != nil || desc.Size != want {
			t.Errorf("%s: %+v, %v", d, desc, err)
		}
	}
	if _, err := r.StatBlob(t.Context(), nowhere); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("nowhere: %v", err)
	}
	c, _ := storage.As[storage.Collectable](r)
	for found, err := range c.Contents(t.Context()) {
		if err != nil || found.Digest == nowhere {
			t.Errorf("it holds %v, %v", found, err)
		}
	}
	if _, err := l.Repository(mustName("broken")).Index(t.Context()); !errors.Is(err, storage.ErrBroken) {
		t.Errorf("broken: %v", err)
	}
	if _, err := l.Repository(mustName("no/index")).Index(t.Context()); !errors.Is(err, oci.NameUnknown) {
		t.Errorf("no index: %v", err)
	}
}

// Nothing can be changed, and after Close nothing be read.
func TestLayoutsAreReadOnly(t *testing.T) {
	t.Parallel()
	f := zotBucket(t, zotFixture, "")
	l := openLayouts(f, "")
	r := l.Repository(mustName("app"))
	c, _ := storage.As[storage.Collectable](r)
	before := len(f.objects)
	for what, write := range map[string]func(context.Context) error{
		"NewUpload":    func(ctx context.Context) error { _, err := r.NewUpload(ctx, storage.UploadOptions{}); return err },
		"ResumeUpload": func(ctx context.Context) error { _, err := r.ResumeUpload(ctx, "x"); return err },
		"MountBlob":    func(ctx context.Context) error { _, err := r.MountBlob(ctx, "", r.Name()); return err },
		"Update":       func(ctx context.Context) error { return r.Update(ctx, func(*storage.Edit) error { return nil }) },
		"Retire":       func(ctx context.Context) error { _, err := c.Retire(ctx); return err },
	} {
		if err := write(t.Context()); !errors.Is(err, oci.Unsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(f.objects) != before {
		t.Error("something was written")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, errIndex := r.Index(t.Context())
	for what, err := range map[string]error{"Index": errIndex, "Ready": l.Ready(t.Context()), "Close": l.Close()} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}
