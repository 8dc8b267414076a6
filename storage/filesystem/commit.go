package filesystem

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// update is a call of Update that waits for its batch.
type update struct {
	fn   func(*storage.Edit) error
	done bool // guarded by repo.commitMu, as is err
	err  error
}

// batch is what a group of updates does to a repository, taken together.
type batch struct {
	index     *layout.Index
	changes   []storage.Change
	events    []event
	manifests []oci.Manifest         // to be written
	require   []digest.Digest        // whose bytes have to be durable
	drop      map[digest.Digest]bool // blobs to be removed
	staged    string                 // the file that becomes index.json, as long as it's there
	size      int                    // of that, in bytes
	removes   bool                   // nothing in it needs more room

	mark    map[digest.Digest]time.Time // to be set
	unmark  map[digest.Digest]bool      // to be taken off
	claimed []digest.Digest             // what goes because it's marked

	accepted []*update

	mu      sync.Mutex
	written []digest.Digest // manifests whose files weren't there before
}

// event is a layout.Event and who caused it.
type event struct {
	layout.Event
	by string
}

// Update implements storage.Repository. Whoever gets the lock first carries
// out what all that wait for it want, with one sync for all.
func (r *Repository) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	repo, err := r.use()
	if err != nil {
		return err
	}
	defer repo.done()
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &update{fn: fn}
	repo.queueMu.Lock()
	repo.queue = append(repo.queue, u)
	repo.queueMu.Unlock()

	repo.commitMu.Lock()
	defer repo.commitMu.Unlock()
	if !u.done {
		repo.queueMu.Lock()
		waiting := repo.queue
		repo.queue = nil
		repo.queueMu.Unlock()
		repo.commit(context.WithoutCancel(ctx), waiting)
	}
	return u.err
}

// commit carries out the updates and tells each how it went.
func (r *repo) commit(ctx context.Context, updates []*update) {
	defer func() {
		for _, u := range updates {
			if !u.done { // an fn has panicked: nobody may take that for success
				u.done, u.err = true, errPanicked
			}
		}
	}()
	err := r.tryCommit(ctx, updates)
	if errors.Is(err, storage.ErrFull) && len(updates) > 1 {
		// One that only removes must not fail for the company it's in.
		for _, u := range updates {
			if u.err == nil {
				u.err = r.tryCommit(ctx, []*update{u})
			}
		}
		err = nil
	}
	for _, u := range updates {
		u.done = true
		if err != nil && u.err == nil {
			u.err = err
		}
	}
}

// errPanicked is what happened to a batch by the fault of one that was in it.
var errPanicked = errors.New("another update of the same batch has panicked")

// tryCommit sets the err of each update that fails by itself; what it returns
// concerns all the others.
func (r *repo) tryCommit(ctx context.Context, updates []*update) error {
	if err := r.store.lock.check(); err != nil {
		return err
	}
	st, err := r.refresh()
	if err != nil {
		return err
	}
	if st.broken != nil {
		return st.broken
	}
	if st.index == nil {
		st = &state{index: layout.New(), stamp: st.stamp}
	}
	if st, err = r.completeLocked(ctx, st); err != nil {
		return err
	}
	b := newBatch(st.index)
	defer r.marks.release(b)
	for _, u := range updates {
		u.err = r.try(b, u)
	}
	if len(b.accepted) == 0 {
		return nil
	}
	err = r.store.space.note(r.persist(st, b))
	if errors.Is(err, storage.ErrFull) && b.removes && r.store.space.release() {
		err = r.store.space.note(r.persist(st, b))
	}
	if err != nil {
		// How far it got isn't known: read what the files say before going on.
		r.state.Store(nil)
		r.closeLog()
		return fmt.Errorf("change %s: %w", r.name, err)
	}
	r.setMarks(b)
	return nil
}

func newBatch(idx *layout.Index) *batch {
	return &batch{
		index: idx, drop: make(map[digest.Digest]bool), removes: true,
		mark: make(map[digest.Digest]time.Time), unmark: make(map[digest.Digest]bool),
	}
}

// try runs one update on what those before it in the batch made of the index.
func (r *repo) try(b *batch, u *update) error {
	e := storage.NewEdit(b.index)
	if err := u.fn(e); err != nil {
		return err
	}
	if err := r.checkRequired(b, e); err != nil {
		return err
	}
	for _, d := range e.Required() {
		b.relies(d)
	}
	for _, c := range e.Changes() {
		if happens, err := r.happens(b, c); err != nil {
			return err
		} else if !happens {
			continue
		}
		b.add(c)
		next, events := b.index.Apply([]storage.Change{c})
		b.index = next
		for _, ev := range events {
			b.events = append(b.events, event{ev, e.By})
		}
	}
	b.require = append(b.require, e.Required()...)
	b.accepted = append(b.accepted, u)
	return nil
}

