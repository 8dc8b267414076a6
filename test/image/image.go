//go:build real

// Package image makes images for tests, and checks what has become of them.
// What it makes is the same each time: its digests can be relied on within a run.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Content is an image, an image index or an artifact with all it names.
type Content struct {
	ocispec.Descriptor // of Manifests' last

	Manifests []Part // those that are named come before those that name them
	Blobs     []Part // configs and layers, each once
}

// Part is a manifest or a blob with its bytes.
type Part struct {
	ocispec.Descriptor

	Bytes []byte
}

// New makes an image of the layers, which are gzipped tar files.
func New(architecture string, layers ...[]byte) *Content {
	config := ocispec.Image{
		Created:  new(time.Unix(1767225600, 0).UTC()),
		Platform: ocispec.Platform{OS: "linux", Architecture: architecture},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/bin/true"}, Labels: map[string]string{"test": "yes"}},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	c := new(Content)
	var descs []ocispec.Descriptor
	for _, layer := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(unzip(layer)))
		config.History = append(config.History, ocispec.History{CreatedBy: "test"})
		descs = append(descs, c.addBlob(ocispec.MediaTypeImageLayerGzip, layer))
	}
	c.addManifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    c.addBlob(ocispec.MediaTypeImageConfig, encode(config)),
		Layers:    descs,
	})
	c.Platform = &config.Platform
	return c
}

// Index makes an image index of the images.
func Index(images ...*Content) *Content {
	c := new(Content)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		for _, b := range img.Blobs {
			c.addBlob(b.MediaType, b.Bytes)
		}
		c.Manifests = append(c.Manifests, img.Manifests...)
		index.Manifests = append(index.Manifests, img.Descriptor)
	}
	c.addManifest(ocispec.MediaTypeImageIndex, index)
	return c
}

// Referrer makes an artifact of one blob that refers to a subject.
func Referrer(subject ocispec.Descriptor, artifactType string, blob Part) *Content {
	c := new(Content)
	subject.Platform = nil
	c.addManifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       c.addBlob(ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data),
		Layers:       []ocispec.Descriptor{c.addBlob(blob.MediaType, blob.Bytes)},
		Subject:      &subject,
	})
	return c
}

// Random makes an image of so many layers, each of some size in bytes that
// doesn't compress. Another seed makes another image.
func Random(seed uint64, layers, size int) *Content {
	tars := make([][]byte, layers)
	for i := range tars {
		tars[i] = RandomLayer(seed<<8|uint64(i), size)
	}
	return New("amd64", tars...)
}

// RandomLayer makes a layer of one file of so many bytes that don't compress.
func RandomLayer(seed uint64, size int) []byte {
	return Layer(File{fmt.Sprintf("data/%d", seed), Bytes(seed, size)})
}

// Bytes makes so many bytes that don't compress.
func Bytes(seed uint64, size int) []byte {
	content := make([]byte, size)
	fill(content, seed)
	return content
}

// RandomBlob makes a blob of so many bytes that don't compress, which isn't a layer.
func RandomBlob(seed uint64, size int) Part {
	content := make([]byte, size)
	fill(content, seed)
	return Part{descriptor("application/octet-stream", content), content}
}

// Large makes an image like a real one: four layers, 6 MiB, 400 files, some of
// them text that compresses.
func Large() *Content {
	var layers [][]byte
	for l := range 4 {
		var files []File
		for f := range 100 {
			content := make([]byte, 24<<10)
			if f%3 == 0 {
				content = bytes.Repeat(fmt.Appendf(nil, "line of file %d of layer %d\n", f, l), 500)
			} else {
				fill(content, uint64(l*1000+f))
			}
			files = append(files, File{fmt.Sprintf("srv/layer%d/dir%d/file%d", l, f%10, f), content})
		}
		layers = append(layers, Layer(files...))
	}
	return New("amd64", layers...)
}

func fill(b []byte, seed uint64) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
}

// File is a file in a layer, or a folder if its name ends in a slash.
type File struct {
	Name    string
	Content []byte
}

// Layer makes a gzipped tar file.
func Layer(files ...File) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(Tar(files...))
	must(err)
	must(z.Close())
	return b.Bytes()
}

// Tar makes a tar file.
func Tar(files ...File) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		header := tar.Header{Name: f.Name, Mode: 0o644, Size: int64(len(f.Content)), ModTime: time.Unix(1767225600, 0)}
		if strings.HasSuffix(f.Name, "/") {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
		}
		must(w.WriteHeader(&header))
		_, err := w.Write(f.Content)
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

func unzip(b []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(b))
	must(err)
	var out bytes.Buffer
	_, err = out.ReadFrom(z)
	must(err)
	return out.Bytes()
}

func (c *Content) addBlob(mediaType string, b []byte) ocispec.Descriptor {
	desc := descriptor(mediaType, b)
	for _, have := range c.Blobs {
		if have.Digest == desc.Digest {
			return desc
		}
	}
	c.Blobs = append(c.Blobs, Part{desc, b})
	return desc
}

func (c *Content) addManifest(mediaType string, v any) {
	b := encode(v)
	c.Descriptor = descriptor(mediaType, b)
	c.Manifests = append(c.Manifests, Part{c.Descriptor, b})
}

func descriptor(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// must is for what fails only if this package is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
