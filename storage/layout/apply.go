package layout

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/btree"
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
			a.tag(c.Tag, c.Digest)
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
	head      map[string]json.RawMessage
	manifests btree.Edit[sum, manifest]
	tags      btree.Edit[name, tagged]
	hidden    btree.Edit[sum, manifest]
	referrers btree.Edit[pair, storage.Referrer]
	parents   btree.Edit[pair, struct{}]
	unread    btree.Edit[sum, desc]
	events    []Event
}

func begin(i *Index) *applier {
	return &applier{
		manifests: i.manifests.Edit(), tags: i.tags.Edit(), hidden: i.hidden.Edit(),
		referrers: i.referrers.Edit(), parents: i.parents.Edit(), unread: i.unread.Edit(),
		head: i.head,
	}
}

func (a *applier) commit() *Index {
	return &Index{
		manifests: a.manifests.Tree(), tags: a.tags.Tree(), hidden: a.hidden.Tree(),
		referrers: a.referrers.Tree(), parents: a.parents.Tree(), unread: a.unread.Tree(),
		head: a.head,
	}
}

func (a *applier) put(m oci.Manifest) {
	s := sumOf(m.Digest)
	if old, ok := a.manifests.Get(s); ok && old.read {
		return
	} else if !ok {
		a.events = append(a.events, Event{Now: m.Digest})
	}
	a.hidden.Delete(s)
	says := statementOf(m)
	a.list(s, descOf(m.Descriptor), says)
	// What a new index lists and the repository doesn't is missing, not unread:
	// a manifest becomes one when it's put, not because its bytes are a blob.
	for _, c := range says.children {
		if _, ok := a.find(c.sum); !ok {
			a.unread.Delete(c.sum)
		}
	}
}

// list makes s a manifest of index.json that was read.
func (a *applier) list(s sum, d desc, says statement) {
	m, ok := a.manifests.Get(s)
	if !ok {
		m = manifest{desc: d}
	}
	a.read(s, &m, says)
	a.manifests.Set(s, m)
}

// read notes what m says of others.
func (a *applier) read(s sum, m *manifest, says statement) {
	m.read = true
	m.setRest(more{m.rest().raw, says.subject, says.children})
	a.unread.Delete(s)
	if says.subject != "" {
		a.referrers.Set(pair{sumOf(says.subject), s}, says.referrer)
	}
	for _, c := range says.children {
		a.parents.Set(pair{c.sum, s}, struct{}{})
	}
}

func (a *applier) find(s sum) (manifest, bool) {
	if m, ok := a.manifests.Get(s); ok {
		return m, true
	}
	return a.hidden.Get(s)
}

// tag sets a tag.
func (a *applier) tag(t oci.Tag, d digest.Digest) {
	s := sumOf(d)
	old, was := a.tags.Get(name(t.String()))
	if was && old.sum == s {
		return
	}
	a.unhide(s)
	if _, ok := a.manifests.Get(s); !ok {
		return // Edit.Tag wants one that exists
	}
	e := Event{Tag: t, Now: d}
	if was {
		e.Was = old.sum.digest()
	}
	a.name(name(t.String()), tagged{sum: s})
	a.events = append(a.events, e)
}

// unhide lists a manifest that only an image index listed, as it gets a name of its own.
func (a *applier) unhide(s sum) {
	if m, ok := a.hidden.Delete(s); ok {
		a.manifests.Set(s, m)
	}
}

// name sets a name, whatever it looks like: other tools write names that aren't tags.
func (a *applier) name(n name, t tagged) {
	if old, ok := a.tags.Set(n, t); ok {
		a.count(old.sum, -1)
	}
	a.count(t.sum, +1)
}

// count changes how many names a manifest has.
func (a *applier) count(s sum, by int32) {
	if m, ok := a.manifests.Get(s); ok {
		m.tags += by
		a.manifests.Set(s, m)
	}
}

func (a *applier) untag(t oci.Tag) {
	old, ok := a.tags.Delete(name(t.String()))
	if !ok {
		return
	}
	a.count(old.sum, -1)
	a.events = append(a.events, Event{Tag: t, Was: old.sum.digest()})
}

func (a *applier) delete(d digest.Digest) {
	s := sumOf(d)
	m, ok := a.find(s)
	if !ok {
		return
	}
	if m.tags > 0 {
		a.untagAll(s, d)
	}
	a.manifests.Delete(s)
	a.hidden.Delete(s)
	a.unread.Delete(s)
	a.events = append(a.events, Event{Was: d})
	a.forget(s, m)
}

// untagAll walks the names, since deleting by digest is rare and a reverse map
// would be paid for by every tag.
func (a *applier) untagAll(s sum, d digest.Digest) {
	var names []name
	for n, t := range a.tags.From("") {
		if t.sum == s {
			names = append(names, n)
		}
	}
	for _, n := range names {
		a.tags.Delete(n)
		if t, err := oci.ParseTag(string(n)); err == nil {
			a.events = append(a.events, Event{Tag: t, Was: d})
		}
	}
}

// forget undoes read, and removes the children that nothing else lists.
func (a *applier) forget(s sum, m manifest) {
	rest := m.rest()
	if rest.subject != "" {
		a.referrers.Delete(pair{sumOf(rest.subject), s})
	}
	for _, c := range rest.children {
		a.parents.Delete(pair{c.sum, s})
		if a.hasParent(c.sum) {
			continue
		}
		a.unread.Delete(c.sum)
		if child, ok := a.hidden.Delete(c.sum); ok {
			a.forget(c.sum, child)
		}
	}
}

func (a *applier) hasParent(s sum) bool {
	for p := range a.parents.From(pair{s, lowest}) {
		return p.a == s
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
			a.tag(c.Tag, c.Digest)
		case storage.UntagChange:
			a.untag(c.Tag)
		case storage.DeleteChange:
			a.delete(c.Digest)
		case storage.DropBlobChange, storage.MarkChange, storage.UnmarkChange:
		}
	}
	return a.commit()
}

func (a *applier) putUnread(d oci.Descriptor) {
	s, m := sumOf(d.Digest), manifest{desc: descOf(d)}
	if _, ok := a.manifests.Get(s); ok {
		return
	}
	a.hidden.Delete(s)
	a.manifests.Set(s, m)
	a.unread.Set(s, m.desc)
}
