package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// persist makes a batch durable and then visible. The order is what a power cut
// can't break: bytes, their names, history, the index; only then what's dropped.
func (r *repo) persist(st *state, b *batch) error {
	if err := r.prepare(st, b); err != nil {
		return errors.Join(err, r.unwrite(b))
	}
	if len(b.changes) == 0 {
		if err := r.store.disk.Barrier(); err != nil {
			return err
		}
		if len(b.manifests) > 0 {
			r.keep(st, b.index) // it knows more of what was listed and absent
		}
		return nil
	}
	next, err := r.writeIndex(st, b)
	if err != nil {
		return err
	}
	next.touch()
	r.state.Store(next)
	r.changed = timeNow()
	r.store.background.wake(r)
	r.store.catalog.add(r.name)
	return r.dropBlobs(b)
}

// prepare does all that comes before the index, which doesn't show yet. What
// need not wait for each other is synced together, at the latest with the index: the
// rename of index.json waits for it, and so does a record in the log.
func (r *repo) prepare(st *state, b *batch) error {
	if len(b.changes) > 0 || len(b.manifests) > 0 {
		if err := r.makeDirs(st); err != nil {
			return err
		}
	}
	if err := r.writeBytes(b); err != nil {
		return err
	}
	wave := []func() error{
		r.settleNames,
		func() error { return r.appendHistory(b) },
		func() error { return r.writeMarks(b) },
	}
	if len(b.changes) > 0 && r.replaces(st) {
		wave = append(wave, func() error { return r.stageIndex(b) })
	}
	return r.together(wave)
}

// atOnce is how many files are synced at the same time.
const atOnce = 8

// together calls all of them, the last one in this goroutine. With nothing to wait
// for, since the disk isn't synced or that comes later, it's one after the other.
func (r *repo) together(wave []func() error) error {
	var others errgroup.Group
	others.SetLimit(atOnce)
	noWait := r.store.opts.Load().Unsynced || r.store.disk.Later()
	for i, fn := range wave {
		if !noWait && i < len(wave)-1 {
			others.Go(fn)
		} else if err := fn(); err != nil {
			return errors.Join(err, others.Wait())
		}
	}
	return others.Wait()
}

// unwrite removes the files of a batch that failed before its index was
// written: nothing names them.
func (r *repo) unwrite(b *batch) error {
	var errs []error
	errs = append(errs, r.unstage(b))
	for _, d := range b.written {
		if err := r.removeBlob(d); err != nil && !missing(err) {
			errs = append(errs, err)
		}
	}
	b.written = nil
	return errors.Join(errs...)
}

// makeDirs makes the folders a change needs, and their names durable, and
// oci-layout if the repository hasn't got one.
func (r *repo) makeDirs(st *state) error {
	there := st.stamp.index != (fileStamp{}) // index.json was seen just now
	if there && r.marked && r.store.opts.Load().Unsynced {
		return nil // they were made before, and Settled knows only of what is durable
	}
	for _, dir := range []string{ownDir(r.name), r.name.String()} {
		if there && r.store.disk.Settled(dir) {
			continue
		}
		if err := r.store.disk.MakeDir(dir); err != nil {
			return err
		}
		if err := r.store.disk.Settle(dir); err != nil {
			return err
		}
	}
	if there && r.marked {
		return nil
	}
	_, err := r.store.fs.Stat(markerPath(r.name))
	if missing(err) {
		err = r.store.disk.Replace(markerPath(r.name), r.stageDir(), []byte(layout.Marker))
	}
	r.marked = err == nil
	return err
}

// stageDir is where files are written that are then renamed into the
// repository: beside its log, unless another file system is mounted there, which
// no rename reaches. Never in blobs, since other tools take what they find there
// for blobs.
func (r *repo) stageDir() string {
	r.stageOnce.Do(func() {
		r.stage = ownDir(r.name)
		own, err := r.store.fs.Stat(ownDir(r.name))
		repo, rerr := r.store.fs.Stat(r.name.String())
		if err == nil && rerr == nil && stampOf(own).device != stampOf(repo).device {
			r.stage = r.name.String()
		}
	})
	return r.stage
}

