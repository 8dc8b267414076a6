package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// PutBlob stores the content of r, which must match want, in one go.
func PutBlob(ctx context.Context, to Repository, want digest.Digest, r io.Reader, opts UploadOptions) (oci.Descriptor, error) {
	opts.Algorithm = want.Algorithm()
	u, err := to.NewUpload(ctx, opts)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer func() { _ = u.Close() }() // releases a handle; the content is Commit's
	_, err = u.Append(ctx, 0, r)
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return oci.Descriptor{}, errors.Join(err, u.Cancel(ctx))
	}
	desc, err := u.Commit(ctx, want)
	if err != nil {
		err = errors.Join(err, u.Cancel(ctx)) // nobody goes on with it
	}
	return desc, err
}

// Sparse says which of the things that a manifest names may be missing when it's pushed.
type Sparse string

// The values of Sparse. Subjects and nondistributable layers may always be missing.
const (
	SparseNone    Sparse = "none"    // nothing may
	SparseIndexes Sparse = "indexes" // the children of an image index may
	SparseAll     Sparse = "all"     // everything may
)

// PutOptions are the conditions of a PutManifest.
type PutOptions struct {
	// Tags are made to name the manifest, all or none.
	Tags []oci.Tag

	// By is who pushes. Default: empty, anonymous.
	By string

	// Sparse is what may be missing. Default: SparseIndexes.
	Sparse Sparse

	// IfMatch, if not empty, are the digests one of which each of Tags (or,
	// without Tags, the manifest itself) must name now; "*" stands for any.
	IfMatch []string

	// IfNoneMatch, if not empty, are digests that none of Tags (or the manifest
	// itself) may name now; "*" stands for any.
	IfNoneMatch []string

	// NoOverwrite refuses, with oci.Denied, to move a tag that names something else.
	NoOverwrite bool
}

// PutManifest stores m and makes the tags name it, in one change of the index.
// A condition that doesn't hold is oci.Denied with status 412 (RFC 9110,
// section 13.1); something missing is oci.ManifestBlobUnknown.
func PutManifest(ctx context.Context, to Repository, m oci.Manifest, opts PutOptions) error {
	return to.Update(ctx, func(e *Edit) error {
		if err := opts.check(e, m.Digest); err != nil {
			return err
		}
		e.By = opts.By
		e.Require(required(m, opts.Sparse)...)
		for d := range named(m) { // what need not be there, and is, mustn't go either
			e.Unmark(d)
		}
		e.Put(m)
		for _, t := range opts.Tags {
			e.Tag(t, m.Digest)
		}
		return nil
	})
}

// named yields all that a manifest names.
func named(m oci.Manifest) iter.Seq[digest.Digest] {
	return func(yield func(digest.Digest) bool) {
		for _, list := range [][]oci.Descriptor{m.Blobs, m.Manifests} {
			for _, d := range list {
				if !yield(d.Digest) {
					return
				}
			}
		}
		if m.Subject != "" {
			yield(m.Subject)
		}
	}
}

func required(m oci.Manifest, sparse Sparse) []digest.Digest {
	var need []digest.Digest
	if sparse != SparseAll {
		for b := range m.Required() {
			need = append(need, b.Digest)
		}
	}
	if sparse == SparseNone {
		for _, c := range m.Manifests {
			need = append(need, c.Digest)
		}
	}
	return need
}

// check applies the conditions to what the names mean now.
func (o *PutOptions) check(now Index, d digest.Digest) error {
	refs := []oci.Reference{oci.DigestRef(d)}
	if len(o.Tags) > 0 {
		refs = refs[:0]
		for _, t := range o.Tags {
			refs = append(refs, oci.TagRef(t))
		}
	}
	for _, ref := range refs {
		was, err := now.Resolve(ref)
		there := err == nil
		if len(o.IfMatch) > 0 && !matches(o.IfMatch, was.Digest, there) {
			return oci.WithStatus(http.StatusPreconditionFailed, oci.Denied, "If-Match doesn't hold for %s", ref)
		}
		if matches(o.IfNoneMatch, was.Digest, there) {
			return oci.WithStatus(http.StatusPreconditionFailed, oci.Denied, "If-None-Match doesn't hold for %s", ref)
		}
		if _, isTag := ref.Tag(); isTag && o.NoOverwrite && there && was.Digest != d {
			return oci.Errorf(oci.Denied, "tag %s exists and can't be overwritten", ref)
		}
	}
	return nil
}

func matches(conditions []string, d digest.Digest, there bool) bool {
	for _, c := range conditions {
		if there && (c == "*" || c == d.String()) {
			return true
		}
	}
	return false
}

// GetManifest opens the manifest that ref names; the caller closes it. Its
// descriptor has the media type it was pushed with.
func GetManifest(ctx context.Context, from Reader, ref oci.Reference) (*Blob, error) {
	desc, err := from.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	b, err := from.OpenBlob(ctx, desc.Digest)
	if errors.Is(err, oci.BlobUnknown) {
		return nil, oci.Errorf(oci.ManifestUnknown, "%s", ref)
	}
	if err != nil {
		return nil, err
	}
	b.Descriptor = desc
	return b, nil
}

// ReadManifest reads and parses the manifest that desc describes.
func ReadManifest(ctx context.Context, from Reader, desc oci.Descriptor) (oci.Manifest, error) {
	b, err := from.OpenBlob(ctx, desc.Digest)
	if err != nil {
		return oci.Manifest{}, err
	}
	raw, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		return oci.Manifest{}, err
	}
	return oci.ParseManifest(desc.MediaType, raw, desc.Digest.Algorithm())
}
