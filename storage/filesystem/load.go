package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// current returns what the repository's names mean, at most Options.Recheck
// ago. It takes no lock unless the files have changed.
func (r *repo) current() (*state, error) {
	st := r.state.Load()
	if st != nil && st.fresh(r.store.opts.Load().Recheck) {
		return st, nil
	}
	if st != nil {
		now, err := r.stampNow()
		if err != nil {
			return nil, err
		}
		if now == st.stamp {
			st.touch()
			return st, nil
		}
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	return r.refresh()
}

// refresh is current for who holds commitMu, without waiting for Recheck.
func (r *repo) refresh() (*state, error) {
	now, err := r.stampNow()
	if err != nil {
		return nil, err
	}
	if st := r.state.Load(); st != nil && now == st.stamp {
		st.touch()
		return st, nil
	}
	st, err := r.load(now)
	if err != nil {
		return nil, err
	}
	if was := r.state.Load(); was != nil && was.index != nil && st.index != nil {
		st.index = st.index.LearnFrom(was.index)
	}
	r.release() // the folders may be others than those that are open
	if err := r.readTaken(); err != nil {
		return nil, err
	}
	r.store.broken.note(r.name, st)
	r.marked = false
	st.touch()
	r.state.Store(st)
	if st.exists() {
		r.store.catalog.add(r.name)
	} else {
		r.store.catalog.remove(r.name)
	}
	return st, nil
}

// stampNow looks at the files. Of a repository without index.json its blobs
// folder counts.
func (r *repo) stampNow() (stamp, error) {
	var s stamp
	fi, err := r.store.fs.Stat(indexPath(r.name))
	if missing(err) {
		fi, err = r.store.fs.Stat(blobsDir(r.name))
	}
	switch {
	case err == nil:
		s.index = stampOf(fi)
	case !missing(err):
		return s, err
	}
	if r.store.lock.held() {
		return s, nil
	}
	fi, err = r.store.fs.Stat(logPath(r.name))
	if err == nil {
		s.log = stampOf(fi)
	}
	return s, nil
}

// missing reports whether err says that there's no such file. A name that goes
// through a file, as "a/b" where "a" is one, isn't there either.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || isNotDir(err) }

// irregular reports whether err says that there's something else than a file.
func irregular(err error) bool {
	return errors.Is(err, vfs.ErrIrregular) || errors.Is(err, syscall.EISDIR)
}

// damage is what's wrong with files that could be read.
type damage struct{ error }

func (d damage) Unwrap() error { return d.error }

// load reads the files. What can't be parsed isn't an error but a broken state:
// it concerns one repository, and its last good names are served on.
func (r *repo) load(now stamp) (*state, error) {
	if err := r.store.suspect.verify(r); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		st, err := r.read(now)
		bad, damaged := errors.AsType[damage](err)
		if err != nil && !damaged {
			return nil, err
		}
		// Some tools write index.json in place, and the writer may fold the log
		// while a standby reads: what looks torn, or has lost tags, may be whole now.
		if again, err := r.stampNow(); try < 3 && err == nil && again != now {
			now = again
			continue
		}
		if damaged {
			r.serveLast(st, bad)
		}
		return st, nil
	}
}

// read reads the files once. What's good of damaged ones is in the state, if anything is.
func (r *repo) read(now stamp) (*state, error) {
	st := &state{stamp: now}
	data, err := r.readFile(indexPath(r.name))
	switch {
	case missing(err):
		return st, r.readWithoutIndex(st)
	case irregular(err):
		return st, damage{err}
	case err != nil:
		return nil, err
	}
	st.size, st.sum = len(data), digest.FromBytes(data)
	idx, err := layout.Decode(data)
	if err != nil {
		return st, damage{err}
	}
	if st.index, err = r.replay(idx, st.sum); err != nil {
		return st, err
	}
	st.index = r.store.suspect.prune(r, st.index)
	return st, nil
}

// readWithoutIndex is for a repository that doesn't exist, one that has blobs
// and no manifest yet, and one whose index.json somebody has removed.
func (r *repo) readWithoutIndex(st *state) error {
	there, err := r.hasLayout()
	if err != nil {
		return err
	}
	if !there {
		return r.gone()
	}
	had, err := r.hadNames()
	if err != nil {
		return err
	}
	if had {
		return damage{errors.New("index.json is missing")}
	}
	st.index = layout.New()
	return nil
}

// hasLayout reports whether there's more of the repository than its name.
func (r *repo) hasLayout() (bool, error) {
	_, err := r.store.fs.Stat(markerPath(r.name))
	if missing(err) {
		return r.store.hasBlob(r.name)
	}
	return err == nil, err
}