// writeBytes writes the batch's manifests and syncs what isn't known to be durable.
func (r *repo) writeBytes(b *batch) error {
	var wave []func() error
	for _, m := range b.manifests {
		wave = append(wave, func() error { return r.writeManifest(b, m) })
	}
	if !r.store.opts.Load().Unsynced {
		slices.Sort(b.require)
		for _, d := range slices.Compact(b.require) {
			if !r.isSynced(d) {
				wave = append(wave, func() error { return r.syncBlob(d) })
			}
		}
	}
	return r.together(wave)
}

// writeManifest makes a manifest a file of the repository.
func (r *repo) writeManifest(b *batch, m oci.Manifest) error {
	doubtful := r.store.doubts.has(m.Digest)
	isThere := func() bool { return !doubtful && r.isThere(m.Digest, int64(len(m.Raw))) }
	if isThere() {
		return r.syncOnce(m.Digest) // a blob or a left-over; its content was verified when it came
	}
	synced := !r.store.opts.Load().Unsynced
	name := blobPath(r.name, m.Digest)
	err := r.makeBlob(name, m.Raw)
	if errors.Is(err, fs.ErrExist) && isThere() {
		return r.syncOnce(m.Digest) // somebody else has just made it
	}
	if err != nil {
		err = r.stageManifest(name, m)
	}
	if err != nil {
		return err
	}
	r.noteBlob(m.Digest, synced)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = append(b.written, m.Digest)
	return nil
}

// syncOnce is syncBlob of what may be known to be durable.
func (r *repo) syncOnce(d digest.Digest) error {
	if r.isSynced(d) {
		return nil
	}
	return r.syncBlob(d)
}

// stageManifest writes a manifest to a file of its own, and gives that the name of a blob.
func (r *repo) stageManifest(name string, m oci.Manifest) error {
	tmp, err := r.store.disk.StageLater(r.stageDir(), bytes.NewReader(m.Raw), 0)
	if err != nil {
		return fmt.Errorf("write manifest %s: %w", m.Digest, err)
	}
	if err := r.store.disk.Within(name, func() error { return r.nameBlob(tmp, name) }); err != nil {
		return errors.Join(err, r.store.fs.Remove(tmp))
	}
	return nil
}

