package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Commit implements storage.Upload.
func (u *upload) Commit(_ context.Context, want digest.Digest) (oci.Descriptor, error) {
	store := u.repository.store
	if err := store.enter(); err != nil {
		return oci.Descriptor{}, err
	}
	defer store.leave()
	if !want.Algorithm().Available() {
		return oci.Descriptor{}, oci.Errorf(oci.DigestInvalid, "digest %q", want)
	}
	s := u.session
	if err := store.lock.check(); err != nil {
		return oci.Descriptor{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return oci.Descriptor{}, unknownUpload(s.id)
	}
	s.holder++ // an Append that still runs has lost the session
	s.hashing.Wait()
	s.giveBack()
	if err := s.openFile(); err != nil {
		return oci.Descriptor{}, s.fail(err)
	}
	got, err := s.digest(want.Algorithm())
	if err != nil {
		return oci.Descriptor{}, s.fail(err)
	}
	if got != want {
		return oci.Descriptor{}, errors.Join(oci.Errorf(oci.DigestInvalid, "content is %s, not %s", got, want), s.end())
	}
	repo := store.repos.use(u.repository.name)
	defer store.repos.done(repo)
	if err := repo.adopt(want, s); err != nil {
		return oci.Descriptor{}, s.fail(fmt.Errorf("commit %s: %w", want, err))
	}
	u.size = s.size
	return blobDescriptor(want, s.size), s.end()
}

// adopt makes the session's data a blob of the repository. Its own file stays
// until a link has worked.
func (r *repo) adopt(d digest.Digest, s *session) error {
	if _, err := r.current(); err != nil {
		return err
	}
	if err := r.rely(d); err != nil {
		return err
	}
	r.bytesMu.RLock()
	defer r.bytesMu.RUnlock()
	doubtful, small := r.store.doubts.has(d), !s.onDisk.Load()
	synced := !r.store.opts.Load().Unsynced
	isThere := func() bool { return !doubtful && r.isThere(d, s.size) }
	// Mostly it isn't: who pushes has asked. Where nothing is synced, to try costs no more.
	if (synced || !small) && isThere() {
		return nil
	}
	name := blobPath(r.name, d)
	if !doubtful && r.store.fromPool(d, s.size, name) {
		r.noteBlob(d, false) // who put it there has synced it, but maybe not this process
		r.arrived()
		return nil
	}
	err := errors.ErrUnsupported
	if small {
		err = r.makeBlob(name, s.mem)
	}
	if small && err != nil && isThere() {
		return nil // it was there before, or somebody else has just made it, and what that takes
	}
	if err != nil {
		err = r.takeIn(s, name)
	}
	if err != nil {
		return err
	}
	r.noteBlob(d, synced)
	r.store.toPool(d, s.size, name)
	r.arrived()
	return nil
}

// takeIn makes the session's content durable and then a file with the name of a blob.
func (r *repo) takeIn(s *session, name string) error {
	from, err := s.settle()
	if err != nil {
		return err
	}
	err = r.store.disk.Within(name, func() error { return r.nameBlob(from, name) })
	if err == nil {
		s.hasData = s.hasData && !s.onDisk.Load()
		return nil
	}
	cerr := r.copyIn(s, name)
	if cerr != nil {
		cerr = errors.Join(err, cerr)
	}
	return errors.Join(cerr, s.unsettle(from))
}

// isThere reports whether the repository has a file for a blob of that size.
func (r *repo) isThere(d digest.Digest, size int64) bool {
	fi, err := r.stat(d)
	return err == nil && fi.Size() == size
}

// makeBlob makes a small blob in one step. Its bytes may be durable only later: if they
// never are, its digest tells. It fails with fs.ErrExist if there's a file. What it can't
// do, for whatever reason, may be done by a rename, which says what's wrong if it can't.
func (r *repo) makeBlob(name string, data []byte) error {
	return r.store.disk.Within(name, func() error {
		if err := r.store.disk.Doubt(path.Dir(name)); err != nil {
			return err
		}
		return r.store.disk.MakeLater(name, data)
	})
}

// nameBlob gives a file that was staged the name of a blob. Its bytes may be
// durable only later: if they never are, its digest tells.
func (r *repo) nameBlob(from, name string) error {
	if err := r.store.disk.Doubt(path.Dir(name)); err != nil {
		return err
	}
	return r.store.fs.Rename(from, name)
}

// settle makes the session's content durable, at the latest with what names it,
// and returns the file that has it.
func (s *session) settle() (name string, err error) {
	if !s.onDisk.Load() {
		return s.store.disk.StageLater(uploadsDir, bytes.NewReader(s.mem), blobMode(s.size))
	}
	if mode := blobMode(s.size); mode != 0 {
		if err := s.file.Chmod(mode); err != nil {
			return "", err
		}
	}
	if err := s.store.disk.Sync(s.file); err != nil {
		return "", errors.Join(err, s.end()) // the next Sync would say that all is well: see doubts
	}
	return s.path("data"), nil
}

// unsettle undoes settle, for a session that goes on, and so has to be written.
func (s *session) unsettle(name string) error {
	switch {
	case !s.onDisk.Load():
		return s.store.fs.Remove(name)
	case blobMode(s.size) == 0:
		return nil
	}
	return s.file.Chmod(0o600)
}

// arrived makes a repository whose first blob this is known.
func (r *repo) arrived() {
	if st := r.state.Load(); st == nil || !st.exists() {
		r.state.Store(nil)
		r.store.catalog.add(r.name)
	}
}

// blobMode takes the right to write off a file that is going to be shared; zero
// leaves it as it is.
func blobMode(size int64) fs.FileMode {
	if size < smallest {
		return 0
	}
	return 0o444
}

// copyIn is for a repository on another file system than _uploads, where no
// rename or link reaches.
func (r *repo) copyIn(s *session, name string) error {
	content, err := s.content()
	if err != nil {
		return err
	}
	if err := r.store.disk.MakeDir(path.Dir(name)); err != nil {
		return err
	}
	// Not in blobs: other tools take what they find there for blobs.
	tmp, err := r.store.disk.StageFrom(r.name.String(), content, blobMode(s.size))
	if err != nil {
		return err
	}
	if err := r.store.fs.Rename(tmp, name); err != nil {
		return errors.Join(err, r.store.fs.Remove(tmp))
	}
	return nil
}

// MountBlob implements storage.Repository.
func (r *Repository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	source, err := (&Repository{store: r.store, name: from}).use()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer source.done()
	if _, err := source.current(); err != nil {
		return oci.Descriptor{}, err
	}
	if err := source.rely(d); err != nil {
		return oci.Descriptor{}, err
	}
	fi, err := source.stat(d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if from == r.name {
		return blobDescriptor(d, fi.Size()), nil
	}
	if err := r.store.lock.check(); err != nil {
		return oci.Descriptor{}, err
	}
	if fi.Size() >= smallest && !source.isManifest(d) && r.linkFrom(source, d) == nil {
		return blobDescriptor(d, fi.Size()), nil
	}
	b, err := source.open(d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := storage.PutBlob(ctx, r, d, b, storage.UploadOptions{Size: b.Size})
	if errors.Is(err, oci.DigestInvalid) { // its bytes have rotted, which is no fault of who asks
		err = oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	return desc, errors.Join(err, b.Close())
}

// linkFrom gives the repository another link to a blob of the source.
func (r *Repository) linkFrom(source *repo, d digest.Digest) error {
	repo := r.store.repos.use(r.name)
	defer r.store.repos.done(repo)
	if _, err := repo.current(); err != nil {
		return err
	}
	if err := repo.rely(d); err != nil {
		return err
	}
	repo.bytesMu.RLock()
	defer repo.bytesMu.RUnlock()
	was, err := r.store.link(blobPath(source.name, d), blobPath(r.name, d))
	if err != nil {
		return err
	}
	switch was {
	case nobody:
		repo.noteBlob(d, source.isSynced(d))
	case itself: // what is known of it stays so
	case another:
		if _, err := repo.stat(d); err != nil || r.store.doubts.has(d) {
			return fs.ErrExist // a copy of the source's takes its place
		}
	}
	repo.arrived()
	return nil
}

func (r *repo) isManifest(d digest.Digest) bool {
	st := r.state.Load()
	return st != nil && st.index != nil && st.index.Listed(d)
}
