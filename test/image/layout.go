//go:build real

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layout is the folder of an OCI image layout.
type Layout string

// WriteLayout writes the content into an image layout in a folder of the
// test's own, as tag.
func (c *Content) WriteLayout(t *testing.T, tag string) Layout {
	t.Helper()
	l := Layout(t.TempDir())
	for _, p := range append(c.Blobs, c.Manifests...) {
		write(t, l.path(p.Descriptor), p.Bytes)
	}
	desc := c.Descriptor
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	write(t, filepath.Join(string(l), "index.json"), encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{desc},
	}))
	write(t, filepath.Join(string(l), "oci-layout"), encode(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}))
	return l
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l Layout) path(d ocispec.Descriptor) string {
	return filepath.Join(string(l), "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
}

// Open implements Source.
func (l Layout) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return os.Open(l.path(d))
}

// Top returns what the layout's index.json names by tag. An empty tag stands
// for the one entry of a layout that has no more.
func (l Layout) Top(t *testing.T, tag string) ocispec.Descriptor {
	t.Helper()
	desc, err := l.top(tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func (l Layout) top(tag string) (ocispec.Descriptor, error) {
	b, err := os.ReadFile(filepath.Join(string(l), "index.json"))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	if tag == "" && len(index.Manifests) == 1 {
		return index.Manifests[0], nil
	}
	for _, d := range index.Manifests {
		if tag != "" && d.Annotations[ocispec.AnnotationRefName] == tag {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("the layout in %s has no %q among %d entries", l, tag, len(index.Manifests))
}

// Check fails the test unless the layout has the content want as tag, whole.
func (l Layout) Check(t *testing.T, tag string, want *Content) {
	t.Helper()
	desc := l.Top(t, tag)
	if desc.Digest != want.Digest {
		t.Fatalf("%s in the layout is %s, want %s", tag, desc.Digest, want.Digest)
	}
	if _, err := Verify(t.Context(), l, desc); err != nil {
		t.Fatal(err)
	}
}