// hasBlob reports whether there's a file in the blobs folder of n. A push that
// failed may leave the folder.
func (s *Store) hasBlob(n oci.Name) (bool, error) {
	algorithms, err := s.fs.ReadDir(blobsDir(n))
	if err != nil && !missing(err) {
		return false, err
	}
	for _, a := range algorithms {
		if !digest.Algorithm(a.Name()).Available() {
			continue
		}
		blobs, err := s.fs.ReadDir(path.Join(blobsDir(n), a.Name()))
		if err != nil && !missing(err) {
			return false, err
		}
		if len(blobs) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// hadNames reports whether the repository is known to have had an index.json.
func (r *repo) hadNames() (bool, error) {
	if was := r.state.Load(); was != nil && (was.size > 0 || was.broken != nil) {
		return true, nil //nolint:nilerr // that it was broken is an answer here
	}
	for _, name := range []string{lastPath(r.name), logPath(r.name)} {
		if _, err := r.store.fs.Stat(name); !missing(err) {
			return err == nil, err
		}
	}
	return false, nil
}

// gone removes what we kept of a repository that isn't there any more, so that
// one of the same name doesn't inherit it.
func (r *repo) gone() error {
	r.release()
	if !r.store.lock.held() {
		return r.store.present()
	}
	if err := r.store.lock.check(); err != nil {
		return err // the tree is gone, not the repository
	}
	r.closeLog()
	removed, err := r.removeAll(logPath(r.name), originalPath(r.name), lastPath(r.name))
	if removed {
		err = errors.Join(err, r.store.disk.SyncDir(ownDir(r.name))) // else a power cut could leave the copy, and index.json be missed
	}
	return err
}

// serveLast makes st serve the last good names, and say why: those in memory,
// else what of the files is good, else the copy.
func (r *repo) serveLast(st *state, cause error) {
	st.broken = fmt.Errorf("%w: %s: %w", storage.ErrBroken, r.name, cause)
	if was := r.state.Load(); was != nil && was.index != nil {
		st.index = was.index
	} else if st.index == nil {
		st.index = r.readLast()
	}
	if st.index != nil {
		st.index, _ = r.store.suspect.remaining(r, st.index)
	}
	r.closeLog() // it stays as it is
	r.store.log().Error("index.json can't be read; its last good state is served and nothing is changed until it is restored",
		"repository", r.name.String(), "last_good", st.index != nil, "error", cause)
}

// readLast is the copy of the last good index.json with what the log adds, or nil.
func (r *repo) readLast() *layout.Index {
	data, err := r.readFile(lastPath(r.name))
	if err != nil {
		return nil
	}
	last, err := layout.Decode(data)
	if err != nil {
		return nil
	}
	if with, err := r.replay(last, ""); with != nil && (err == nil || errors.As(err, new(damage))) {
		return with
	}
	return last
}

func (r *repo) readFile(name string) ([]byte, error) {
	f, err := r.store.fs.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// complete returns st with an index that knows what its manifests say.
func (r *repo) complete(ctx context.Context, st *state) (*state, error) {
	if st.index == nil || st.index.Complete() {
		return st, nil
	}
	r.commitMu.Lock()
	defer r.commitMu.Unlock()
	st, err := r.refresh()
	if err != nil {
		return nil, err
	}
	return r.completeLocked(ctx, st)
}

// completeLocked is complete for who holds commitMu.
func (r *repo) completeLocked(ctx context.Context, st *state) (*state, error) {
	if st.index == nil || st.index.Complete() {
		return st, nil
	}
	idx := st.index
	for !idx.Complete() {
		var read []oci.Manifest
		var absent []digest.Digest
		for desc := range idx.Unread() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m, err := r.readManifest(desc)
			switch {
			case err == nil:
				read = append(read, m)
			case missing(err), irregular(err), errors.Is(err, oci.ManifestInvalid), errors.Is(err, oci.DigestInvalid):
				absent = append(absent, desc.Digest)
			default:
				return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
			}
		}
		idx = idx.Learn(read, absent)
	}
	return r.keep(st, idx), nil
}

// keep stores st with an index that knows more.
func (r *repo) keep(st *state, idx *layout.Index) *state {
	next := &state{index: idx, broken: st.broken, stamp: st.stamp, size: st.size, sum: st.sum}
	next.checked.Store(st.checked.Load())
	r.state.Store(next)
	return next
}

// maxManifest bounds what is read into memory of a file that an index.json of
// unknown origin calls a manifest, in bytes.
const maxManifest = 64 << 20

func (r *repo) readManifest(desc oci.Descriptor) (oci.Manifest, error) {
	var raw []byte
	err := r.inBlobs(desc.Digest.Algorithm(), func(blobs vfs.FS) error {
		f, err := blobs.Open(desc.Digest.Encoded())
		if err != nil {
			return err
		}
		raw, err = io.ReadAll(io.LimitReader(f, maxManifest))
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return oci.Manifest{}, err
	}
	m, err := oci.ParseManifest(desc.MediaType, raw, desc.Digest.Algorithm())
	if err == nil && m.Digest != desc.Digest {
		err = oci.Errorf(oci.DigestInvalid, "manifest %s holds %s", desc.Digest, m.Digest)
	}
	return m, err
}
