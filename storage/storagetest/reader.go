package storagetest

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func readerChecks() map[string]check {
	return map[string]check{
		"Name returns the repository's name":                 readerName,
		"StatBlob describes a blob":                          statBlob,
		"a blob that isn't there is BlobUnknown":             blobUnknown,
		"OpenBlob opens a blob for reading":                  openBlob,
		"the manifests are blobs too":                        manifestsAreBlobs,
		"Resolve finds what a tag or digest names":           resolve,
		"what names nothing is ManifestUnknown":              manifestUnknown,
		"a blob is no manifest because it could be one":      blobIsNoManifest,
		"children of an image index that aren't there":       sparseChildren,
		"the bytes of a manifest are kept as they were sent": exactBytes,
	}
}

func readerName(t testing.TB, s storage.Store) {
	r := repository(t, s, "a/b-c/d")
	r.pushBlob("x")
	if got := r.Name(); got != name(t, "a/b-c/d") {
		t.Fatalf("it is called %s", got)
	}
}

// sizes are those around which a store may change how it keeps a blob.
func sizes() []int { return []int{0, 1, 4095, 4096, 4097, 64 << 10, 1<<20 + 1} }

func statBlob(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, size := range sizes() {
		content := strings.Repeat("x", size)
		r.wantBlob(r.pushBlob(content), content)
	}
}

func blobUnknown(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.pushBlob("x")
	r.wantBlob(d, "x")
	r.wantNoBlob(digest.FromString("y"))
	r.wantNoBlob(digest.SHA512.FromString("x"))
	repository(t, s, "b").wantNoBlob(d)
}

func openBlob(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	d := r.pushBlob("0123456789")
	b, other := must(r.OpenBlob(t.Context(), d))(t), must(r.OpenBlob(t.Context(), d))(t)
	for _, at := range []int64{7, 0, 10, 3} {
		if got := must(b.Seek(at, io.SeekStart))(t); got != at {
			t.Fatalf("seek to %d went to %d", at, got)
		}
		if got := string(must(io.ReadAll(b))(t)); got != "0123456789"[at:] {
			t.Fatalf("read %q from %d on", got, at)
		}
	}
	if got := must(other.Seek(-2, io.SeekEnd))(t); got != 8 {
		t.Fatalf("seek to 2 before the end went to %d", got)
	}
	if err := errors.Join(b.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	r.wantBlob(d, "0123456789")
}

func manifestsAreBlobs(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m, "v1")
	r.wantBlob(m.Digest, string(m.Raw))
	must(repository(t, s, "b").MountBlob(t.Context(), m.Digest, r.Name()))(t)
	repository(t, s, "b").wantBlob(m.Digest, string(m.Raw))
	repository(t, s, "b").wantNoManifest(m.Digest.String())
}

func resolve(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m, "v1", "latest")
	for _, what := range []string{"v1", "latest", m.Digest.String()} {
		got := must(r.Resolve(t.Context(), ref(t, what)))(t)
		wantDescriptor(t, got, m.Descriptor)
	}
}

func manifestUnknown(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	r.push(m, "v1")
	r.wantManifest(m.Digest, "v1")
	r.wantNoManifest("v", "v10", "V1", "other", digest.FromString("x").String(), digest.SHA512.FromBytes(m.Raw).String())
	_, err := r.Resolve(t.Context(), oci.Reference{})
	wantCode(t, err, oci.ManifestUnknown)
}

func blobIsNoManifest(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	m := image(t, "m")
	d := r.pushBlob(string(m.Raw))
	r.wantNoManifest(d.String())
	r.push(m)
	r.wantManifest(m.Digest, d.String())
}

func sparseChildren(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	there, absent := image(t, "there"), image(t, "absent")
	r.push(there)
	top := imageIndex(t, there, absent)
	r.push(top, "v1")
	r.wantManifest(there.Digest, there.Digest.String())
	r.wantNoManifest(absent.Digest.String())
	r.push(absent)
	r.wantManifest(absent.Digest, absent.Digest.String())
}

func exactBytes(t testing.TB, s storage.Store) {
	r := repository(t, s, "a")
	for _, raw := range []string{
		"{ \"schemaVersion\" :2,\n\t\"layers\":[] }\n\n",
		`{"schemaVersion":2,"annotations":{"a":"\u00e9 <&>","A":"twice"},"unknown":1e400}`,
		`{}`,
	} {
		if !json.Valid([]byte(raw)) {
			t.Fatalf("%s isn't JSON", raw)
		}
		m := must(oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw), digest.Canonical))(t)
		r.push(m, "v1")
		b := must(storage.GetManifest(t.Context(), r, ref(t, "v1")))(t)
		got, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil || string(got) != raw {
			t.Fatalf("read %q, %v; want %q", got, err, raw)
		}
	}
}
