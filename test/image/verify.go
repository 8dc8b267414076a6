//go:build real

package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
)

// A Source is where content can be read: a repository of a registry, or a
// layout on disk.
type Source interface {
	// Open opens the content that a descriptor describes. The caller closes it.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Verify reads a manifest and everything that it names, whole, and compares
// each size and each digest. It returns how many things it has read.
func Verify(ctx context.Context, from Source, desc ocispec.Descriptor) (int, error) {
	v := verifier{from: from, seen: make(map[digest.Digest]bool)}
	err := v.verify(ctx, desc)
	return len(v.seen), err
}

type verifier struct {
	from Source
	seen map[digest.Digest]bool
}

func (v *verifier) verify(ctx context.Context, desc ocispec.Descriptor) error {
	if v.seen[desc.Digest] {
		return nil
	}
	v.seen[desc.Digest] = true
	raw, err := v.read(ctx, desc)
	if err != nil {
		return fmt.Errorf("%s %s: %w", desc.MediaType, desc.Digest, err)
	}
	for _, named := range raw.named() {
		if err := v.verify(ctx, named); err != nil {
			return fmt.Errorf("%w, named by %s", err, desc.Digest)
		}
	}
	return nil
}

// manifest is what manifests of all types name.
type manifest struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

func (m *manifest) named() []ocispec.Descriptor {
	all := append(m.Layers, m.Manifests...)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return all
}

// read reads what desc describes and, if it's a manifest, what it names.
func (v *verifier) read(ctx context.Context, desc ocispec.Descriptor) (m manifest, err error) {
	r, err := v.from.Open(ctx, desc)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	verify := desc.Digest.Verifier()
	to := io.Writer(verify)
	var raw bytes.Buffer
	isManifest := oci.IsManifest(desc.MediaType)
	if isManifest {
		to = io.MultiWriter(verify, &raw)
	}
	n, err := io.Copy(to, r)
	switch {
	case err != nil:
		return m, err
	case n != desc.Size:
		return m, fmt.Errorf("%d bytes, want %d", n, desc.Size)
	case !verify.Verified():
		return m, errors.New("the content doesn't match the digest")
	case isManifest:
		return m, json.Unmarshal(raw.Bytes(), &m)
	}
	return m, nil
}
