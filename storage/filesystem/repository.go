package filesystem

import (
	"context"
	"errors"
	"io/fs"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Repository is a storage.Repository in a Store.
type Repository struct {
	store *Store
	name  oci.Name
}

// Name implements storage.Reader.
func (r *Repository) Name() oci.Name { return r.name }

// use keeps the store open and the repository known until repo.done is called.
func (r *Repository) use() (*repo, error) {
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	return r.store.repos.use(r.name), nil
}

// done ends what Repository.use began.
func (r *repo) done() {
	r.store.repos.done(r)
	r.store.leave()
}

// StatBlob implements storage.Reader.
func (r *Repository) StatBlob(_ context.Context, d digest.Digest) (oci.Descriptor, error) {
	repo, err := r.use()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer repo.done()
	if _, err := repo.current(); err != nil {
		return oci.Descriptor{}, err
	}
	if err := repo.rely(d); err != nil {
		return oci.Descriptor{}, err
	}
	fi, err := repo.stat(d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return blobDescriptor(d, fi.Size()), nil
}

func blobDescriptor(d digest.Digest, size int64) oci.Descriptor {
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: size}
}

// OpenBlob implements storage.Reader.
func (r *Repository) OpenBlob(_ context.Context, d digest.Digest) (*storage.Blob, error) {
	repo, err := r.use()
	if err != nil {
		return nil, err
	}
	defer repo.done()
	if _, err := repo.current(); err != nil {
		return nil, err
	}
	if err := repo.rely(d); err != nil {
		return nil, err
	}
	return repo.openOften(d)
}

func (r *repo) open(d digest.Digest) (*storage.Blob, error) {
	b, _, err := r.openSound(d)
	return b, err
}

// openSound opens a blob, unless its bytes are known to be bad.
func (r *repo) openSound(d digest.Digest) (*storage.Blob, fs.FileInfo, error) {
	b, fi, err := r.openAny(d)
	if err == nil && r.store.isRotten(d, fi) {
		return nil, nil, errors.Join(oci.Errorf(oci.BlobUnknown, "%s", d), b.Close())
	}
	return b, fi, err
}

func (r *repo) openAny(d digest.Digest) (*storage.Blob, fs.FileInfo, error) {
	var f vfs.File
	err := r.inBlobs(d.Algorithm(), func(blobs vfs.FS) (err error) {
		f, err = blobs.Open(d.Encoded())
		return err
	})
	if missing(err) || irregular(err) {
		return nil, nil, oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return &storage.Blob{Descriptor: blobDescriptor(d, fi.Size()), ReadSeekCloser: f}, fi, nil
}

// Resolve implements storage.Reader.
func (r *Repository) Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	repo, err := r.use()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer repo.done()
	desc, err := repo.resolve(ctx, ref)
	if err == nil && repo.isTaken(desc.Digest) {
		return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s", ref)
	}
	return desc, err
}

func (r *repo) resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	if d, ok := ref.Digest(); ok {
		if err := r.rely(d); err != nil {
			return oci.Descriptor{}, err
		}
	}
	st, err := r.named()
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := st.index.Resolve(ref)
	if _, byTag := ref.Tag(); err == nil || byTag || st.index.Complete() {
		return desc, err
	}
	if st, err = r.complete(ctx, st); err != nil {
		return oci.Descriptor{}, err
	}
	return st.index.Resolve(ref)
}

// named is current, of a repository that has names.
func (r *repo) named() (*state, error) {
	st, err := r.current()
	switch {
	case err != nil:
		return nil, err
	case st.index != nil:
		return st, nil
	case st.broken != nil:
		return nil, st.broken
	}
	return nil, oci.Errorf(oci.NameUnknown, "%s", r.name)
}

// completed is named, with an index that knows what its manifests say.
func (r *Repository) completed(ctx context.Context) (*state, error) {
	repo, err := r.use()
	if err != nil {
		return nil, err
	}
	defer repo.done()
	st, err := repo.named()
	if err != nil {
		return nil, err
	}
	return repo.complete(ctx, st)
}

// Referrers implements storage.Reader.
func (r *Repository) Referrers(ctx context.Context, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
	st, err := r.completed(ctx)
	if err != nil {
		return nil, err
	}
	return st.index.Referrers(subject, after), nil
}

// Index implements storage.Reader.
func (r *Repository) Index(ctx context.Context) (storage.Index, error) {
	st, err := r.completed(ctx)
	if err != nil {
		return nil, err
	}
	return st.index, nil
}
