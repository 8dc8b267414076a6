// Package observed makes a store tell somebody what it's doing, for traces.
package observed

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Begin is told that a method of a Store, Repository or Upload begins. What it
// returns is the context in which that goes on, and what is called with its error,
// or nil, when it has ended. Begin is called by many goroutines at once.
type Begin func(ctx context.Context, method string) (context.Context, func(error))

// New returns a Store that does what s does and tells begin about everything that
// can take its time. To look at or open one blob isn't among that: it's quick, and
// a mount may do it a thousand times. Closing it closes s.
func New(s storage.Store, begin Begin) storage.Store { return store{s, begin} }

type store struct {
	storage.Store

	begin Begin
}

// Unwrap is for storage.As.
func (s store) Unwrap() any { return s.Store }

func (s store) Repository(name oci.Name) storage.Repository {
	return repository{s.Store.Repository(name), s.begin}
}

// Repositories has ended when whoever reads the names has.
func (s store) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		inside, end := s.begin(ctx, "Repositories")
		var failed error
		defer func() { end(failed) }()
		for n, err := range s.Store.Repositories(inside, after) {
			failed = err
			if !yield(n, err) {
				return
			}
		}
	}
}

type repository struct {
	storage.Repository

	begin Begin
}

// Unwrap is for storage.As.
func (r repository) Unwrap() any { return r.Repository }

func (r repository) Resolve(ctx context.Context, ref oci.Reference) (desc oci.Descriptor, err error) {
	ctx, end := r.begin(ctx, "Resolve")
	defer func() { end(err) }()
	return r.Repository.Resolve(ctx, ref)
}

func (r repository) Referrers(ctx context.Context, subject, after digest.Digest) (all iter.Seq[storage.Referrer], err error) {
	ctx, end := r.begin(ctx, "Referrers")
	defer func() { end(err) }()
	return r.Repository.Referrers(ctx, subject, after)
}

func (r repository) Index(ctx context.Context) (index storage.Index, err error) {
	ctx, end := r.begin(ctx, "Index")
	defer func() { end(err) }()
	return r.Repository.Index(ctx)
}

func (r repository) NewUpload(ctx context.Context, opts storage.UploadOptions) (u storage.Upload, err error) {
	ctx, end := r.begin(ctx, "NewUpload")
	defer func() { end(err) }()
	u, err = r.Repository.NewUpload(ctx, opts)
	return r.observe(u, err)
}

func (r repository) ResumeUpload(ctx context.Context, id string) (u storage.Upload, err error) {
	ctx, end := r.begin(ctx, "ResumeUpload")
	defer func() { end(err) }()
	u, err = r.Repository.ResumeUpload(ctx, id)
	return r.observe(u, err)
}

func (r repository) observe(u storage.Upload, err error) (storage.Upload, error) {
	if err != nil {
		return nil, err
	}
	return upload{u, r.begin}, nil
}

func (r repository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (desc oci.Descriptor, err error) {
	ctx, end := r.begin(ctx, "MountBlob")
	defer func() { end(err) }()
	return r.Repository.MountBlob(ctx, d, from)
}

func (r repository) Update(ctx context.Context, fn func(*storage.Edit) error) (err error) {
	ctx, end := r.begin(ctx, "Update")
	defer func() { end(err) }()
	return r.Repository.Update(ctx, fn)
}

type upload struct {
	storage.Upload

	begin Begin
}

func (u upload) Append(ctx context.Context, offset int64, r io.Reader) (size int64, err error) {
	ctx, end := u.begin(ctx, "Append")
	defer func() { end(err) }()
	return u.Upload.Append(ctx, offset, r)
}

func (u upload) Commit(ctx context.Context, want digest.Digest) (desc oci.Descriptor, err error) {
	ctx, end := u.begin(ctx, "Commit")
	defer func() { end(err) }()
	return u.Upload.Commit(ctx, want)
}

func (u upload) Cancel(ctx context.Context) (err error) {
	ctx, end := u.begin(ctx, "Cancel")
	defer func() { end(err) }()
	return u.Upload.Cancel(ctx)
}
