package layout

import (
	"github.com/hashicorp/go-immutable-radix/v2"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Event is what a change did to one name, for a repository's history.
type Event struct {
	Tag oci.Tag       // zero if the manifest itself was put or deleted
	Was digest.Digest // what Tag named, or the manifest that is gone; empty if none
	Now digest.Digest // what Tag names, or the manifest that is new; empty if none
}

// Apply returns the index after the changes, and what they did to names that
// weren't so before. Dropped blobs aren't names; it passes over them. The
// receiver stays as it was.
func (i *Index) Apply(changes []storage.Change) (*Index, []Event) {
	a := begin(i)
	for _, c := range changes {
		switch c.Kind {
		case storage.PutChange:
			a.put(c.Manifest)
		case storage.TagChange:
			a.tag(c.Tag.String(), c.Tag, c.Digest)
		case storage.UntagChange:
			a.untag(c.Tag)
		case storage.DeleteChange:
			a.delete(c.Digest)
		case storage.DropBlobChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	return a.commit(), a.events
}

// applier is an Index being changed.
type applier struct {
	from      *Index
	manifests *iradix.Txn[*manifest]
	tags      *iradix.Txn[*tagged]
	hidden    *iradix.Txn[*manifest]
	referrers *iradix.Txn[storage.Referrer]
	parents   *iradix.Txn[struct{}]
	unread    *iradix.Txn[oci.Descriptor]
	events    []Event
}

func begin(i *Index) *applier {
	return &applier{
		from: i, manifests: i.manifests.Txn(), tags: i.tags.Txn(), hidden: i.hidden.Txn(),
		referrers: i.referrers.Txn(), parents: i.parents.Txn(), unread: i.unread.Txn(),
	}
}

func (a *applier) commit() *Index {
	return &Index{
		manifests: a.manifests.Commit(), tags: a.tags.Commit(), hidden: a.hidden.Commit(),
		referrers: a.referrers.Commit(), parents: a.parents.Commit(), unread: a.unread.Commit(),
		head: a.from.head,
	}
}

func (a *applier) put(m oci.Manifest) {
	if old, ok := a.manifests.Get([]byte(m.Digest)); ok && old.read {
		return
	} else if !ok {
		a.events = append(a.events, Event{Now: m.Digest})
	}
	a.hidden.Delete([]byte(m.Digest))
	a.list(m.Descriptor, statementOf(m))
	// What a new index lists and the repository doesn't is missing, not unread:
	// a manifest becomes one when it's put, not because its bytes are a blob.
	for _, c := range m.Manifests {
		if a.find(c.Digest) == nil {
			a.unread.Delete([]byte(c.Digest))
		}
	}
}

// list makes desc a manifest of index.json that was read.
func (a *applier) list(desc oci.Descriptor, says statement) {
	next := &manifest{desc: listed(desc)}
	if old, ok := a.manifests.Get([]byte(desc.Digest)); ok {
		next.desc, next.raw, next.tags = old.desc, old.raw, old.tags
	}
	if next.raw == nil {
		next.raw = encodeDescriptor(next.desc, "")
	}
	a.read(next, says)
	a.manifests.Insert([]byte(desc.Digest), next)
}

// listed is a descriptor as index.json has it: annotations and artifact type
// belong to the manifest, and a list of referrers reads them there.
func listed(d oci.Descriptor) oci.Descriptor {
	return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// read notes what m says of others.
func (a *applier) read(m *manifest, says statement) {
	d := m.desc.Digest
	m.read, m.subject, m.children = true, says.subject, says.children
	a.unread.Delete([]byte(d))
	if says.subject != "" {
		a.referrers.Insert(pair(says.subject, d), says.referrer)
	}
	for _, c := range says.children {
		a.parents.Insert(pair(c.digest, d), struct{}{})
	}
}

func (a *applier) find(d digest.Digest) *manifest {
	if m, ok := a.manifests.Get([]byte(d)); ok {
		return m
	}
	m, _ := a.hidden.Get([]byte(d))
	return m
}

// tag sets a name, whatever it looks like: other tools write names that aren't tags.
func (a *applier) tag(name string, t oci.Tag, d digest.Digest) {
	old, was := a.tags.Get([]byte(name))
	if was && old.digest == d {
		return
	}
	a.unhide(d)
	next, ok := a.manifests.Get([]byte(d))
	if !ok {
		return // Edit.Tag wants one that exists
	}
	e := Event{Tag: t, Now: d}
	if was {
		e.Was = old.digest
		a.count(old.digest, -1)
	}
	a.count(d, +1)
	a.tags.Insert([]byte(name), &tagged{tag: t, digest: d, raw: encodeDescriptor(next.desc, name)})
	a.events = append(a.events, e)
}

// unhide lists a manifest that only an image index listed, as it gets a name of its own.
func (a *applier) unhide(d digest.Digest) {
	if m, ok := a.hidden.Get([]byte(d)); ok {
		a.hidden.Delete([]byte(d))
		own := *m
		own.desc = listed(m.desc)
		own.raw = encodeDescriptor(own.desc, "")
		a.manifests.Insert([]byte(d), &own)
	}
}

// count changes how many names a manifest has.
func (a *applier) count(d digest.Digest, by int) {
	if m, ok := a.manifests.Get([]byte(d)); ok {
		next := *m
		next.tags += by
		a.manifests.Insert([]byte(d), &next)
	}
}

func (a *applier) untag(t oci.Tag) {
	old, ok := a.tags.Delete([]byte(t.String()))
	if !ok {
		return
	}
	a.count(old.digest, -1)
	a.events = append(a.events, Event{Tag: t, Was: old.digest})
}

func (a *applier) delete(d digest.Digest) {
	m := a.find(d)
	if m == nil {
		return
	}
	a.untagAll(d, m.tags)
	a.manifests.Delete([]byte(d))
	a.hidden.Delete([]byte(d))
	a.unread.Delete([]byte(d))
	a.events = append(a.events, Event{Was: d})
	a.forget(d, m)
}

// untagAll walks the names, since deleting by digest is rare and a reverse map
// would be paid for by every tag.
func (a *applier) untagAll(d digest.Digest, n int) {
	if n == 0 {
		return
	}
	var names [][]byte
	for name, t := range from(a.tags.Root(), nil) {
		if t.digest == d {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if t, _ := a.tags.Delete(name); t.tag != (oci.Tag{}) {
			a.events = append(a.events, Event{Tag: t.tag, Was: d})
		}
	}
}

// forget undoes read, and removes the children that nothing else lists.
func (a *applier) forget(d digest.Digest, m *manifest) {
	if m.subject != "" {
		a.referrers.Delete(pair(m.subject, d))
	}
	for _, c := range m.children {
		a.parents.Delete(pair(c.digest, d))
		if a.hasParent(c.digest) {
			continue
		}
		a.unread.Delete([]byte(c.digest))
		if child, ok := a.hidden.Delete([]byte(c.digest)); ok {
			a.forget(c.digest, child)
		}
	}
}

func (a *applier) hasParent(d digest.Digest) bool {
	for range pairs(a.parents.Root(), d, "") {
		return true
	}
	return false
}

// Replay is Apply for changes that were recorded without the manifests' bytes:
// what it puts is unread.
func (i *Index) Replay(changes []storage.Change) *Index {
	a := begin(i)
	for _, c := range changes {
		switch c.Kind {
		case storage.PutChange:
			a.putUnread(c.Manifest.Descriptor)
		case storage.TagChange:
			a.tag(c.Tag.String(), c.Tag, c.Digest)
		case storage.UntagChange:
			a.untag(c.Tag)
		case storage.DeleteChange:
			a.delete(c.Digest)
		case storage.DropBlobChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	return a.commit()
}

func (a *applier) putUnread(desc oci.Descriptor) {
	if _, ok := a.manifests.Get([]byte(desc.Digest)); ok {
		return
	}
	a.hidden.Delete([]byte(desc.Digest))
	desc = listed(desc)
	a.manifests.Insert([]byte(desc.Digest), &manifest{desc: desc, raw: encodeDescriptor(desc, "")})
	a.unread.Insert([]byte(desc.Digest), desc)
}
