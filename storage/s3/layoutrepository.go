package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// layoutRepository is what is known of a repository.
type layoutRepository struct {
	store   *Layouts
	name    oci.Name
	indexed bool                       // it has an index.json
	own     map[digest.Digest]location // what is in its folder, which may be empty objects

	mu    sync.Mutex
	index *layout.Index // nil until somebody needs it
}

// LayoutRepository is a repository of Layouts. What would change it fails with
// oci.Unsupported.
type LayoutRepository struct {
	store *Layouts
	name  oci.Name
}

var _ storage.Collectable = (*LayoutRepository)(nil)

// Name implements storage.Reader.
func (r *LayoutRepository) Name() oci.Name { return r.name }

// StatBlob implements storage.Reader.
func (r *LayoutRepository) StatBlob(ctx context.Context, d digest.Digest) (oci.Descriptor, error) {
	_, at, err := r.find(ctx, d)
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: at.size}, err
}

func (r *LayoutRepository) find(ctx context.Context, d digest.Digest) (*layoutRepository, location, error) {
	known, err := r.store.find(ctx, r.name)
	if errors.Is(err, oci.NameUnknown) {
		err = unknownBlob(d)
	}
	if err != nil {
		return nil, location{}, err
	}
	at, err := known.at(d)
	return known, at, err
}

// OpenBlob implements storage.Reader.
func (r *LayoutRepository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	known, at, err := r.find(ctx, d)
	if err != nil {
		return nil, err
	}
	return &storage.Blob{
		Descriptor:     oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: at.size},
		ReadSeekCloser: known.open(ctx, d, at),
	}, nil
}

func (r *layoutRepository) open(ctx context.Context, d digest.Digest, from location) io.ReadSeekCloser {
	return &content{ctx: ctx, patience: r.store.bucket.patience, what: d, size: from.size, open: func(ctx context.Context, at int64) (io.ReadCloser, error) {
		return read(ctx, r.store.bucket, getRequest{Key: from.key, Offset: at})
	}}
}

// Peek implements storage.Collectable; there are no marks.
func (r *LayoutRepository) Peek(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	return r.OpenBlob(ctx, d)
}

// Contents implements storage.Collectable. It leaves out what stands for bytes that
// are nowhere.
func (r *LayoutRepository) Contents(ctx context.Context) iter.Seq2[storage.Content, error] {
	return func(yield func(storage.Content, error) bool) {
		known, err := r.store.find(ctx, r.name)
		if err != nil {
			yield(storage.Content{}, err)
			return
		}
		for d := range known.own {
			if at, err := known.at(d); err == nil && !yield(storage.Content{Digest: d, Size: at.size}, nil) {
				return
			}
		}
	}
}

// Index implements storage.Reader.
func (r *LayoutRepository) Index(ctx context.Context) (storage.Index, error) {
	known, err := r.store.find(ctx, r.name)
	if err != nil {
		return nil, err
	}
	idx, err := known.read(ctx)
	if err != nil {
		return nil, err
	}
	return idx, nil
}

// read reads the index and the manifests, once.
func (r *layoutRepository) read(ctx context.Context) (*layout.Index, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil {
		return r.index, nil
	}
	raw, _, err := r.store.bucket.fetch(ctx, getRequest{Key: r.store.prefix + r.name.String() + "/index.json"})
	if err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	idx, err := layout.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrBroken, err)
	}
	for !idx.Complete() {
		var read []oci.Manifest
		var absent []digest.Digest
		for desc := range idx.Unread() {
			m, err := r.readManifest(ctx, desc)
			switch {
			case err == nil:
				read = append(read, m)
			case errors.Is(err, oci.BlobUnknown), errors.Is(err, oci.ManifestInvalid):
				absent = append(absent, desc.Digest)
			default:
				return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
			}
		}
		idx = idx.Learn(read, absent)
	}
	r.index = idx
	return idx, nil
}

func (r *layoutRepository) readManifest(ctx context.Context, desc oci.Descriptor) (oci.Manifest, error) {
	at, err := r.at(desc.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	raw, _, err := r.store.bucket.fetch(ctx, getRequest{Key: at.key})
	if err != nil {
		return oci.Manifest{}, err
	}
	m, err := oci.ParseManifest(desc.MediaType, raw, desc.Digest.Algorithm())
	if err == nil && m.Digest != desc.Digest {
		err = oci.Errorf(oci.ManifestInvalid, "%s is damaged", desc.Digest)
	}
	return m, err
}

// Resolve implements storage.Reader.
func (r *LayoutRepository) Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	idx, err := r.Index(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return idx.Resolve(ref)
}

// Referrers implements storage.Reader.
func (r *LayoutRepository) Referrers(ctx context.Context, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
	idx, err := r.Index(ctx)
	if err != nil {
		return nil, err
	}
	return idx.Referrers(subject, after), nil
}

// NewUpload implements storage.Repository.
func (r *LayoutRepository) NewUpload(context.Context, storage.UploadOptions) (storage.Upload, error) {
	return nil, r.refusal()
}

// ResumeUpload implements storage.Repository.
func (r *LayoutRepository) ResumeUpload(context.Context, string) (storage.Upload, error) {
	return nil, r.refusal()
}

// MountBlob implements storage.Repository.
func (r *LayoutRepository) MountBlob(context.Context, digest.Digest, oci.Name) (oci.Descriptor, error) {
	return oci.Descriptor{}, r.refusal()
}

// Update implements storage.Repository. It doesn't call fn.
func (r *LayoutRepository) Update(context.Context, func(*storage.Edit) error) error {
	return r.refusal()
}

// Retire implements storage.Collectable.
func (r *LayoutRepository) Retire(context.Context) (bool, error) { return false, r.refusal() }

func (r *LayoutRepository) refusal() error {
	return oci.Errorf(oci.Unsupported, "the layouts in a bucket can only be read")
}
