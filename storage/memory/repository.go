package memory

import (
	"bytes"
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

var _ storage.Repository = (*repository)(nil)

// repository is a name in a store; what it holds is the store's.
type repository struct {
	store *Store
	name  oci.Name
}

func (r *repository) Name() oci.Name { return r.name }

func (r *repository) StatBlob(_ context.Context, d digest.Digest) (oci.Descriptor, error) {
	content, err := r.blob(d)
	return describe(d, content), err
}

func (r *repository) OpenBlob(_ context.Context, d digest.Digest) (*storage.Blob, error) {
	content, err := r.blob(d)
	if err != nil {
		return nil, err
	}
	return &storage.Blob{Descriptor: describe(d, content), ReadSeekCloser: reader{bytes.NewReader(content)}}, nil
}

// reader is the content of an open blob.
type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func describe(d digest.Digest, content []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: int64(len(content))}
}

func (r *repository) blob(d digest.Digest) ([]byte, error) {
	s := r.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	if c := s.contents[r.name]; c != nil {
		if content, ok := c.blobs[d]; ok {
			return content, nil
		}
	}
	return nil, oci.Errorf(oci.BlobUnknown, "%s", d)
}

// index returns the names as they are, or oci.NameUnknown.
func (r *repository) index() (*layout.Index, error) {
	s := r.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	if c := s.contents[r.name]; c != nil {
		return c.index, nil
	}
	return nil, oci.Errorf(oci.NameUnknown, "%s", r.name)
}

func (r *repository) Index(context.Context) (storage.Index, error) {
	idx, err := r.index()
	if err != nil {
		return nil, err // not a nil *layout.Index
	}
	return idx, nil
}

func (r *repository) Resolve(_ context.Context, ref oci.Reference) (oci.Descriptor, error) {
	idx, err := r.index()
	if err != nil {
		return oci.Descriptor{}, err
	}
	return idx.Resolve(ref)
}

func (r *repository) Referrers(_ context.Context, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
	idx, err := r.index()
	if err != nil {
		return nil, err
	}
	return idx.Referrers(subject, after), nil
}

func (r *repository) MountBlob(_ context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	content, err := (&repository{r.store, from}).blob(d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return r.add(d, content)
}

// add makes content a blob, which is never written to again.
func (r *repository) add(d digest.Digest, content []byte) (oci.Descriptor, error) {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.create(r.name).blobs[d] = content
	return describe(d, content), nil
}