// happens notes what a change does to marks, and reports whether it does more.
func (r *repo) happens(b *batch, c storage.Change) (bool, error) {
	switch c.Kind {
	case storage.MarkChange:
		return false, r.addMark(b, c.Digest, c.At)
	case storage.UnmarkChange:
		b.relies(c.Digest)
		return false, nil
	case storage.PutChange, storage.TagChange:
		b.relies(c.Digest)
	case storage.DeleteChange, storage.DropBlobChange:
		if !c.At.IsZero() {
			if goes, err := r.claim(b, c.Digest, c.At); err != nil || !goes {
				return false, err
			}
		}
		if c.Kind == storage.DropBlobChange {
			b.unmark[c.Digest] = true // if it comes again, it's unmarked
		}
	case storage.UntagChange:
	}
	return true, nil
}

// relies takes a mark off, also one that the batch has set before.
func (b *batch) relies(d digest.Digest) {
	delete(b.mark, d)
	b.unmark[d] = true
}

// addMark sets a mark on what is there and has none.
func (r *repo) addMark(b *batch, d digest.Digest, at time.Time) error {
	if _, err := r.stat(d); err != nil {
		return unless(errors.Is(err, oci.BlobUnknown), err)
	}
	_, marked, err := r.markedSince(d)
	if err != nil || marked && !b.unmark[d] {
		return err
	}
	if _, marked := b.mark[d]; !marked {
		b.mark[d] = at
		b.removes = false
	}
	return nil
}

// add notes what has to be done for a change, which may be nothing, of the index
// as those before it have left it.
func (b *batch) add(c storage.Change) {
	switch c.Kind {
	case storage.PutChange:
		b.put(c)
	case storage.DropBlobChange:
		b.drop[c.Digest] = true
		b.changes = append(b.changes, c)
	case storage.TagChange:
		if now, err := b.index.Resolve(oci.TagRef(c.Tag)); err == nil && now.Digest == c.Digest {
			return
		}
		if now, err := b.index.Resolve(oci.DigestRef(c.Digest)); err == nil && !b.index.Listed(c.Digest) {
			b.changes = append(b.changes, storage.Change{
				Kind: storage.PutChange, Digest: c.Digest, Manifest: oci.Manifest{Descriptor: now},
			})
		}
		b.removes = false
		b.changes = append(b.changes, c)
	case storage.DeleteChange:
		for range b.index.Parents(c.Digest) {
			b.drop[c.Digest] = true // else who reads its parent again finds it again
			break
		}
		b.changes = append(b.changes, c)
	case storage.UntagChange:
		b.changes = append(b.changes, c)
	case storage.MarkChange, storage.UnmarkChange:
	}
}

// put writes the manifest even if it's listed: its bytes may have been lost.
func (b *batch) put(c storage.Change) {
	delete(b.drop, c.Digest)
	b.manifests = append(b.manifests, c.Manifest)
	b.removes = false
	if !b.index.Listed(c.Digest) {
		b.changes = append(b.changes, c)
	}
}

// checkRequired makes sure that everything the edit requires is there, now that
// nothing can be dropped.
func (r *repo) checkRequired(b *batch, e *storage.Edit) error {
	own := make(map[digest.Digest]bool)
	for _, c := range e.Changes() {
		switch c.Kind {
		case storage.PutChange:
			own[c.Digest] = true
		case storage.TagChange:
			if _, err := b.index.Resolve(oci.DigestRef(c.Digest)); err != nil && !own[c.Digest] {
				return oci.Errorf(oci.ManifestUnknown, "tag %s: %s", c.Tag, c.Digest)
			}
		case storage.DropBlobChange:
			if _, err := r.stat(c.Digest); err != nil && c.At.IsZero() {
				return err
			}
		case storage.UntagChange, storage.DeleteChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	var missing []digest.Digest
	for _, d := range e.Required() {
		if own[d] {
			continue
		}
		_, err := r.stat(d)
		if errors.Is(err, oci.BlobUnknown) || b.drop[d] {
			missing = append(missing, d)
		} else if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return storage.MissingError(missing...)
	}
	return nil
}

// timeNow is when history says that something happened.
func timeNow() time.Time { return time.Now().UTC() }
