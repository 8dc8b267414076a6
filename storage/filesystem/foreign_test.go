package filesystem_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// expected is an entry of a fixture's expect.json.
type expected struct {
	Repository string                            `json:"repository"`
	Tag        string                            `json:"tag"`
	Digest     digest.Digest                     `json:"digest"`
	Platforms  map[string]digest.Digest          `json:"platforms"`
	Referrers  map[digest.Digest][]digest.Digest `json:"referrers"`
}

// fixture is a copy of a root that another tool wrote, and what is in it.
func fixture(t *testing.T, tool string) (root string, all []expected) {
	t.Helper()
	root = t.TempDir()
	from := filepath.Join("..", "..", "test", "testdata", "foreign", tool)
	check(t, os.CopyFS(root, os.DirFS(from)))
	check(t, json.Unmarshal([]byte(read(t, root, "expect.json")), &all))
	if len(all) == 0 {
		t.Fatal("expect.json is empty")
	}
	return root, all
}

func TestForeignRoots(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"skopeo", "regctl", "zot"} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			root, all := fixture(t, tool)
			s := open(t, root, filesystem.Options{})
			wantForeign(t, s, all)
			shut(t, s)
			changeForeign(t, root, all)
		})
	}
}

// wantForeign fails unless all that is expected is there, and no other tag or repository.
func wantForeign(t *testing.T, s storage.Store, all []expected) {
	t.Helper()
	tags := make(map[string]map[string]digest.Digest)
	for _, want := range all {
		r := repository(t, s, want.Repository)
		if tags[want.Repository] == nil {
			tags[want.Repository] = make(map[string]digest.Digest)
		}
		if want.Tag != "" {
			tags[want.Repository][want.Tag] = want.Digest
		}
		if want.Digest != "" {
			wantWhole(t, r, want.Digest)
		}
		for _, d := range want.Platforms {
			wantWhole(t, r, d)
		}
		for subject, referrers := range want.Referrers {
			got := make([]digest.Digest, 0, len(referrers))
			for referrer := range must(r.Referrers(t.Context(), subject, ""))(t) {
				got = append(got, referrer.Digest)
				wantWhole(t, r, referrer.Digest)
			}
			if !slices.Equal(got, slices.Sorted(slices.Values(referrers))) {
				t.Fatalf("%s: referrers of %s are %v, want %v", want.Repository, subject, got, referrers)
			}
		}
	}
	wantCatalog(t, s, slices.Sorted(maps.Keys(tags))...)
	for name, want := range tags {
		if got := repository(t, s, name).tags(); !maps.Equal(got, want) {
			t.Fatalf("%s has the tags %v, want %v", name, got, want)
		}
	}
}

// wantWhole fails unless the manifest d is found, with all that it needs.
func wantWhole(t *testing.T, r repo, d digest.Digest) {
	t.Helper()
	desc, err := r.Resolve(t.Context(), oci.DigestRef(d))
	if err == nil {
		err = whole(t.Context(), r, desc)
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", r.Name(), d, err)
	}
}

// changeForeign pushes, moves a tag and moves it back in each repository, and
// looks at what the files say then.
func changeForeign(t *testing.T, root string, all []expected) {
	t.Helper()
	before := make(map[string]string)
	s := open(t, root, filesystem.Options{})
	for _, want := range all {
		r := repository(t, s, want.Repository)
		if _, ok := before[want.Repository]; !ok {
			before[want.Repository] = read(t, root, want.Repository, "index.json")
			r.push(image(t, "ours", r.pushBlob(large("ours"))), "ours")
		}
		if want.Tag != "" {
			r.push(image(t, "moved"), want.Tag)
			r.want(want.Tag, image(t, "moved"))
			wantWhole(t, r, want.Digest) // what it was stays, by digest
		}
	}
	shut(t, s)
	for name := range before {
		readIndex(t, root, name) // which fails if it isn't what other tools can read
	}

	s = open(t, root, filesystem.Options{})
	for _, want := range all {
		if want.Tag == "" {
			continue
		}
		r := repository(t, s, want.Repository)
		check(t, r.Update(t.Context(), func(e *storage.Edit) error {
			e.Tag(tagOf(want.Tag), want.Digest)
			return nil
		}))
	}
	for name := range before {
		repository(t, s, name).delete("ours")
	}
	wantForeign(t, s, all)
	shut(t, s)
	s = open(t, root, filesystem.Options{})
	wantForeign(t, s, all)
	for name, index := range before {
		_, untagged := readIndex(t, root, name)
		wantListed(t, repository(t, s, name), index, untagged)
	}
}

// wantListed fails unless each digest of an old index.json is found still.
func wantListed(t *testing.T, r repo, index string, untagged []digest.Digest) {
	t.Helper()
	var old struct {
		Manifests []indexEntry `json:"manifests"`
	}
	check(t, json.Unmarshal([]byte(index), &old))
	for _, e := range old.Manifests {
		if _, err := r.Resolve(t.Context(), oci.DigestRef(e.Digest)); err != nil {
			t.Fatalf("%s: %s was listed: %v (untagged are %v)", r.Name(), e.Digest, err, untagged)
		}
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	root, all := fixture(t, "zot")
	database := read(t, root, "cache.db")
	for _, want := range all {
		check(t, os.MkdirAll(filepath.Join(root, want.Repository, ".uploads"), 0o700))
		write(t, "in progress", root, want.Repository, ".uploads", "x")
	}
	s := open(t, root, filesystem.Options{})
	wantForeign(t, s, all)
	repository(t, s, all[0].Repository).push(image(t, "ours"), "ours")
	shut(t, s)
	if read(t, root, "cache.db") != database {
		t.Fatal("cache.db was changed")
	}
	for _, want := range all {
		if read(t, root, want.Repository, ".uploads", "x") != "in progress" {
			t.Fatal("zot's sessions were changed")
		}
	}
}

// TestSkopeoDoesNotReachThroughThePool writes as skopeo does: manifests, configs
// and index.json in place, layers as new files.
func TestSkopeoDoesNotReachThroughThePool(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, watchful)
	layer, config := large("layer"), `{"config":true}`
	m := image(t, "m", digest.FromString(layer), digest.FromString(config))
	for _, name := range []string{"a", "b"} {
		r := repository(t, s, name)
		r.pushBlob(layer)
		r.pushBlob(config)
		r.push(m, "v1")
	}
	for _, d := range []digest.Digest{m.Digest, digest.FromString(config)} {
		f := must(os.OpenFile(blobFile(root, "a", d), os.O_WRONLY|os.O_TRUNC, 0))(t)
		_ = must(f.WriteString("rewritten"))(t)
		check(t, f.Close())
	}
	b := repository(t, s, "b")
	b.want("v1", m)
	b.wantBlob(layer)
	b.wantBlob(config)
	if err := readBlob(t.Context(), repository(t, s, "a"), digest.FromString(config)); err == nil || errors.Is(err, oci.BlobUnknown) {
		t.Fatalf("error %v, want other bytes", err)
	}
}
