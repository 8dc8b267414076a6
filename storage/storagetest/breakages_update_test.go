package storagetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

type updateHook = func(storage.Repository, context.Context, func(*storage.Edit) error) error

// replay is an Update that makes other changes than it was asked for.
func replay(change func(storage.Change) []storage.Change) updateHook {
	return rerecord(func(asked, to *storage.Edit) {
		to.Require(asked.Required()...)
		for _, c := range asked.Changes() {
			apply(to, change(c)...)
		}
	})
}

// rerecord is an Update that gives fn an edit, and the store below another one.
func rerecord(record func(asked, to *storage.Edit)) updateHook {
	return func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
		return r.Update(ctx, func(e *storage.Edit) error {
			asked := storage.NewEdit(e.Index)
			if err := fn(asked); err != nil {
				return err
			}
			record(asked, e)
			return nil
		})
	}
}

func apply(e *storage.Edit, changes ...storage.Change) {
	for _, c := range changes {
		switch c.Kind {
		case storage.PutChange:
			e.Put(c.Manifest)
		case storage.TagChange:
			e.Tag(c.Tag, c.Digest)
		case storage.UntagChange:
			e.Untag(c.Tag)
		case storage.DeleteChange:
			e.Delete(c.Digest)
		case storage.DropBlobChange:
			e.DropBlob(c.Digest)
		case storage.MarkChange:
			e.Mark(c.Digest, c.At)
		case storage.UnmarkChange:
			e.Unmark(c.Digest)
		}
	}
}

// meeting is where those that come to a broken store together are made to meet.
type meeting struct {
	mu    sync.Mutex
	alone int           // how many come first that nobody follows
	other chan struct{} // the one who waits, if there's one
}

// pair waits for the next one to come, each second time.
func (m *meeting) pair(ctx context.Context) {
	m.mu.Lock()
	waiting := m.other
	m.other = nil
	switch {
	case m.alone > 0:
		m.alone--
	case waiting != nil:
		close(waiting)
	default:
		waiting = make(chan struct{})
		m.other = waiting
		m.mu.Unlock()
		select {
		case <-waiting:
		case <-ctx.Done():
		}
		return
	}
	m.mu.Unlock()
}

// occupied is what one may enter at a time; who comes then is refused. The
// first one stays until another one was.
type occupied struct {
	inside  sync.Mutex
	stay    sync.Once
	leave   sync.Once
	refused chan struct{}
}

func newOccupied() *occupied { return &occupied{refused: make(chan struct{})} }

func (o *occupied) enter(ctx context.Context) (leave func(), ok bool) {
	if !o.inside.TryLock() {
		o.leave.Do(func() { close(o.refused) })
		return nil, false
	}
	o.stay.Do(func() {
		select {
		case <-o.refused:
		case <-ctx.Done():
		}
	})
	return o.inside.Unlock, true
}

// stale is an Update that looks before it has the repository for itself. The
// first few of them come alone.
func stale(alone int) func(*mutant) {
	return func(m *mutant) {
		meet := meeting{alone: alone}
		m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
			asked := storage.NewEdit(nobody{})
			if idx, err := r.Index(ctx); err == nil {
				asked = storage.NewEdit(idx)
			}
			if err := fn(asked); err != nil {
				return err
			}
			meet.pair(ctx)
			return r.Update(ctx, func(e *storage.Edit) error {
				e.Require(asked.Required()...)
				apply(e, asked.Changes()...)
				return nil
			})
		}
	}
}

// seesBroken breaks the index that fn sees.
func seesBroken(change func(*mutantIndex)) func(*mutant) {
	return func(m *mutant) {
		m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
			return r.Update(ctx, func(e *storage.Edit) error {
				idx := &mutantIndex{Index: e.Index}
				change(idx)
				e.Index = idx
				return fn(e)
			})
		}
	}
}

// nobody is an index of nothing.
type nobody struct{ storage.Index }

