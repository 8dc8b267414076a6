package transfer_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// must ends the test if a call failed, and else is what it returned: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func name(t testing.TB, s string) oci.Name { t.Helper(); return must(oci.ParseName(s))(t) }

func tag(t testing.TB, s string) oci.Tag { t.Helper(); return must(oci.ParseTag(s))(t) }

func closeAfter[S storage.Store](t testing.TB, s S) S {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func inMemory(t testing.TB) storage.Store { t.Helper(); return closeAfter(t, memory.New()) }

func onDisk(t testing.TB, dir string) storage.Store {
	t.Helper()
	return closeAfter(t, must(filesystem.Open(dir, filesystem.Options{Recheck: -1}))(t))
}

// repo is a repository that's filled.
type repo struct {
	storage.Repository

	t testing.TB
}

func repository(t testing.TB, s storage.Store, n string) repo {
	t.Helper()
	return repo{s.Repository(name(t, n)), t}
}

func (r repo) blob(content string, algorithm digest.Algorithm) digest.Digest {
	r.t.Helper()
	d := algorithm.FromString(content)
	must(storage.PutBlob(r.t.Context(), r, d, strings.NewReader(content), storage.UploadOptions{}))(r.t)
	return d
}

// push puts a manifest of the fields, with tags.
func (r repo) push(mediaType string, fields map[string]any, algorithm digest.Algorithm, tags ...string) oci.Manifest {
	r.t.Helper()
	fields["schemaVersion"] = 2
	m := must(oci.ParseManifest(mediaType, must(json.Marshal(fields))(r.t), algorithm))(r.t)
	opts := storage.PutOptions{Sparse: storage.SparseAll}
	for _, s := range tags {
		opts.Tags = append(opts.Tags, tag(r.t, s))
	}
	if err := storage.PutManifest(r.t.Context(), r, m, opts); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// image pushes an image with one layer.
func (r repo) image(layer string, tags ...string) oci.Manifest {
	r.t.Helper()
	return r.push(oci.MediaTypeImageManifest, layers(r.blob(layer, digest.SHA256)), digest.SHA256, tags...)
}

func layers(digests ...digest.Digest) map[string]any {
	list := make([]oci.Descriptor, 0, len(digests))
	for _, d := range digests {
		list = append(list, oci.Descriptor{MediaType: "application/x.layer", Digest: d, Size: 1})
	}
	return map[string]any{"layers": list}
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
