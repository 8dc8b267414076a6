package storagetest

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// mutant is a store with something broken. A hook that isn't nil takes the place
// of the method it is named after; the store below is its first argument.
type mutant struct {
	storage.Store

	close        func(storage.Store) error
	ready        func(storage.Store) error
	repository   func(storage.Store, oci.Name) storage.Repository
	repositories func(storage.Store, oci.Name) iter.Seq2[oci.Name, error]

	stat      func(storage.Repository, digest.Digest) (oci.Descriptor, error)
	open      func(storage.Repository, digest.Digest) (*storage.Blob, error)
	resolve   func(storage.Repository, oci.Reference) (oci.Descriptor, error)
	referrers func(r storage.Repository, subject, after digest.Digest) (iter.Seq[storage.Referrer], error)
	index     func(storage.Repository) (storage.Index, error)
	begin     func(storage.Repository, storage.UploadOptions) (storage.Upload, error)
	resume    func(storage.Repository, string) (storage.Upload, error)
	mount     func(storage.Repository, digest.Digest, oci.Name) (oci.Descriptor, error)
	update    func(storage.Repository, context.Context, func(*storage.Edit) error) error
	upload    func(storage.Repository, storage.Upload) storage.Upload
}

func (m *mutant) Close() error {
	if m.close != nil {
		return m.close(m.Store)
	}
	return m.Store.Close()
}

func (m *mutant) Ready(ctx context.Context) error {
	if m.ready != nil {
		return m.ready(m.Store)
	}
	return m.Store.Ready(ctx)
}

func (m *mutant) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	if m.repositories != nil {
		return m.repositories(m.Store, after)
	}
	return m.Store.Repositories(ctx, after)
}

func (m *mutant) Repository(n oci.Name) storage.Repository {
	if m.repository != nil {
		return mutantRepository{m.repository(m.Store, n), m}
	}
	return mutantRepository{m.Store.Repository(n), m}
}

type mutantRepository struct {
	storage.Repository

	m *mutant
}

func (r mutantRepository) StatBlob(ctx context.Context, d digest.Digest) (oci.Descriptor, error) {
	if r.m.stat != nil {
		return r.m.stat(r.Repository, d)
	}
	return r.Repository.StatBlob(ctx, d)
}

func (r mutantRepository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	if r.m.open != nil {
		return r.m.open(r.Repository, d)
	}
	return r.Repository.OpenBlob(ctx, d)
}

func (r mutantRepository) Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	if r.m.resolve != nil {
		return r.m.resolve(r.Repository, ref)
	}
	return r.Repository.Resolve(ctx, ref)
}

func (r mutantRepository) Referrers(ctx context.Context, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
	if r.m.referrers != nil {
		return r.m.referrers(r.Repository, subject, after)
	}
	return r.Repository.Referrers(ctx, subject, after)
}

func (r mutantRepository) Index(ctx context.Context) (storage.Index, error) {
	if r.m.index != nil {
		return r.m.index(r.Repository)
	}
	return r.Repository.Index(ctx)
}

func (r mutantRepository) NewUpload(ctx context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	if r.m.begin != nil {
		return r.wrap(r.m.begin(r.Repository, opts))
	}
	return r.wrap(r.Repository.NewUpload(ctx, opts))
}

func (r mutantRepository) ResumeUpload(ctx context.Context, id string) (storage.Upload, error) {
	if r.m.resume != nil {
		return r.wrap(r.m.resume(r.Repository, id))
	}
	return r.wrap(r.Repository.ResumeUpload(ctx, id))
}

func (r mutantRepository) wrap(u storage.Upload, err error) (storage.Upload, error) {
	if err != nil || r.m.upload == nil {
		return u, err
	}
	return r.m.upload(r.Repository, u), nil
}

func (r mutantRepository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	if r.m.mount != nil {
		return r.m.mount(r.Repository, d, from)
	}
	return r.Repository.MountBlob(ctx, d, from)
}

func (r mutantRepository) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	if r.m.update != nil {
		return r.m.update(r.Repository, ctx, fn)
	}
	return r.Repository.Update(ctx, fn)
}

// mutantUpload is a session with something broken, in the same way.
type mutantUpload struct {
	storage.Upload

	id     func() string
	size   func() int64
	append func(ctx context.Context, offset int64, r io.Reader) (int64, error)
	commit func(digest.Digest) (oci.Descriptor, error)
	cancel func() error
	close  func() error
}

func (u mutantUpload) ID() string {
	if u.id != nil {
		return u.id()
	}
	return u.Upload.ID()
}

func (u mutantUpload) Size() int64 {
	if u.size != nil {
		return u.size()
	}
	return u.Upload.Size()
}

func (u mutantUpload) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	if u.append != nil {
		return u.append(ctx, offset, r)
	}
	return u.Upload.Append(ctx, offset, r)
}

func (u mutantUpload) Commit(ctx context.Context, want digest.Digest) (oci.Descriptor, error) {
	if u.commit != nil {
		return u.commit(want)
	}
	return u.Upload.Commit(ctx, want)
}

func (u mutantUpload) Cancel(ctx context.Context) error {
	if u.cancel != nil {
		return u.cancel()
	}
	return u.Upload.Cancel(ctx)
}

func (u mutantUpload) Close() error {
	if u.close != nil {
		return u.close()
	}
	return u.Upload.Close()
}

// mutantIndex is an index with something broken, in the same way.
type mutantIndex struct {
	storage.Index

	tags      func(oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor]
	manifests func() iter.Seq[oci.Descriptor]
	referrers func(subject, after digest.Digest) iter.Seq[storage.Referrer]
	parents   func(digest.Digest) iter.Seq[digest.Digest]
	resolve   func(oci.Reference) (oci.Descriptor, error)
}

func (i mutantIndex) Resolve(ref oci.Reference) (oci.Descriptor, error) {
	if i.resolve != nil {
		return i.resolve(ref)
	}
	return i.Index.Resolve(ref)
}

func (i mutantIndex) Tags(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
	if i.tags != nil {
		return i.tags(after)
	}
	return i.Index.Tags(after)
}

func (i mutantIndex) Manifests() iter.Seq[oci.Descriptor] {
	if i.manifests != nil {
		return i.manifests()
	}
	return i.Index.Manifests()
}

func (i mutantIndex) Referrers(subject, after digest.Digest) iter.Seq[storage.Referrer] {
	if i.referrers != nil {
		return i.referrers(subject, after)
	}
	return i.Index.Referrers(subject, after)
}

func (i mutantIndex) Parents(d digest.Digest) iter.Seq[digest.Digest] {
	if i.parents != nil {
		return i.parents(d)
	}
	return i.Index.Parents(d)
}
