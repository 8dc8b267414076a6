// Package readonly makes a store that can't be changed of one that can.
package readonly

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// New returns a Store that reads from s, and whose writes fail with
// oci.Unsupported. Closing it closes s.
//
// It has no Unwrap: what s is able to do beside being a Store may be writing.
func New(s storage.Store) storage.Store { return store{s} }

type store struct{ storage.Store }

func (s store) Repository(name oci.Name) storage.Repository {
	return repository{s.Store.Repository(name)}
}

// repository reads through Reader, so that a method which Repository gains
// doesn't write before it's known here.
type repository struct{ storage.Reader }

var _ storage.Repository = repository{}

func (repository) NewUpload(context.Context, storage.UploadOptions) (storage.Upload, error) {
	return nil, refusal()
}

func (repository) ResumeUpload(context.Context, string) (storage.Upload, error) {
	return nil, refusal()
}

func (repository) MountBlob(context.Context, digest.Digest, oci.Name) (oci.Descriptor, error) {
	return oci.Descriptor{}, refusal()
}

// Update doesn't call fn.
func (repository) Update(context.Context, func(*storage.Edit) error) error { return refusal() }

func refusal() error { return oci.Errorf(oci.Unsupported, "this registry is read-only") }
