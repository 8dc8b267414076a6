package filesystem

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
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
	verified map[oci.Name]*verification
}

// verification is that of one repository.
type verification struct {
	mu   sync.Mutex // one at a time verifies it
	done bool
}

// begin is called by the new writer.
func (s *suspect) begin() {
	if _, err := s.store.fs.Stat(unsyncedName); err == nil {
		s.on.Store(true)
		s.store.log().Warn("the store was written unsynced and not closed; it is verified before it is served")
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
	if _, err := s.store.fs.Stat(unsyncedName); missing(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := vfs.SyncAll(s.store.under); err != nil {
		s.store.log().Warn("the store will be verified at its next start", "error", err)
		return nil
	}
	return errors.Join(s.store.fs.Remove(unsyncedName), s.store.fs.SyncDir("."))
}

// verifyAll reads every repository once, which verifies it, and then the pool.
func (s *suspect) verifyAll(ctx context.Context) {
	if !s.on.Load() {
		return
	}
	failed := false
	err := s.store.catalog.descend(ctx, ".", func(n oci.Name) {
		r := s.store.repos.use(n)
		defer s.store.repos.done(r)
		if _, err := r.current(); err != nil {
			failed = true
			s.store.log().Error("not verified", "repository", n.String(), "error", err)
		}
	})
	if err == nil {
		err = s.verifyPool(ctx)
	}
	if err != nil {
		failed = true
		s.store.log().Error("the store isn't verified", "error", err)
	}
	if !failed {
		s.on.Store(false)
		s.store.log().Info("the store is verified")
	}
}

// verify removes the blobs of a repository that don't hash to their names.
func (s *suspect) verify(r *repo) error {
	if !s.on.Load() {
		return nil
	}
	v := s.of(r.name)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.done {
		return nil
	}
	for _, a := range algorithms {
		err := s.verifyDir(blobDir(r.name, a), a)
		if err != nil {
			return err
		}
	}
	v.done = true
	return nil
}

// of returns what is known of a repository.
func (s *suspect) of(n oci.Name) *verification {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.verified == nil {
		s.verified = make(map[oci.Name]*verification)
	}
	v := s.verified[n]
	if v == nil {
		v = new(verification)
		s.verified[n] = v
	}
	return v
}

// verifyPool removes what is damaged in the pool and in no repository any more.
func (s *suspect) verifyPool(ctx context.Context) error {
	algorithms, err := s.entries(poolDir)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		prefixes, err := s.entries(path.Join(poolDir, a))
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.verifyDir(path.Join(poolDir, a, p), digest.Algorithm(a)); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries are the names in a directory, which may be missing.
func (s *suspect) entries(dir string) ([]string, error) {
	entries, err := s.store.fs.ReadDir(dir)
	if missing(err) {
		return nil, nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// verifyDir removes the files of a directory that don't hash to their names.
func (s *suspect) verifyDir(dir string, a digest.Algorithm) error {
	names, err := s.entries(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.verifyFile(dir, name, a); err != nil {
			return err
		}
	}
	return nil
}

// verifyFile removes a file that has a digest for a name and doesn't hash to it.
func (s *suspect) verifyFile(dir, name string, a digest.Algorithm) error {
	d := digest.NewDigestFromEncoded(a, name)
	if !isDigest(d) {
		return nil
	}
	got, err := s.hash(path.Join(dir, name), a)
	if err != nil || got == d {
		return unless(irregular(err), err) // what is irregular is no blob, whatever it's called
	}
	s.store.log().Error("a file was damaged in an unclean stop and is removed", "in", dir, "digest", d.String())
	err = s.store.fs.Remove(path.Join(dir, name))
	return unless(missing(err), err)
}

func isDigest(d digest.Digest) bool { return d.Validate() == nil }

// unless returns err unless it's forgiven.
func unless(forgiven bool, err error) error {
	if forgiven {
		return nil
	}
	return err
}

func (s *suspect) hash(name string, a digest.Algorithm) (digest.Digest, error) {
	f, err := s.store.fs.Open(name)
	if err != nil {
		return "", err
	}
	h := a.Hash()
	_, err = io.Copy(h, f)
	return digest.NewDigest(a, h), errors.Join(err, f.Close())
}

// prune returns what's left of an index when manifests were lost.
func (s *suspect) prune(r *repo, idx *layout.Index) *layout.Index {
	left, events := s.remaining(r, idx)
	if left == idx {
		return idx
	}
	if err := s.writePruned(r, left, events); err != nil {
		s.store.log().Error("index.json still names what was lost", "repository", r.name.String(), "error", err)
	}
	return left
}

// remaining is idx without the manifests that were lost.
func (s *suspect) remaining(r *repo, idx *layout.Index) (*layout.Index, []layout.Event) {
	if !s.on.Load() {
		return idx, nil
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
	return idx.Apply(lost)
}

func (s *suspect) writePruned(r *repo, left *layout.Index, events []layout.Event) error {
	b := &batch{index: left}
	for _, e := range events {
		b.events = append(b.events, event{Event: e})
	}
	if err := r.appendHistory(b); err != nil {
		return err
	}
	if err := r.stageIndex(b); err != nil {
		return err
	}
	if _, err := r.replaceIndex(b); err != nil {
		return err
	}
	if r.log != nil {
		return r.removeLog()
	}
	if err := s.store.fs.Remove(logPath(r.name)); !missing(err) {
		return err
	}
	return nil
}