func (nobody) Resolve(ref oci.Reference) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s", ref)
}

func updateBreakages() map[string]breakage {
	return map[string]breakage{
		"fn sees an empty index": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				return r.Update(ctx, func(e *storage.Edit) error {
					e.Index = nobody{e.Index}
					return fn(e)
				})
			}
		}, []string{
			"Update: it calls fn with the current index", "Edit: its index is what was",
			"PutManifest: NoOverwrite refuses to move a tag", "PutManifest: If-None-Match with a star refuses anything",
			"PutManifest: If-None-Match refuses what is named now", "PutManifest: If-None-Match without tags is about the manifest itself",
			"PutManifest: If-Match wants what is named now", "PutManifest: If-Match with a star wants anything",
			"PutManifest: If-Match without tags is about the manifest itself",
			"PutManifest: conditions are for all tags or none is set", "DeleteManifest: it removes a tag and keeps the manifest",
		}},
		"fn sees other digests": {seesBroken(func(i *mutantIndex) {
			i.resolve = func(ref oci.Reference) (oci.Descriptor, error) {
				desc, err := i.Index.Resolve(ref)
				desc.Digest = digest.FromString(desc.Digest.String())
				return desc, err
			}
		}), []string{"PutManifest: NoOverwrite lets a tag stay where it is", "PutManifest: If-Match wants what is named now"}},
		"fn sees manifests that aren't there": {seesBroken(func(i *mutantIndex) {
			i.resolve = func(ref oci.Reference) (oci.Descriptor, error) {
				desc, err := i.Index.Resolve(ref)
				if err != nil {
					return pretend(digest.FromString(ref.String()))
				}
				return desc, nil
			}
		}), []string{"DeleteManifest: what isn't there is ManifestUnknown", "PutManifest: If-Match with a star wants anything"}},
		"Update wants a change": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				return r.Update(ctx, func(e *storage.Edit) error {
					if err := fn(e); err != nil || len(e.Changes()) > 0 {
						return err
					}
					return errDead
				})
			}
		}, []string{"Update: an update without changes changes nothing"}},
		"everything that is named is required": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) {
				for _, c := range asked.Changes() {
					for _, named := range slices.Concat(c.Manifest.Blobs, c.Manifest.Manifests) {
						to.Require(named.Digest)
					}
					if c.Manifest.Subject != "" {
						to.Require(c.Manifest.Subject)
					}
				}
				apply(to, asked.Changes()...)
			})
		}, []string{
			"PutManifest: SparseAll lets everything be missing", "PutManifest: subjects and nondistributable layers may always be missing",
			"PutManifest: by default the children of an image index may be missing",
		}},
		"Update keeps what a failing fn did": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				var failed error
				return errors.Join(r.Update(ctx, func(e *storage.Edit) error { failed = fn(e); return nil }), failed)
			}
		}, []string{"Update: if fn fails it changes nothing", "Store: a session or a failed write makes no repository"}},
		"Update says less than fn": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				if r.Update(ctx, fn) != nil {
					return errDead
				}
				return nil
			}
		}, []string{"Update: if fn fails it returns fn's error", "Update: it names each missing digest in Detail", "PutManifest: something missing is ManifestBlobUnknown"}},
		"Update is interrupted": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				return r.Update(ctx, func(e *storage.Edit) error { return errors.Join(fn(e), ctx.Err()) })
			}
		}, []string{"Update: once under way it isn't interrupted by its context"}},
		"Update stores one change": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) {
				to.Require(asked.Required()...)
				apply(to, asked.Changes()[:min(1, len(asked.Changes()))]...)
			})
		}, []string{"Update: it stores the changes that fn makes, all of them", "PutManifest: it stores a manifest and makes the tags name it"}},
		"Require is ignored": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) { apply(to, asked.Changes()...) })
		}, []string{
			"Update: if something required is missing it changes nothing", "Update: it requires at the moment of the change",
			"Edit: Require isn't content with what another repository has", "PutManifest: something missing is ManifestBlobUnknown",
			"PutManifest: SparseNone lets nothing be missing", "PutManifest: SparseIndexes lets the children of an image index be",
			"PutManifest: by default the children of an image index may be missing",
			"PutManifest: blobs that an image index lists aren't its children",
			"Update: a manifest that requires a blob never comes without it",
		}},
		"what is missing is found too late": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				var required []digest.Digest
				err := rerecord(func(asked, to *storage.Edit) {
					required = asked.Required()
					apply(to, asked.Changes()...)
				})(r, ctx, fn)
				if err != nil {
					return err
				}
				return r.Update(ctx, func(e *storage.Edit) error { e.Require(required...); return nil })
			}
		}, []string{"Update: if something required is missing it changes nothing", "PutManifest: something missing is ManifestBlobUnknown"}},
		"one missing digest is named": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				err := r.Update(ctx, fn)
				var oe *oci.Error
				if errors.As(err, &oe) && oe.Code == oci.ManifestBlobUnknown {
					err = storage.MissingError(digest.FromString("1"))
				}
				return err
			}
		}, []string{"Update: it names each missing digest in Detail", "Edit: Require isn't content with what another repository has"}},
		"Require wants what the edit puts itself": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				return r.Update(ctx, func(e *storage.Edit) error {
					if err := fn(e); err != nil {
						return err
					}
					for _, d := range e.Required() {
						if _, err := r.StatBlob(ctx, d); err != nil {
							return storage.MissingError(d)
						}
					}
					return nil
				})
			}
		}, []string{"Edit: Require leaves out what the edit puts itself"}},
		"Require knows only manifests": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				return r.Update(ctx, func(e *storage.Edit) error {
					if err := fn(e); err != nil {
						return err
					}
					for _, d := range e.Required() {
						if _, err := e.Resolve(oci.DigestRef(d)); err != nil {
							return storage.MissingError(d)
						}
					}
					return nil
				})
			}
		}, []string{"Edit: Require is content with blobs and manifests"}},
		"updates get lost": {func(m *mutant) {
			var n atomic.Int64
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				if n.Add(1)%7 == 0 {
					return nil
				}
				return r.Update(ctx, fn)
			}
		}, []string{
			"Update: concurrent updates are all applied", "Update: updates of several repositories don't mix",
			"Update: what it changed is seen by whoever asks after it has returned",
		}},
	}
}

