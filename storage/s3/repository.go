package s3

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Repository is a name in a Store; what it holds is the bucket's.
type Repository struct {
	store *Store
	name  oci.Name
}

var _ storage.Repository = (*Repository)(nil)

// enter begins something with the repository; done ends it.
func (r *Repository) enter() (known *repo, done func(), err error) {
	left, err := r.store.begin()
	if err != nil {
		return nil, nil, err
	}
	known = r.store.cache.acquire(r.store, r.name)
	return known, func() {
		r.store.cache.release(known)
		left()
	}, nil
}

// Name implements storage.Reader.
func (r *Repository) Name() oci.Name { return r.name }

// StatBlob implements storage.Reader. It always asks the bucket, since a client
// relies on the answer for its push.
func (r *Repository) StatBlob(ctx context.Context, d digest.Digest) (oci.Descriptor, error) {
	known, done, err := r.enter()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer done()
	s, err := known.refresh(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	b, err := known.rely(ctx, s, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return describe(d, b), nil
}

// OpenBlob implements storage.Reader. It reads nothing before it's read from.
func (r *Repository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	known, done, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := known.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	return r.open(ctx, d, b), nil
}

func (r *Repository) open(ctx context.Context, d digest.Digest, b *blob) *storage.Blob {
	return &storage.Blob{Descriptor: describe(d, b), ReadSeekCloser: r.content(ctx, d, b.entry)}
}

func unknownBlob(d digest.Digest) error { return oci.Errorf(oci.BlobUnknown, "%s", d) }

func describe(d digest.Digest, b *blob) oci.Descriptor {
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: b.Size}
}

// blob finds a blob that somebody is going to rely on.
func (r *repo) blob(ctx context.Context, d digest.Digest) (*blob, error) {
	s, err := r.having(ctx, d)
	if err != nil {
		return nil, err
	}
	return r.rely(ctx, s, d)
}

// having returns what is known, if that's fresh and has d, else what it is now.
func (r *repo) having(ctx context.Context, d digest.Digest) (*state, error) {
	if s := r.lately(r.store.options().DigestsFreshFor); s != nil && s.find(d) != nil {
		return s, nil
	}
	return r.refresh(ctx)
}

// Index implements storage.Reader.
func (r *Repository) Index(ctx context.Context) (storage.Index, error) {
	known, done, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := known.existing(ctx)
	if err != nil {
		return nil, err
	}
	return s.index, nil
}

// existing returns the state of a repository that exists, as it is now.
func (r *repo) existing(ctx context.Context) (*state, error) {
	s, err := r.refresh(ctx)
	if err != nil {
		return nil, err
	}
	if !s.exists() {
		return nil, oci.Errorf(oci.NameUnknown, "%s", r.name)
	}
	return s, nil
}

// Resolve implements storage.Reader. A tag takes one conditional read, unless it
// may be what it was a moment ago.
func (r *Repository) Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	known, done, err := r.enter()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer done()
	byDigest, isDigest := ref.Digest()
	within := r.store.options().TagsFreshFor
	if isDigest {
		within = r.store.options().DigestsFreshFor
	}
	if s := known.lately(within); s != nil {
		if desc, unknown := s.index.Resolve(ref); unknown == nil && (!isDigest || !s.marked(byDigest)) && !s.isLost(desc.Digest) {
			return desc, nil
		}
	}
	s, err := known.existing(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := s.index.Resolve(ref)
	if err == nil && s.isLost(desc.Digest) {
		return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s", ref)
	}
	if isDigest && err == nil && s.marked(byDigest) {
		_, err = known.rely(ctx, s, byDigest)
	}
	return desc, err
}

// Referrers implements storage.Reader.
func (r *Repository) Referrers(ctx context.Context, subject, after digest.Digest) (iter.Seq[storage.Referrer], error) {
	idx, err := r.Index(ctx)
	if err != nil {
		return nil, err
	}
	return idx.Referrers(subject, after), nil
}

// Update implements storage.Repository.
func (r *Repository) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	known, done, err := r.enter()
	if err != nil {
		return err
	}
	defer done()
	q := &edit{fn: fn}
	return known.change(ctx, q.plan)
}