// syncBlob makes durable what this process didn't write, or hasn't synced.
func (r *repo) syncBlob(d digest.Digest) error {
	var f vfs.File
	err := r.inBlobs(d.Algorithm(), func(blobs vfs.FS) (err error) {
		f, err = blobs.Open(d.Encoded())
		return err
	})
	if missing(err) {
		return nil // sparse, or a child that only its parent's index knows
	}
	if err == nil {
		err = errors.Join(r.syncFile(d, f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", d, err)
	}
	r.store.disk.Others(blobPath(r.name, d))
	r.noteBlob(d, true)
	return nil
}

// settleNames makes the names of blobs durable.
func (r *repo) settleNames() error {
	r.syncMu.Lock()
	unnamed := slices.Collect(maps.Keys(r.unnamed))
	clear(r.unnamed)
	r.syncMu.Unlock()
	for n, a := range unnamed {
		dir := blobDir(r.name, a)
		err := r.store.disk.Settle(dir)
		if err == nil {
			err = r.store.disk.SyncDirLater(dir)
		}
		if err != nil {
			r.syncMu.Lock()
			for _, a := range unnamed[n:] {
				r.unnamed[a] = true
			}
			r.syncMu.Unlock()
			return err
		}
	}
	return nil
}

// writeIndex makes the batch's index what the files say: by a new index.json, or
// by a record in the log, which costs less if another change comes soon or
// index.json is large.
func (r *repo) writeIndex(st *state, b *batch) (*state, error) {
	next := &state{index: b.index, stamp: st.stamp, size: st.size, sum: st.sum}
	if r.replaces(st) {
		var err error
		next.stamp.index, err = r.replaceIndex(b)
		next.size, next.sum = b.size, ""
		return next, err
	}
	changes := fromStorage(b.changes)
	if len(changes) == 0 {
		return next, r.store.disk.Barrier()
	}
	if !r.logBegins() {
		return next, r.log.append(r.store.disk, record{Changes: changes})
	}
	first, err := r.beginLog(st)
	if err != nil {
		return nil, err
	}
	return next, r.log.append(r.store.disk, first, record{Changes: changes})
}

// logFromBusy is Options.LogFrom for a repository that one change after the other
// comes to.
const logFromBusy = 4 << 10

// replaces reports whether the next change is a new index.json, not a record in the log.
func (r *repo) replaces(st *state) bool {
	from := r.store.opts.Load().LogFrom
	if r.changed.IsZero() { // nothing has changed lately
		return r.logBegins() && st.size < from
	}
	return r.logBegins() && st.size < min(from, logFromBusy)
}

// logBegins reports whether the next record is the first of a log.
func (r *repo) logBegins() bool { return r.log == nil || r.log.spent || r.log.size == 0 }

// stageIndex writes the batch's index.json, which isn't its name yet.
func (r *repo) stageIndex(b *batch) error {
	var buf bytes.Buffer
	err := b.index.Encode(&buf)
	if err == nil {
		b.size = buf.Len()
		b.staged, err = r.store.disk.StageLater(r.stageDir(), &buf, 0)
	}
	if err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	return nil
}

// replaceIndex makes what is staged index.json.
func (r *repo) replaceIndex(b *batch) (fileStamp, error) {
	if err := r.store.fs.Rename(b.staged, indexPath(r.name)); err != nil {
		return fileStamp{}, errors.Join(fmt.Errorf("write index.json: %w", err), r.unstage(b))
	}
	b.staged = ""
	if err := r.store.disk.SyncDir(r.name.String()); err != nil {
		return fileStamp{}, fmt.Errorf("write index.json: %w", err)
	}
	fi, err := r.store.fs.Stat(indexPath(r.name))
	if err != nil {
		return fileStamp{}, nil //nolint:nilerr // it's written; who asks next looks at it again
	}
	return stampOf(fi), nil
}

// unstage removes an index.json that doesn't come to its name.
func (r *repo) unstage(b *batch) error {
	if b.staged == "" {
		return nil
	}
	staged := b.staged
	b.staged = ""
	return r.store.fs.Remove(staged)
}

// dropBlobs removes the blobs that the batch drops, so that a power cut doesn't
// bring them back. One that is still linked elsewhere stays there.
func (r *repo) dropBlobs(b *batch) error {
	dropped := false
	for d := range b.drop {
		err := r.removeBlob(d)
		if err != nil && !missing(err) {
			return fmt.Errorf("drop %s: %w", d, err)
		}
		dropped = dropped || err == nil
		r.store.leavePool(d)
	}
	if !dropped {
		return nil
	}
	return errors.Join(r.settleNames(), r.store.disk.Barrier())
}

func (r *repo) removeBlob(d digest.Digest) error {
	err := r.inBlobs(d.Algorithm(), func(blobs vfs.FS) error { return blobs.Remove(d.Encoded()) })
	r.noteGone(d)
	if !missing(err) {
		r.noteUnnamed(d.Algorithm())
	}
	return err
}

// stat describes a blob's file, unless its bytes are known to be bad.
func (r *repo) stat(d digest.Digest) (fs.FileInfo, error) {
	fi, err := r.statAny(d)
	if err == nil && r.store.isRotten(d, fi) {
		return nil, oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	return fi, err
}

func (r *repo) statAny(d digest.Digest) (fs.FileInfo, error) {
	var fi fs.FileInfo
	err := r.inBlobs(d.Algorithm(), func(blobs vfs.FS) (err error) {
		fi, err = blobs.Stat(d.Encoded())
		return err
	})
	if missing(err) || err == nil && !fi.Mode().IsRegular() {
		return nil, oci.Errorf(oci.BlobUnknown, "%s", d)
	}
	return fi, err
}

var _ storage.Repository = (*Repository)(nil)