// onKind changes the changes of one kind.
func onKind(kind storage.ChangeKind, change func(storage.Change) []storage.Change) func(*mutant) {
	return func(m *mutant) {
		m.update = replay(func(c storage.Change) []storage.Change {
			if c.Kind == kind {
				return change(c)
			}
			return []storage.Change{c}
		})
	}
}

func nothing(storage.Change) []storage.Change { return nil }

func editBreakages() map[string]breakage {
	return map[string]breakage{
		"Put is ignored": {onKind(storage.PutChange, nothing), []string{
			"Edit: Put makes a manifest that need not be a blob before", "Edit: Put makes a manifest of any media type",
			"Edit: Put makes a manifest of any digest algorithm", "Edit: what was deleted can be put again",
			"Reader: children of an image index that aren't there",
		}},
		"Put takes the manifest afresh": {onKind(storage.PutChange, func(c storage.Change) []storage.Change {
			return []storage.Change{{Kind: storage.DeleteChange, Digest: c.Digest}, c}
		}), []string{"Edit: Put of one that exists changes nothing"}},
		"Tag is ignored": {onKind(storage.TagChange, nothing), []string{"Edit: Tag makes a tag name a manifest", "Store: writing creates the repository"}},
		"Untag is ignored": {onKind(storage.UntagChange, nothing), []string{
			"Edit: Untag removes the tag and keeps the manifest", "DeleteManifest: it removes a tag and keeps the manifest",
		}},
		"a tag takes its manifest along": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) {
				to.Require(asked.Required()...)
				for _, c := range asked.Changes() {
					was, err := to.Resolve(oci.TagRef(c.Tag))
					if !c.Tag.IsZero() && err == nil && was.Digest != c.Digest {
						to.Delete(was.Digest)
					}
					apply(to, c)
				}
			})
		}, []string{
			"Edit: what a tag named before stays, found by digest", "Edit: Untag removes the tag and keeps the manifest",
			"DeleteManifest: it removes a tag and keeps the manifest",
		}},
		"Delete is ignored": {onKind(storage.DeleteChange, nothing), []string{
			"Edit: Delete removes the manifest and every tag that names it", "Edit: Delete hides a child that an image index still lists",
			"Edit: what was deleted can be put again", "DeleteManifest: it removes a manifest and its tags",
			"DeleteBlob: one that only a deleted manifest names may go", "Referrers: a referrer that is deleted isn't listed",
		}},
		"Delete takes the children along": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) {
				to.Require(asked.Required()...)
				apply(to, asked.Changes()...)
				for _, c := range asked.Changes() {
					for child := range to.Manifests() {
						if c.Kind == storage.DeleteChange && slices.Contains(slices.Collect(to.Parents(child.Digest)), c.Digest) {
							to.Delete(child.Digest)
						}
					}
				}
			})
		}, []string{"Edit: Delete of an image index keeps its children"}},
		"DropBlob is ignored": {onKind(storage.DropBlobChange, nothing), []string{
			"Edit: DropBlob removes the blob from this repository", "DeleteBlob: it removes a blob",
			"GetManifest: a manifest whose bytes are gone is ManifestUnknown", "DeleteBlob: pushes go on while it reads",
		}},
		"DropBlob drops everywhere": {func(m *mutant) {
			m.update = func(r storage.Repository, ctx context.Context, fn func(*storage.Edit) error) error {
				var dropped []digest.Digest
				err := rerecord(func(asked, to *storage.Edit) {
					to.Require(asked.Required()...)
					apply(to, asked.Changes()...)
					for _, c := range asked.Changes() {
						if c.Kind == storage.DropBlobChange {
							dropped = append(dropped, c.Digest)
						}
					}
				})(r, ctx, fn)
				for n, failed := range m.Store.Repositories(ctx, oci.Name{}) {
					err = errors.Join(err, failed)
					for _, d := range dropped {
						err = errors.Join(err, m.Store.Repository(n).Update(ctx, func(e *storage.Edit) error { e.DropBlob(d); return nil }))
					}
				}
				return err
			}
		}, []string{
			"Edit: DropBlob removes the blob from no other repository", "Repository: a mounted blob stays when the other repository drops it",
			"DeleteBlob: another repository's manifests don't keep a blob",
		}},
		"changes happen in any order": {func(m *mutant) {
			m.update = rerecord(func(asked, to *storage.Edit) {
				to.Require(asked.Required()...)
				changes := slices.Clone(asked.Changes())
				slices.SortStableFunc(changes, func(a, b storage.Change) int { return int(a.Kind) - int(b.Kind) })
				apply(to, changes...)
			})
		}, []string{"Edit: changes happen in the order in which they were made"}},
		"nothing is needed": {seesBroken(func(i *mutantIndex) {
			i.parents = func(digest.Digest) iter.Seq[digest.Digest] { return func(func(digest.Digest) bool) {} }
			i.manifests = func() iter.Seq[oci.Descriptor] { return func(func(oci.Descriptor) bool) {} }
		}), []string{
			"DeleteManifest: a manifest that an image index lists is Denied",
			"DeleteManifest: a manifest may go once the image index that lists it has",
			"DeleteBlob: one that a manifest names is Denied", "DeleteBlob: one that is a manifest is Denied",
			"DeleteBlob: one that an image index lists is Denied",
		}},
	}
}
