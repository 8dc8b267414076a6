package filesystem

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// unsyncedName marks a tree that was written to without syncing. It goes when a
// clean stop has synced everything, so who finds it doesn't trust what is there.
const unsyncedName = "_unsynced"

// suspect makes a tree that Options.Unsynced was at work in, and that wasn't
// closed, be verified before it is served: each repository when it's first read,
// and all of them in the background.
type suspect struct {
	store *Store
	on    atomic.Bool

	mu       sync.Mutex
	verified map[oci.Name]bool
}

// begin is called by the new writer.
func (s *suspect) begin() {
	if _, err := s.store.fs.Stat(unsyncedName); err == nil {
		s.on.Store(true)
		s.store.log().Warn("the store was written unsynced and not closed; it is verified before it is served")
		s.store.background.do(s.verifyAll)
	}
	if s.store.opts.Load().Unsynced {
		s.mark()
	}
}

// mark leaves the mark, which is synced itself.
func (s *suspect) mark() {
	f, err := s.store.fs.OpenFile(unsyncedName, os.O_WRONLY|os.O_CREATE)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close(), s.store.fs.SyncDir("."))
	}
	if err != nil {
		s.store.log().Error("an unclean stop won't be noticed", "error", err)
	}
}

// clean removes the mark at a clean stop, once the system has written everything.
func (s *suspect) clean() error {
	if s.on.Load() || !s.store.lock.held() {
		return nil
	}
	if _, err := s.store.fs.Stat(unsyncedName); err != nil {
		return nil
	}
	if err := vfs.SyncAll(s.store.fs); err != nil {
		s.store.log().Warn("the store will be verified at its next start", "error", err)
		return nil
	}
	return errors.Join(s.store.fs.Remove(unsyncedName), s.store.fs.SyncDir("."))
}

// verifyAll reads every repository once, which verifies it.
func (s *suspect) verifyAll(ctx context.Context) {
	err := s.store.catalog.descend(ctx, ".", func(n oci.Name) {
		r, done := s.store.repos.use(n)
		defer done()
		if _, err := r.current(); err != nil {
			s.store.log().Error("not verified", "repository", n.String(), "error", err)
		}
	})
	if err == nil {
		s.on.Store(false)
		s.store.log().Info("the store is verified")
	}
}

// verify removes the blobs of a repository that don't hash to their names, and
// the manifests that are gone with them. It returns what's left of the index.
func (s *suspect) verify(r *repo, idx *layout.Index) (*layout.Index, error) {
	if !s.on.Load() || !s.first(r.name) {
		return idx, nil
	}
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if err := s.verifyBlobs(r, a); err != nil {
			return nil, err
		}
	}
	var lost []storage.Change
	for m := range idx.Manifests() {
		if _, err := r.stat(m.Digest); errors.Is(err, oci.BlobUnknown) {
			lost = append(lost, storage.Change{Kind: storage.DeleteChange, Digest: m.Digest})
		}
	}
	if len(lost) == 0 {
		return idx, nil
	}
	s.store.log().Error("manifests were lost in an unclean stop", "repository", r.name.String(), "manifests", len(lost))
	idx, _ = idx.Apply(lost)
	r.closeLog()
	_, _, err := r.replaceIndex(idx)
	if err == nil {
		err = r.store.fs.Remove(logPath(r.name))
	}
	if missing(err) {
		err = nil
	}
	return idx, err
}

func (s *suspect) first(n oci.Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified == nil {
		s.verified = make(map[oci.Name]bool)
	}
	was := s.verified[n]
	s.verified[n] = true
	return !was
}

func (s *suspect) verifyBlobs(r *repo, a digest.Algorithm) error {
	entries, err := s.store.fs.ReadDir(blobDir(r.name, a))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(a, e.Name())
		if d.Validate() != nil {
			continue
		}
		f, err := s.store.fs.Open(blobPath(r.name, d))
		if err != nil {
			return err
		}
		h := a.Hash()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if digest.NewDigest(a, h) == d {
			continue
		}
		s.store.log().Error("a blob was damaged in an unclean stop and is removed", "repository", r.name.String(), "digest", d.String())
		if err := s.store.fs.Remove(blobPath(r.name, d)); err != nil {
			return err
		}
		_ = s.store.fs.Remove(poolPath(d)) // the same bytes
	}
	return nil
}
