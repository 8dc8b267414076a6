package storagetest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Fill puts something of everything into a store: for who copies from it.
func Fill(t testing.TB, s storage.Store) {
	t.Helper()
	r := repository(t, s, "team/app")
	m := image(t, "m", r.pushBlob("layer"))
	r.push(m, "v1", "latest")
	long := hashed(t, digest.SHA512, image(t, "long", r.pushBlob("other layer"), putLong(t, r, "layer")))
	r.push(long, "sha512")
	index := imageIndex(t, m, long)
	r.push(index, "all")
	r.push(imageIndex(t, index)) // untagged
	signature := referrer(t, "signature", m.Digest)
	r.push(signature)
	r.push(referrer(t, "of the signature", signature.Digest))
	r.push(manifest(t, "application/x.unknown", fields{"what": "ever"}), "unknown")
	r.push(imageIndex(t, image(t, "isn't there")), "sparse")
	r.pushBlob("nothing names this")
	for i := range 5 {
		other := repository(t, s, fmt.Sprint("many/", i))
		other.push(image(t, fmt.Sprint(i), other.pushBlob(fmt.Sprint("layer ", i%2))), "v1")
	}
	outer := repository(t, s, "team")
	outer.push(image(t, "outer", outer.pushBlob("layer")), "v1")
	repository(t, s, "bytes").pushBlob("only a blob")
}

// Push pushes an image into a repository of a store, whose only layer is the repository's
// name.
func Push(t testing.TB, s storage.Store, name, tag string) {
	t.Helper()
	r := repository(t, s, name)
	r.push(image(t, name, r.pushBlob(name)), tag)
}

// WantPushed fails unless a store has these repositories, sorted, and in each the layer
// that Push has put there.
func WantPushed(t testing.TB, s storage.Store, names ...string) {
	t.Helper()
	var got []string
	for n, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.String())
		repo{s.Repository(n), t}.wantBlob(digest.FromString(n.String()), n.String())
	}
	if !slices.Equal(got, names) {
		t.Errorf("there are %q, want %q", got, names)
	}
}

// hashed is a manifest under the digest of another algorithm.
func hashed(t testing.TB, a digest.Algorithm, m oci.Manifest) oci.Manifest {
	t.Helper()
	return must(oci.ParseManifest(m.MediaType, m.Raw, a))(t)
}

// putLong is pushBlob with a longer digest.
func putLong(t testing.TB, r repo, content string) digest.Digest {
	t.Helper()
	d := digest.SHA512.FromString(content)
	must(storage.PutBlob(t.Context(), r, d, strings.NewReader(content), storage.UploadOptions{}))(t)
	return d
}

// Picture is all that's in a store: media types and bytes by what they are called.
// A repository that holds nothing isn't in it, and isn't copied.
func Picture(t testing.TB, s storage.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for n, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatal(err)
		}
		r := s.Repository(n)
		index := must(r.Index(t.Context()))(t)
		for tag, desc := range index.Tags(oci.Tag{}) {
			all[n.String()+":"+tag.String()] = desc.Digest.String()
		}
		for desc := range index.Manifests() {
			key := n.String() + "@" + desc.Digest.String()
			all[key] = desc.MediaType + " " + content(t, r, desc.Digest)
			for referrer := range index.Referrers(desc.Digest, "") {
				all[key+" "+referrer.Digest.String()] = "referrer " + referrer.ArtifactType
			}
		}
		if c, ok := storage.As[storage.Collectable](r); ok {
			for found, err := range c.Contents(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				all[n.String()+"/"+found.Digest.String()] = content(t, r, found.Digest)
			}
		}
	}
	return all
}

func content(t testing.TB, r storage.Repository, d digest.Digest) string {
	t.Helper()
	b := must(r.OpenBlob(t.Context(), d))(t)
	raw, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// WantSame fails unless two stores have the same.
func WantSame(t testing.TB, got, want storage.Store) {
	t.Helper()
	WantPicture(t, Picture(t, got), Picture(t, want))
}

// WantPicture fails unless two pictures show the same.
func WantPicture(t testing.TB, got, want map[string]string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("there's nothing to compare")
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s is %.60q, want %.60q", key, got[key], want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("there's %s, which there shouldn't be", key)
		}
	}
}
