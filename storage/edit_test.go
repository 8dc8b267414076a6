package storage_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

func image(t *testing.T, title string, layers ...string) oci.Manifest {
	t.Helper()
	var list []oci.Descriptor
	for _, l := range layers {
		list = append(list, oci.Descriptor{MediaType: "application/x.layer", Digest: digest.FromString(l), Size: int64(len(l))})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": list, "annotations": map[string]string{"title": title}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, raw, digest.Canonical)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEditRecordsInOrder(t *testing.T) {
	t.Parallel()
	m, v, d := image(t, "m"), tag(t, "v1"), digest.FromString("x")
	e := storage.NewEdit(layout.New())
	e.Put(m)
	e.Tag(v, m.Digest)
	e.Untag(v)
	e.Delete(d)
	e.DropBlob(d)
	e.Require(d)
	e.Require(m.Digest, d)
	want := []storage.ChangeKind{storage.PutChange, storage.TagChange, storage.UntagChange, storage.DeleteChange, storage.DropBlobChange}
	got := e.Changes()
	if len(got) != len(want) {
		t.Fatalf("%d changes, want %d", len(got), len(want))
	}
	for i, c := range got {
		if c.Kind != want[i] {
			t.Errorf("change %d is of kind %d, want %d", i, c.Kind, want[i])
		}
	}
	if got[0].Digest != m.Digest || got[0].Manifest.Digest != m.Digest || got[1].Tag != v || got[1].Digest != m.Digest || got[3].Digest != d {
		t.Errorf("the changes are %+v", got)
	}
	if required := e.Required(); !slices.Equal(required, []digest.Digest{d, m.Digest, d}) {
		t.Errorf("required are %v", required)
	}
	_ = append(e.Changes(), storage.Change{})
	e.Untag(v)
	if got := e.Changes(); got[5].Kind != storage.UntagChange {
		t.Error("appending to Changes changes the edit")
	}
}

func TestEditAddedCountsWhatIsNew(t *testing.T) {
	t.Parallel()
	old, m, n := image(t, "old"), image(t, "m"), image(t, "n")
	base, _ := layout.New().Apply([]storage.Change{{Kind: storage.PutChange, Manifest: old, Digest: old.Digest}})
	e := storage.NewEdit(base)
	if got := e.Added(); got != 0 {
		t.Errorf("nothing adds %d bytes", got)
	}
	e.Put(old)
	e.Put(m)
	e.Put(n)
	e.Tag(tag(t, "v1"), m.Digest)
	e.Delete(old.Digest)
	if got, want := e.Added(), m.Size+n.Size; got != want {
		t.Errorf("the edit adds %d bytes, want %d", got, want)
	}
}

func TestMissingErrorNamesEachDigest(t *testing.T) {
	t.Parallel()
	a, b := digest.FromString("a"), digest.SHA512.FromString("b")
	err := storage.MissingError(a, b)
	var oe *oci.Error
	if !errors.As(err, &oe) || !errors.Is(err, oci.ManifestBlobUnknown) || oe.HTTPStatus() != http.StatusNotFound {
		t.Fatalf("error %v", err)
	}
	got, err := json.Marshal(oe.Detail)
	if want := `[{"digest":"` + a.String() + `"},{"digest":"` + b.String() + `"}]`; err != nil || string(got) != want {
		t.Errorf("detail is %s, %v; want %s", got, err, want)
	}
}
