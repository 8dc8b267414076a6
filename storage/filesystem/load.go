package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

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
	st.touch()
	r.state.Store(st)
	if st.exists() {
		r.store.catalog.add(r.name)
	} else {
		r.store.catalog.remove(r.name)
	}
	return st, nil
}

func (r *repo) stampNow() (stamp, error) {
	var s stamp
	fi, err := r.store.fs.Stat(indexPath(r.name))
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

// load reads the files. What can't be parsed isn't an error but a broken state:
// it concerns one repository, and its last good names are served on.
func (r *repo) load(now stamp) (*state, error) {
	for try := 0; ; try++ {
		st := &state{stamp: now}
		data, err := r.readFile(indexPath(r.name))
		switch {
		case missing(err):
			return r.loadWithoutIndex(st)
		case err != nil:
			return nil, err
		}
		if err = r.decode(st, data); err == nil {
			return st, nil
		}
		// Some tools write index.json in place: what looked torn may be whole now.
		if again, serr := r.stampNow(); try < 3 && serr == nil && again != now {
			now = again
			continue
		}
		return r.loadLast(st, err), nil
	}
}

func (r *repo) decode(st *state, data []byte) (err error) {
	st.size = len(data)
	if st.index, err = layout.Decode(data); err != nil {
		return err
	}
	if st.index, err = r.replay(st.index, digest.FromBytes(data)); err != nil {
		return err
	}
	st.index, err = r.store.suspect.verify(r, st.index)
	return err
}

// loadWithoutIndex is for a repository that doesn't exist, one that has blobs
// and no manifest yet, and one whose index.json somebody has removed.
func (r *repo) loadWithoutIndex(st *state) (*state, error) {
	if _, err := r.store.fs.Stat(markerPath(r.name)); err == nil {
		if _, err := r.store.fs.Stat(lastPath(r.name)); err == nil {
			return r.loadLast(st, errors.New("index.json is missing")), nil
		}
		st.index = layout.New()
		return st, nil
	} else if !missing(err) {
		return nil, err
	}
	fi, err := r.store.fs.Stat(r.name.String() + "/blobs")
	if err == nil && fi.IsDir() {
		st.index = layout.New()
		return st, nil
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	return st, r.gone()
}

// gone removes what we kept of a repository that isn't there any more, so that
// one of the same name doesn't inherit it.
func (r *repo) gone() error {
	r.release()
	if !r.store.lock.held() {
		return nil
	}
	if err := r.store.lock.check(); err != nil {
		return err // the tree is gone, not the repository: don't call it empty
	}
	r.closeLog()
	for _, name := range []string{logPath(r.name), lastPath(r.name)} {
		if err := r.store.fs.Remove(name); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// loadLast serves the last good names, and says why.
func (r *repo) loadLast(st *state, cause error) *state {
	st.broken = fmt.Errorf("%w: %s: %w", storage.ErrBroken, r.name, cause)
	st.index = nil
	if was := r.state.Load(); was != nil && was.index != nil {
		st.index = was.index
	} else if data, err := r.readFile(lastPath(r.name)); err == nil {
		st.index = r.decodeLast(data)
	}
	r.store.log().Error("index.json can't be read; its last good state is served and nothing is changed until it is restored",
		"repository", r.name.String(), "last_good", st.index != nil, "error", cause)
	return st
}

// decodeLast is the copy of the last good index.json with what the log adds, or nil.
func (r *repo) decodeLast(data []byte) *layout.Index {
	last, err := layout.Decode(data)
	if err != nil {
		return nil
	}
	if with, err := r.replay(last, ""); err == nil {
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
			case missing(err) || errors.Is(err, oci.ManifestInvalid) || errors.Is(err, oci.DigestInvalid):
				absent = append(absent, desc.Digest)
			default:
				return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
			}
		}
		idx = idx.Learn(read, absent)
	}
	next := &state{index: idx, broken: st.broken, stamp: st.stamp, size: st.size}
	next.checked.Store(st.checked.Load())
	r.state.Store(next)
	return next, nil
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
