package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

var _ storage.Quarantiner = (*Repository)(nil)

// quarantineName is the folder that bad bytes are moved to. It's beside the log,
// or in the repository where no rename reaches that; see stageDir.
const quarantineName = "_quarantine"

func quarantineDirs(n oci.Name) []string {
	return []string{path.Join(ownDir(n), quarantineName), path.Join(n.String(), quarantineName)}
}

// quarantinedAs is what a file of a digest is called in a quarantine.
func quarantinedAs(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

func ofQuarantined(name string) (digest.Digest, bool) {
	a, hex, _ := strings.Cut(name, "-")
	d := digest.NewDigestFromEncoded(digest.Algorithm(a), hex)
	return d, isDigest(d)
}

// rottenFile is a file whose bytes aren't those of a digest. They may be right under
// another name, if somebody has linked it wrongly.
type rottenFile struct {
	fileStamp // without ctime, which a link changes

	digest digest.Digest
}

func rottenKey(d digest.Digest, fi fs.FileInfo) rottenFile {
	key := rottenFile{stampOf(fi), d}
	key.ctime = 0
	return key
}

// isRotten reports whether a file is known to have bad bytes for a digest. All its
// links are as bad, until each is in quarantine.
func (s *Store) isRotten(d digest.Digest, fi fs.FileInfo) bool {
	return s.rotten.some.Load() && s.rotten.has(rottenKey(d, fi))
}

// objectOf tells a file from all others, if the system can.
func objectOf(fi fs.FileInfo) string {
	device, inode, _ := identity(fi)
	if !telling {
		return ""
	}
	return fmt.Sprintf("%x.%x", device, inode)
}

// Quarantine implements storage.Quarantiner.
func (r *Repository) Quarantine(ctx context.Context, d digest.Digest) (storage.Outcome, error) {
	repo, err := r.use()
	if err != nil {
		return "", err
	}
	defer repo.done()
	if err := r.store.lock.check(); err != nil {
		return "", err
	}
	if _, err := repo.current(); err != nil {
		return "", err
	}
	bad, err := repo.findBad(ctx, d)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", d, err)
	}
	if bad == nil {
		return storage.Sound, nil
	}
	spare, err := r.store.spare(ctx, d, bad)
	if err != nil {
		return "", fmt.Errorf("read %s of the pool: %w", d, err)
	}
	return repo.quarantine(d, bad, spare)
}

// findBad describes the file of a blob, if its bytes aren't what they're called.
func (r *repo) findBad(ctx context.Context, d digest.Digest) (fs.FileInfo, error) {
	b, fi, err := r.openAny(d)
	if err != nil {
		return nil, err
	}
	sound := false
	if !r.store.isRotten(d, fi) {
		sound, err = isSound(ctx, d, b)
	}
	if err = errors.Join(err, b.Close()); err != nil || sound {
		return nil, err
	}
	return fi, nil
}

