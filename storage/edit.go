package storage

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// An Edit is an Index in the making: what was, and the changes recorded so far.
// Its Index is what was; changes made earlier in the same Edit don't show in it.
// An Edit belongs to one call of Update's fn and is used by one goroutine.
type Edit struct {
	Index

	// By is who changes the repository; it goes to the history. Default: empty, anonymous.
	By string

	changes []Change
	require []digest.Digest
}

// NewEdit returns an Edit of base without changes. Backends call it.
func NewEdit(base Index) *Edit { return &Edit{Index: base} }

// ChangeKind says what a Change does.
type ChangeKind uint8

// The kinds of Change.
const (
	PutChange      ChangeKind = iota // Manifest exists
	TagChange                        // Tag names Digest
	UntagChange                      // Tag names nothing
	DeleteChange                     // Digest isn't a manifest any more, and no tag names it
	DropBlobChange                   // Digest isn't a blob any more
	MarkChange                       // Digest is marked since At, unless it has an older mark
	UnmarkChange                     // Digest has no mark
)

// Change is one change of an Edit. Which fields count depends on Kind.
type Change struct {
	Kind     ChangeKind
	Manifest oci.Manifest
	Tag      oci.Tag
	Digest   digest.Digest

	// At is when a mark was set. On a DeleteChange or DropBlobChange, unless it's
	// zero, it makes the change one of what has had a mark since then or longer:
	// if Digest has none, or a younger one, nothing happens to it.
	At time.Time
}

// Put makes m a manifest of the repository. The backend stores m.Raw in the
// same transaction, so it need not be a blob before. Putting one that exists
// changes nothing.
func (e *Edit) Put(m oci.Manifest) {
	e.changes = append(e.changes, Change{Kind: PutChange, Manifest: m, Digest: m.Digest})
}

// Tag makes t name d, which exists or was Put in this Edit. What t named before
// stays, found by digest.
func (e *Edit) Tag(t oci.Tag, d digest.Digest) {
	e.changes = append(e.changes, Change{Kind: TagChange, Tag: t.Clone(), Digest: d})
}

// Untag removes the tag t. What it named stays, found by digest.
func (e *Edit) Untag(t oci.Tag) {
	e.changes = append(e.changes, Change{Kind: UntagChange, Tag: t})
}

// Delete removes the manifest d and every tag that names it. Its bytes may stay
// until garbage is collected, but d isn't found any more, not even through an
// index that lists it.
func (e *Edit) Delete(d digest.Digest) {
	e.changes = append(e.changes, Change{Kind: DeleteChange, Digest: d})
}

// DropBlob removes the blob d from this repository, and no other one.
func (e *Edit) DropBlob(d digest.Digest) {
	e.changes = append(e.changes, Change{Kind: DropBlobChange, Digest: d})
}

// Mark notes that nothing needs the blob or manifest d, since the time at. A mark
// that's on it already stays. See Collectable.
func (e *Edit) Mark(d digest.Digest, at time.Time) {
	e.changes = append(e.changes, Change{Kind: MarkChange, Digest: d, At: at})
}

// Unmark takes the mark off d, if there's one.
func (e *Edit) Unmark(d digest.Digest) {
	e.changes = append(e.changes, Change{Kind: UnmarkChange, Digest: d})
}

// DeleteMarked is Delete of a manifest that has had a mark since the time by or
// longer. If somebody has taken the mark off, nothing happens.
func (e *Edit) DeleteMarked(d digest.Digest, by time.Time) {
	e.changes = append(e.changes, Change{Kind: DeleteChange, Digest: d, At: by})
}

// DropMarkedBlob is DropBlob of what has had a mark since the time by or longer.
// If somebody has taken the mark off, or the blob is gone, nothing happens.
func (e *Edit) DropMarkedBlob(d digest.Digest, by time.Time) {
	e.changes = append(e.changes, Change{Kind: DropBlobChange, Digest: d, At: by})
}

// Require makes the Update fail unless each of the digests is a blob or a
// manifest of the repository at the moment of the change. A check before
// Update is worth nothing beside a garbage collector.
func (e *Edit) Require(digests ...digest.Digest) { e.require = append(e.require, digests...) }

// Marks reports whether the Edit sets marks or goes by them: a Store whose
// repositories aren't Collectable refuses it, with errors.ErrUnsupported.
func (e *Edit) Marks() bool {
	return slices.ContainsFunc(e.changes, func(c Change) bool { return !c.At.IsZero() })
}

// Changes returns what was recorded, in order. Backends call it; wrappers may
// look at it once fn has returned.
func (e *Edit) Changes() []Change { return slices.Clip(e.changes) }

// Required returns what Require was given. A backend leaves out what the Edit puts itself.
func (e *Edit) Required() []digest.Digest { return slices.Clip(e.require) }

// Added is how many bytes of manifests the Edit puts that weren't there: what
// a quota counts beside uploads.
func (e *Edit) Added() (bytes int64) {
	for _, c := range e.changes {
		if c.Kind != PutChange {
			continue
		}
		if _, err := e.Resolve(oci.DigestRef(c.Digest)); err != nil {
			bytes += c.Manifest.Size
		}
	}
	return bytes
}
