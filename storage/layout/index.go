// Package layout is what index.json of an OCI image layout (image-spec v1.1.1,
// "OCI Image Layout") means as a storage.Index, in both directions. The
// backends share it.
package layout

import (
	"bytes"
	"encoding/json"
	"iter"
	"unique"

	"github.com/hashicorp/go-immutable-radix/v2"
	"github.com/opencontainers/go-digest"

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
	manifests *iradix.Tree[*manifest]        // by digest: what index.json lists
	tags      *iradix.Tree[*tagged]          // by name; what isn't a tag by our grammar is kept too
	hidden    *iradix.Tree[*manifest]        // by digest: what only image indexes list
	referrers *iradix.Tree[storage.Referrer] // by pair(subject, digest)
	parents   *iradix.Tree[struct{}]         // by pair(child, parent); a child that's nowhere else isn't there
	unread    *iradix.Tree[oci.Descriptor]   // by digest
	head      map[string]json.RawMessage     // of index.json, all but manifests
}

var _ storage.Index = (*Index)(nil)

// manifest is a manifest that exists. It doesn't change once it's in a tree.
type manifest struct {
	desc     oci.Descriptor
	raw      json.RawMessage // its descriptor in index.json when it has no tag
	tags     int             // how many names it has
	read     bool            // whether subject and children are known
	subject  digest.Digest
	children []child
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
		s.referrer = storage.Referrer{Digest: m.Digest, ArtifactType: m.ArtifactType, JSON: string(encodeDescriptor(m.Descriptor, ""))}
	}
	return s
}

// child is what is kept of a descriptor in an image index. Anybody who may push
// can name a hundred thousand that don't exist.
type child struct {
	mediaType unique.Handle[string]
	digest    digest.Digest
	size      int64
}

func childrenOf(m oci.Manifest) []child {
	children := make([]child, len(m.Manifests))
	for i, c := range m.Manifests {
		children[i] = child{unique.Make(c.MediaType), c.Digest, c.Size}
	}
	return children
}

func (c child) descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: c.mediaType.Value(), Digest: c.digest, Size: c.size}
}

// tagged is a name and what it names.
type tagged struct {
	tag    oci.Tag // zero if the name isn't a tag by our grammar
	digest digest.Digest
	raw    json.RawMessage // its descriptor in index.json
}

// New returns the index of an empty repository.
func New() *Index {
	return &Index{
		manifests: iradix.New[*manifest](),
		tags:      iradix.New[*tagged](),
		hidden:    iradix.New[*manifest](),
		referrers: iradix.New[storage.Referrer](),
		parents:   iradix.New[struct{}](),
		unread:    iradix.New[oci.Descriptor](),
		head: map[string]json.RawMessage{
			"schemaVersion": json.RawMessage("2"),
			"mediaType":     json.RawMessage(`"` + oci.MediaTypeImageIndex + `"`),
		},
	}
}

// pair is a key that sorts by a, then by b. No digest has a zero byte.
func pair(a, b digest.Digest) []byte {
	k := make([]byte, 0, len(a)+1+len(b))
	k = append(k, a...)
	k = append(k, 0)
	return append(k, b...)
}

// Resolve implements storage.Index.
func (i *Index) Resolve(ref oci.Reference) (oci.Descriptor, error) {
	d, ok := ref.Digest()
	if !ok {
		if t, ok := i.tags.Get([]byte(ref.String())); ok {
			d = t.digest
		}
	}
	if m := i.find(d); m != nil {
		return m.desc, nil
	}
	return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s", ref)
}

func (i *Index) find(d digest.Digest) *manifest {
	if m, ok := i.manifests.Get([]byte(d)); ok {
		return m
	}
	m, _ := i.hidden.Get([]byte(d))
	return m
}

// Tags implements storage.Index.
func (i *Index) Tags(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
	return func(yield func(oci.Tag, oci.Descriptor) bool) {
		for _, name := range from(i.tags.Root(), []byte(after.String())) {
			if name.tag == after || name.tag == (oci.Tag{}) {
				continue
			}
			if m := i.find(name.digest); m != nil && !yield(name.tag, m.desc) {
				return
			}
		}
	}
}

// Manifests implements storage.Index: it merges two trees that are in order.
func (i *Index) Manifests() iter.Seq[oci.Descriptor] {
	return func(yield func(oci.Descriptor) bool) {
		next, stop := iter.Pull2(from(i.hidden.Root(), nil))
		defer stop()
		key, m, more := next()
		// before yields the hidden ones up to a key.
		before := func(limit []byte) bool {
			for ; more && bytes.Compare(key, limit) < 0; key, m, more = next() {
				if !yield(m.desc) {
					return false
				}
			}
			return true
		}
		for listed, m := range from(i.manifests.Root(), nil) {
			if !before(listed) || !yield(m.desc) {
				return
			}
		}
		before(pastAll)
	}
}

// pastAll is greater than any digest.
var pastAll = []byte("\xff")

// Referrers implements storage.Index.
func (i *Index) Referrers(subject, after digest.Digest) iter.Seq[storage.Referrer] {
	return func(yield func(storage.Referrer) bool) {
		for _, r := range pairs(i.referrers.Root(), subject, after) {
			if !yield(r) {
				return
			}
		}
	}
}

// Parents implements storage.Index.
func (i *Index) Parents(d digest.Digest) iter.Seq[digest.Digest] {
	return func(yield func(digest.Digest) bool) {
		for parent := range pairs(i.parents.Root(), d, "") {
			if !yield(digest.Digest(parent)) {
				return
			}
		}
	}
}

// Tagged reports whether a name, of whatever form, is on the manifest d.
func (i *Index) Tagged(d digest.Digest) bool {
	m, ok := i.manifests.Get([]byte(d))
	return ok && m.tags > 0
}

// Listed reports whether index.json itself lists the manifest d.
func (i *Index) Listed(d digest.Digest) bool {
	_, ok := i.manifests.Get([]byte(d))
	return ok
}

// Len is how many manifests index.json lists.
func (i *Index) Len() int { return i.manifests.Len() }

// from yields a tree in order of its keys, beginning with the first that isn't
// less than lower. The keys are the tree's own.
func from[T any](t *iradix.Node[T], lower []byte) iter.Seq2[[]byte, T] {
	return func(yield func([]byte, T) bool) {
		it := t.Iterator()
		it.SeekLowerBound(lower)
		for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
			if !yield(k, v) {
				return
			}
		}
	}
}

// pairs yields what a tree has under pair(a, …), beginning after pair(a, after).
func pairs[T any](t *iradix.Node[T], a, after digest.Digest) iter.Seq2[[]byte, T] {
	return func(yield func([]byte, T) bool) {
		prefix := pair(a, "")
		for k, v := range from(t, pair(a, after)) {
			b, ok := bytes.CutPrefix(k, prefix)
			if !ok || string(b) != string(after) && !yield(b, v) {
				return
			}
		}
	}
}
