// Package layout is what index.json of an OCI image layout (image-spec v1.1.1,
// "OCI Image Layout") means as a storage.Index, in both directions. The
// backends share it.
package layout

import (
	"encoding/json"
	"iter"
	"unique"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/btree"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Index is an immutable storage.Index: Apply and Learn return another one, which
// shares what hasn't changed. A change costs the same at ten tags and at a
// hundred thousand.
//
// An index.json says little of the manifests it lists. What else a registry has
// to know (subjects, the children of image indexes) is in the manifests
// themselves: Unread yields the ones that Learn hasn't been told yet, and until
// there are none the Index is incomplete: Resolve misses manifests that only an
// image index lists, and Referrers and Parents those of unread manifests.
type Index struct {
	manifests btree.Tree[sum, manifest]          // what index.json lists
	tags      btree.Tree[name, tagged]           // what isn't a tag by our grammar is kept too
	hidden    btree.Tree[sum, manifest]          // what only image indexes list
	referrers btree.Tree[pair, storage.Referrer] // by subject and digest
	parents   btree.Tree[pair, struct{}]         // by child and parent; a child that's nowhere else isn't there
	unread    btree.Tree[sum, desc]
	head      map[string]json.RawMessage // of index.json, all but manifests
}

var _ storage.Index = (*Index)(nil)

// desc is a descriptor without its digest, and without annotations and artifact
// type: those belong to the manifest, and a list of referrers reads them there.
type desc struct {
	mediaType unique.Handle[string]
	size      int64
}

func descOf(d oci.Descriptor) desc { return desc{unique.Make(d.MediaType), d.Size} }

func (c desc) of(d digest.Digest) oci.Descriptor {
	return oci.Descriptor{MediaType: c.mediaType.Value(), Digest: d, Size: c.size}
}

// manifest is a manifest that exists. There are a hundred thousand of them, and
// the garbage collector looks at each: what most don't have is elsewhere.
type manifest struct {
	desc

	tags int32 // how many names it has
	read bool  // whether subject and children are known
	more *more // nil if there's nothing in it
}

// more is the rest of a manifest. It doesn't change.
type more struct {
	raw      json.RawMessage // its descriptor in index.json when it has no tag; nil if that is what appendDescriptor writes
	subject  digest.Digest
	children []child
}

func (m manifest) rest() more {
	if m.more == nil {
		return more{}
	}
	return *m.more
}

func (m *manifest) setRest(rest more) {
	m.more = nil
	if rest.raw != nil || rest.subject != "" || len(rest.children) > 0 {
		m.more = new(rest)
	}
}

// statement is what a manifest says of others.
type statement struct {
	subject  digest.Digest    // empty if it has none
	referrer storage.Referrer // zero if it has no subject
	children []child
}

func statementOf(m oci.Manifest) statement {
	s := statement{subject: m.Subject, children: childrenOf(m)}
	if m.Subject != "" {
		s.referrer = storage.Referrer{Digest: m.Digest, ArtifactType: m.ArtifactType, JSON: encodeDescriptor(m.Descriptor)}
	}
	return s
}

// child is what is kept of a descriptor in an image index. Anybody who may push
// can name a hundred thousand that don't exist.
type child struct {
	desc

	sum sum
}

func childrenOf(m oci.Manifest) []child {
	children := make([]child, len(m.Manifests))
	for i, c := range m.Manifests {
		children[i] = child{descOf(c), sumOf(c.Digest)}
	}
	return children
}

func (c child) descriptor() oci.Descriptor { return c.of(c.sum.digest()) }

// tagged is what a name names, and its descriptor in index.json, or nil if that
// is what appendDescriptor writes.
type tagged struct {
	sum sum
	raw *json.RawMessage
}

func taggedAs(s sum, raw json.RawMessage) tagged {
	if raw == nil {
		return tagged{sum: s}
	}
	return tagged{s, new(raw)}
}

// New returns the index of an empty repository.
func New() *Index {
	return &Index{head: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + oci.MediaTypeImageIndex + `"`),
	}}
}

// Resolve implements storage.Index.
func (i *Index) Resolve(ref oci.Reference) (oci.Descriptor, error) {
	if d, ok := ref.Digest(); ok {
		if m, ok := i.find(sumOf(d)); ok {
			return m.of(d), nil
		}
	} else if t, ok := i.tags.Get(name(ref.String())); ok {
		if m, ok := i.find(t.sum); ok {
			return m.of(t.sum.digest()), nil
		}
	}
	return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s", ref)
}

func (i *Index) find(s sum) (manifest, bool) {
	if m, ok := i.manifests.Get(s); ok {
		return m, true
	}
	return i.hidden.Get(s)
}

// Tags implements storage.Index.
func (i *Index) Tags(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
	return func(yield func(oci.Tag, oci.Descriptor) bool) {
		for name, t := range i.tags.From(name(after.String())) {
			tag, err := oci.ParseTag(string(name))
			if err != nil || tag == after {
				continue
			}
			if m, ok := i.find(t.sum); ok && !yield(tag, m.of(t.sum.digest())) {
				return
			}
		}
	}
}

// Manifests implements storage.Index: it merges two trees that are in order.
func (i *Index) Manifests() iter.Seq[oci.Descriptor] {
	return func(yield func(oci.Descriptor) bool) {
		next, stop := iter.Pull2(i.hidden.All())
		defer stop()
		s, m, more := next()
		for listed, l := range i.manifests.All() {
			for ; more && s.Compare(listed) < 0; s, m, more = next() {
				if !yield(m.of(s.digest())) {
					return
				}
			}
			if !yield(l.of(listed.digest())) {
				return
			}
		}
		for ; more && yield(m.of(s.digest())); s, m, more = next() {
		}
	}
}

// Referrers implements storage.Index.
func (i *Index) Referrers(subject, after digest.Digest) iter.Seq[storage.Referrer] {
	return func(yield func(storage.Referrer) bool) {
		of, seen := sumOf(subject), sumOf(after)
		for p, r := range i.referrers.From(pair{of, seen}) {
			if p.a != of || p.b != seen && !yield(r) {
				return
			}
		}
	}
}

// Parents implements storage.Index.
func (i *Index) Parents(d digest.Digest) iter.Seq[digest.Digest] {
	return func(yield func(digest.Digest) bool) {
		of := sumOf(d)
		for p := range i.parents.From(pair{of, lowest}) {
			if p.a != of || !yield(p.b.digest()) {
				return
			}
		}
	}
}

// Tagged reports whether a name, of whatever form, is on the manifest d.
func (i *Index) Tagged(d digest.Digest) bool {
	m, _ := i.manifests.Get(sumOf(d))
	return m.tags > 0
}

// Listed reports whether index.json itself lists the manifest d.
func (i *Index) Listed(d digest.Digest) bool {
	_, ok := i.manifests.Get(sumOf(d))
	return ok
}

// Len is how many manifests index.json lists.
func (i *Index) Len() int { return i.manifests.Len() }
