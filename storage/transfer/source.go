package transfer

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// Contents yields the digests of what a repository holds, each once; of one that
// can't tell, the manifests of its index and what those name. An error ends it.
func Contents(ctx context.Context, r storage.Repository, index storage.Index) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		seen := make(map[digest.Digest]bool)
		for c, err := range contents(ctx, r, index) {
			if seen[c.Digest] && err == nil {
				continue
			}
			seen[c.Digest] = true
			if !yield(c.Digest, err) || err != nil {
				return
			}
		}
	}
}

// contents is Contents with sizes, and may yield one more than once.
func contents(ctx context.Context, r storage.Repository, index storage.Index) iter.Seq2[storage.Content, error] {
	if from, ok := storage.As[storage.Collectable](r); ok {
		return from.Contents(ctx)
	}
	return func(yield func(storage.Content, error) bool) {
		for desc := range index.Manifests() {
			if !yield(storage.Content{Digest: desc.Digest, Size: desc.Size}, nil) {
				return
			}
			m, err := storage.ReadManifest(ctx, r, desc)
			if err != nil {
				continue // who reads it again tells why
			}
			for _, b := range m.Blobs {
				if found, err := r.StatBlob(ctx, b.Digest); err == nil && !yield(storage.Content{Digest: b.Digest, Size: found.Size}, nil) {
					return
				}
			}
		}
	}
}

// Peek opens content of a repository, and takes no mark off it if that can be.
func Peek(ctx context.Context, r storage.Repository, d digest.Digest) (*storage.Blob, error) {
	if from, ok := storage.As[storage.Collectable](r); ok {
		return from.Peek(ctx, d)
	}
	return r.OpenBlob(ctx, d)
}
