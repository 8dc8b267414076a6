package s3

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// MountBlob implements storage.Repository. The blob's bytes are named before it's
// asked whether they stay: who sweeps either sees the name, or has condemned
// them before, which is seen here. Until then nobody can rely on the blob.
func (r *Repository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	known, done, err := r.enter()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer done()
	other := r.store.cache.acquire(r.store, from)
	defer r.store.cache.release(other)
	s, err := other.refresh(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	b, err := other.rely(ctx, s, d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	e := b.entry
	e.Also = "" // that's the other repository's to decide
	if _, err := known.addBlob(ctx, change{Blob: d, entry: e}, "", time.Time{}); err != nil {
		return oci.Descriptor{}, err
	}
	return describe(d, b), nil
}

// addBlob makes a blob of the repository, unless it's one already: then what came
// isn't needed. Until when its bytes were sure to be there is written; if that's
// long ago they may be going to be swept.
func (r *repo) addBlob(ctx context.Context, add change, by string, written time.Time) (added bool, err error) {
	unsure := false
	err = r.change(ctx, func(s *state) ([]change, string, error) {
		if added = s.find(add.Blob) == nil; !added {
			return effects(s, nil, []digest.Digest{add.Blob}), by, nil
		}
		unsure = !add.inline() && time.Since(written) > r.store.limits.slow
		if add.Unsure, add.Since = unsure, (time.Time{}); unsure {
			add.Since = time.Now().UTC()
		}
		return []change{add}, by, nil
	})
	// The process, or the machine, may have stood still at any point.
	if err == nil && added && !add.inline() && (unsure || time.Since(written) > 2*r.store.limits.slow) {
		err = r.confirm(ctx, add.Blob, add.entry)
	}
	return added, err
}

// confirm makes a blob of what was named as unsure, if its bytes stay.
func (r *repo) confirm(ctx context.Context, d digest.Digest, e entry) error {
	stays, err := r.store.stays(ctx, e.ID)
	if err != nil {
		return err
	}
	there, sure := false, e
	sure.Unsure = false
	err = r.change(ctx, func(s *state) ([]change, string, error) {
		now, ok := s.blobs.Get(byDigest(d))
		ours := ok && now.ID == e.ID
		switch there = s.find(d) != nil && (stays || !ours); {
		case there: // somebody else may have brought it
			return nil, "", nil
		case !ours: // or dropped it
			return nil, "", nil
		case !stays:
			return []change{{Drop: d}}, "", nil
		}
		there = true
		return []change{{Blob: d, entry: sure}}, "", nil
	})
	if err == nil && !there {
		err = oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	return err
}

// stays reports whether data that a record names since before the call isn't
// going to be swept.
func (s *Store) stays(ctx context.Context, id string) (bool, error) {
	gone, _, err := s.condemned(ctx, id)
	if err != nil {
		return false, err
	}
	if _, ok := gone.IDs[id]; ok {
		return false, nil
	}
	_, err = s.bucket.stat(ctx, s.keys.data(id))
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	return err == nil, err
}
