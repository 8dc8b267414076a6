package filesystem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Collectable = (*Repository)(nil)

// algorithms are those whose digests blobs are found by.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}

// Contents implements storage.Collectable.
func (r *Repository) Contents(ctx context.Context) iter.Seq2[storage.Content, error] {
	return func(yield func(storage.Content, error) bool) {
		// Not for each blob by itself: without manifests a repository isn't kept in
		// memory, and its marks would be read anew.
		repo, err := r.use()
		if err != nil {
			yield(storage.Content{}, err)
			return
		}
		defer repo.done()
		for _, a := range algorithms {
			digests, err := r.digests(a)
			if err != nil {
				yield(storage.Content{}, err)
				return
			}
			for _, d := range digests {
				c, there, err := repo.content(ctx, d)
				if err == nil && !there {
					continue
				}
				if !yield(c, err) || err != nil {
					return
				}
			}
		}
	}
}

// digests are the names in a folder of blobs.
func (r *Repository) digests(a digest.Algorithm) ([]digest.Digest, error) {
	if err := r.store.enter(); err != nil {
		return nil, err
	}
	defer r.store.leave()
	names, err := r.store.suspect.entries(blobDir(r.name, a))
	digests := make([]digest.Digest, 0, len(names))
	for _, name := range names {
		if d := digest.NewDigestFromEncoded(a, name); isDigest(d) {
			digests = append(digests, d)
		}
	}
	return digests, err
}

// content is a blob as a collector sees it; false if it isn't there, or is none.
func (r *repo) content(ctx context.Context, d digest.Digest) (storage.Content, bool, error) {
	if err := ctx.Err(); err != nil {
		return storage.Content{}, false, err
	}
	fi, err := r.statAny(d)
	if err != nil {
		return storage.Content{}, false, unless(errors.Is(err, oci.BlobUnknown), err)
	}
	since, _, err := r.markedSince(d)
	return storage.Content{Digest: d, Size: fi.Size(), Marked: since, Object: objectOf(fi)}, true, err
}

// Peek implements storage.Collectable.
func (r *Repository) Peek(_ context.Context, d digest.Digest) (*storage.Blob, error) {
	repo, err := r.use()
	if err != nil {
		return nil, err
	}
	defer repo.done()
	if _, err := repo.current(); err != nil {
		return nil, err
	}
	b, _, err := repo.openAny(d)
	return b, err
}

// Retire implements storage.Collectable. What other tools keep in the folder stays,
// and so does the history.
func (r *Repository) Retire(context.Context) (bool, error) {
	repo, err := r.use()
	if err != nil {
		return false, err
	}
	defer repo.done()
	repo.commitMu.Lock()
	defer repo.commitMu.Unlock()
	if err := r.store.lock.check(); err != nil {
		return false, err
	}
	st, err := repo.refresh()
	if err != nil {
		return false, err
	}
	switch {
	case st.broken != nil:
		return false, st.broken
	case st.index == nil:
		return true, nil
	case st.index.Len() > 0:
		return false, nil
	}
	gone, err := repo.retire(st)
	if err != nil {
		// How far it got isn't known: read what the files say before going on.
		repo.state.Store(nil)
		repo.closeLog()
		return false, fmt.Errorf("retire %s: %w", repo.name, r.store.space.note(err))
	}
	return gone, nil
}

// retire ends in what exists and is empty, or doesn't exist, wherever a crash ends it:
// index.json says that nothing is left before the log goes, which may be all that says
// it so far; and the copy is gone, durably, before index.json could be missed.
func (r *repo) retire(st *state) (bool, error) {
	if ok, err := r.removeBlobDirs(); !ok {
		return false, err
	}
	if err := r.endLog(st); err != nil {
		return false, err
	}
	if err := r.gone(); err != nil {
		return false, err
	}
	if _, err := r.removeAll(pullsPath(r.name), marksPath(r.name)); err != nil {
		return false, err
	}
	if err := r.syncIfThere(ownDir(r.name)); err != nil { // if all had gone before, that may have failed then
		return false, err
	}
	r.marked = false
	r.marks.forget()
	r.changed, r.retry = time.Time{}, time.Time{} // there's nothing to keep a copy of
	r.state.Store(nil)
	if _, err := r.removeAll(indexPath(r.name), markerPath(r.name)); err != nil {
		return false, err
	}
	_ = r.store.fs.Remove(r.name.String()) // there may be a repository inside, or what others keep there
	r.store.catalog.remove(r.name)
	return true, errors.Join(r.syncIfThere(r.name.String()), r.syncIfThere(path.Dir(r.name.String())))
}

// removeBlobDirs removes the folders of blobs, or returns false: as long as there's a
// blob, nothing has happened. Who adds one meanwhile makes the folders anew.
func (r *repo) removeBlobDirs() (bool, error) {
	r.release()
	dirs := make([]string, 0, len(algorithms)+1)
	for _, a := range algorithms {
		dirs = append(dirs, blobDir(r.name, a))
	}
	for _, dir := range append(dirs, blobsDir(r.name)) {
		if err := r.store.fs.Remove(dir); err != nil && !missing(err) {
			has, herr := r.store.hasBlob(r.name)
			if herr == nil && !has {
				herr = err // it isn't for a blob that the folder stays
			}
			return false, herr
		}
	}
	return true, nil
}

// removeAll removes files, which may be missing, one after the other, and reports whether
// one was there.
func (r *repo) removeAll(names ...string) (removed bool, err error) {
	for _, name := range names {
		if err := r.store.fs.Remove(name); err == nil {
			removed = true
		} else if !missing(err) {
			return removed, err
		}
	}
	return removed, nil
}

func (r *repo) syncIfThere(dir string) error {
	err := r.store.disk.SyncDir(dir)
	return unless(missing(err), err)
}