// spare describes the pool's file of a blob, if that's another one than bad, and
// right. One that isn't is removed.
func (s *Store) spare(ctx context.Context, d digest.Digest, bad fs.FileInfo) (fs.FileInfo, error) {
	f, err := s.fs.Open(poolPath(d))
	if missing(err) || irregular(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sound := false
	fi, err := f.Stat()
	if err == nil && rottenKey(d, fi) != rottenKey(d, bad) {
		sound, err = isSound(ctx, d, f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if sound {
		return fi, nil
	}
	s.rotten.add(rottenKey(d, fi))
	err = s.fs.Remove(poolPath(d))
	return nil, unless(missing(err), err)
}

func isSound(ctx context.Context, d digest.Digest, r io.Reader) (bool, error) {
	v := d.Verifier()
	_, err := io.Copy(v, untilDone{ctx, r})
	return err == nil && v.Verified(), err
}

// untilDone is a Reader that ends with its context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // of the one call that reads it
	io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// quarantine moves the file away, unless it has become another one.
func (r *repo) quarantine(d digest.Digest, bad, spare fs.FileInfo) (storage.Outcome, error) {
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	if err := r.store.lock.check(); err != nil {
		return "", err
	}
	st, err := r.refresh()
	if err != nil {
		return "", err
	}
	if st.broken != nil {
		return "", st.broken
	}
	r.bytesMu.Lock()
	defer r.bytesMu.Unlock()
	now, err := r.statAny(d)
	if errors.Is(err, oci.BlobUnknown) || err == nil && rottenKey(d, now) != rottenKey(d, bad) {
		return storage.Sound, nil // somebody has dropped it, or brought it anew
	}
	if err != nil {
		return "", err
	}
	r.store.rotten.add(rottenKey(d, bad))
	if err := r.takeOut(d); err != nil {
		return "", fmt.Errorf("move %s into quarantine: %w", d, err)
	}
	r.store.log().Error("a blob isn't what it's called, and is in quarantine", "repository", r.name.String(), "digest", d.String())
	if spare == nil {
		return storage.Taken, nil
	}
	if was, err := r.store.link(poolPath(d), blobPath(r.name, d)); err != nil || was == another {
		return storage.Taken, nil
	}
	r.noteBlob(d, false)
	return storage.Replaced, errors.Join(r.settleNames(), r.store.disk.Barrier())
}

// takeOut moves a blob's file into quarantine.
func (r *repo) takeOut(d digest.Digest) error {
	if err := r.store.disk.MakeDir(ownDir(r.name)); err != nil {
		return err
	}
	dir := path.Join(r.stageDir(), quarantineName)
	to := path.Join(dir, quarantinedAs(d))
	// An older one of the same digest may be the same file, and then a rename would
	// leave both names.
	if err := r.store.fs.Remove(to); err != nil && !missing(err) {
		return err
	}
	err := r.store.disk.Within(to, func() error { return r.store.fs.Rename(blobPath(r.name, d), to) })
	if err != nil {
		return err
	}
	r.taken.add(d)
	r.noteGone(d)
	r.noteUnnamed(d.Algorithm())
	if err := r.store.disk.Settle(dir); err != nil {
		return err
	}
	return errors.Join(r.store.disk.SyncDir(dir), r.settleNames(), r.store.disk.Barrier())
}

// readTaken finds out what is in quarantine.
func (r *repo) readTaken() error {
	for _, dir := range quarantineDirs(r.name) {
		names, err := r.store.suspect.entries(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if d, ok := ofQuarantined(name); ok {
				r.taken.add(d)
			}
		}
	}
	return nil
}

// isTaken reports whether a manifest was taken out and hasn't come again.
func (r *repo) isTaken(d digest.Digest) bool {
	if !r.taken.has(d) {
		return false
	}
	_, err := r.stat(d)
	return errors.Is(err, oci.BlobUnknown)
}

// Quarantined implements storage.Quarantiner.
func (r *Repository) Quarantined(ctx context.Context) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		repo, err := r.use()
		if err != nil {
			yield("", err)
			return
		}
		defer repo.done()
		if _, err := repo.current(); err != nil {
			yield("", err)
			return
		}
		for _, d := range repo.taken.all() {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if repo.isTaken(d) && !yield(d, nil) {
				return
			}
		}
	}
}

// Vouch implements storage.Quarantiner. It gives the pool back what somebody has
// removed there, or copied.
func (r *Repository) Vouch(_ context.Context, c storage.Content) error {
	if c.Size < smallest || c.Object == "" {
		return nil
	}
	repo, err := r.use()
	if err != nil {
		return err
	}
	defer repo.done()
	if _, err = repo.current(); err != nil || repo.isManifest(c.Digest) {
		return err
	}
	if err := r.store.lock.check(); err != nil {
		return err
	}
	repo.bytesMu.RLock()
	defer repo.bytesMu.RUnlock()
	fi, err := repo.stat(c.Digest)
	if err != nil || objectOf(fi) != c.Object {
		return unless(errors.Is(err, oci.BlobUnknown), err) // it isn't what was read
	}
	pooled, err := r.store.fs.Stat(poolPath(c.Digest))
	if err == nil && objectOf(pooled) == c.Object || err == nil && linkCount(pooled) != 1 {
		return nil
	}
	if err == nil { // a copy of its own
		err = r.store.fs.Remove(poolPath(c.Digest))
	}
	if err != nil && !missing(err) {
		return err
	}
	r.store.toPool(c.Digest, c.Size, blobPath(r.name, c.Digest))
	return nil
}
