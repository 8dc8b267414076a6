package storage

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// DeleteManifest removes a tag, or the manifest with the given digest and its
// tags. A manifest that an image index lists is needed: oci.Denied, 405. What refers
// to a manifest that's removed is marked, if the repository is Collectable: it isn't
// one that has come before its subject.
func DeleteManifest(ctx context.Context, from Repository, ref oci.Reference, by string) error {
	_, collectable := As[Collectable](from)
	return from.Update(ctx, func(e *Edit) error {
		desc, err := e.Resolve(ref)
		if err != nil {
			return err
		}
		e.By = by
		if t, ok := ref.Tag(); ok {
			e.Untag(t)
			return nil
		}
		for parent := range e.Parents(desc.Digest) {
			return neededErr(desc.Digest, parent)
		}
		e.Delete(desc.Digest)
		if collectable {
			markReferrers(e, desc.Digest)
		}
		return nil
	})
}

func markReferrers(e *Edit, subject digest.Digest) {
	now := time.Now()
	for referrer := range e.Referrers(subject, "") {
		e.Mark(referrer.Digest, now)
	}
}

// DeleteBlob removes a blob. One that a manifest names is needed, and so is one
// that is a manifest: oci.Denied, 405.
//
// The manifests are read between Updates and never in one, so no push waits for
// a scan; the Update that drops the blob has seen that all of them were read.
func DeleteBlob(ctx context.Context, from Repository, d digest.Digest, by string) error {
	if _, err := from.StatBlob(ctx, d); err != nil {
		return err
	}
	unneeded := make(map[digest.Digest]bool) // manifests that don't name d
	for {
		var unread []oci.Descriptor
		err := from.Update(ctx, func(e *Edit) error {
			unread = unread[:0]
			for m := range e.Manifests() {
				if m.Digest == d {
					return oci.WithStatus(http.StatusMethodNotAllowed, oci.Denied, "%s is a manifest", d)
				}
				if !unneeded[m.Digest] {
					unread = append(unread, m)
				}
			}
			if len(unread) > 0 {
				return errUnread
			}
			e.By = by
			e.DropBlob(d)
			return nil
		})
		if !errors.Is(err, errUnread) {
			return err
		}
		if err := readAll(ctx, from, unread, d, unneeded); err != nil {
			return err
		}
	}
}

// errUnread sends DeleteBlob back to read manifests that it hasn't seen.
var errUnread = errors.New("storage: manifests not read yet")

func readAll(ctx context.Context, from Reader, unread []oci.Descriptor, d digest.Digest, unneeded map[digest.Digest]bool) error {
	for _, desc := range unread {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := ReadManifest(ctx, from, desc)
		switch {
		case errors.Is(err, oci.BlobUnknown):
			if err := stillThere(ctx, from, desc.Digest, d); err != nil {
				return err
			}
		case errors.Is(err, oci.ManifestInvalid): // what it needs isn't known
			return oci.WithStatus(http.StatusMethodNotAllowed, oci.Denied, "manifest %s can't be read, and may need %s", desc.Digest, d)
		case err != nil:
			return err
		case names(m, d):
			return neededErr(d, m.Digest)
		}
		unneeded[desc.Digest] = true
	}
	return nil
}

// stillThere fails if a manifest that can't be found is one of the repository still:
// its bytes are lost, or in quarantine, and may come again. Else somebody has deleted it.
func stillThere(ctx context.Context, from Reader, m, d digest.Digest) error {
	idx, err := from.Index(ctx)
	if err != nil {
		return err
	}
	if _, err := idx.Resolve(oci.DigestRef(m)); err != nil {
		return nil //nolint:nilerr // it needs nothing any more
	}
	return oci.WithStatus(http.StatusMethodNotAllowed, oci.Denied, "manifest %s is lost, and may need %s once it comes again", m, d)
}

func names(m oci.Manifest, d digest.Digest) bool {
	for _, b := range m.Blobs {
		if b.Digest == d {
			return true
		}
	}
	for _, c := range m.Manifests {
		if c.Digest == d {
			return true
		}
	}
	return false
}

func neededErr(d, by digest.Digest) error {
	return oci.WithStatus(http.StatusMethodNotAllowed, oci.Denied, "%s is needed by %s", d, by)
}
