package layout

import (
	"encoding/json"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// Unread yields the manifests whose bytes have to be read before the index is
// complete. Learn may make more of them known.
func (i *Index) Unread() iter.Seq[oci.Descriptor] {
	return func(yield func(oci.Descriptor) bool) {
		for _, desc := range from(i.unread.Root(), nil) {
			if !yield(desc) {
				return
			}
		}
	}
}

// Complete reports whether Unread yields nothing.
func (i *Index) Complete() bool { return i.unread.Len() == 0 }

// Learn returns the index with what the manifests say. absent are those of
// Unread that aren't there, or can't be read as manifests: one that index.json
// lists stays listed, one that only an image index lists doesn't exist.
func (i *Index) Learn(read []oci.Manifest, absent []digest.Digest) *Index {
	a := begin(i)
	for _, m := range read {
		a.learn(m.Descriptor, statementOf(m))
	}
	for _, d := range absent {
		a.unread.Delete([]byte(d))
	}
	return a.commit()
}

// LearnFrom is Learn with what an earlier index of the same repository knew.
func (i *Index) LearnFrom(old *Index) *Index {
	a := begin(i)
	for grown := true; grown; {
		grown = false
		for key, desc := range from(a.unread.Root(), nil) {
			m := old.find(desc.Digest)
			if m == nil || !m.read {
				continue
			}
			a.learn(m.desc, old.statement(m))
			a.unread.Delete(key)
			grown = true // its children may be unread now
		}
	}
	return a.commit()
}

func (i *Index) statement(m *manifest) statement {
	r, _ := i.referrers.Get(pair(m.subject, m.desc.Digest))
	return statement{m.subject, r, m.children}
}

func (a *applier) learn(desc oci.Descriptor, says statement) {
	old, own := a.manifests.Get([]byte(desc.Digest))
	if own && old.read {
		return
	}
	for _, c := range says.children {
		// One that another index lists is read, or unread already, or isn't there.
		if _, listed := a.manifests.Get([]byte(c.digest)); !listed && !a.hasParent(c.digest) {
			a.unread.Insert([]byte(c.digest), c.descriptor())
		}
	}
	if own {
		a.list(desc, says)
		return
	}
	h := &manifest{desc: listed(desc)}
	a.read(h, says)
	a.hidden.Insert([]byte(desc.Digest), h)
}

// Known yields the manifests that index.json lists, in order of digest, with all
// that was learned of them: what Apply needs to put them into another Index.
func (i *Index) Known() iter.Seq[oci.Manifest] {
	return func(yield func(oci.Manifest) bool) {
		for _, m := range from(i.manifests.Root(), nil) {
			if !yield(i.known(m)) {
				return
			}
		}
	}
}

func (i *Index) known(m *manifest) oci.Manifest {
	known := oci.Manifest{Descriptor: m.desc, Subject: m.subject}
	for _, c := range m.children {
		known.Manifests = append(known.Manifests, c.descriptor())
	}
	if r, ok := i.referrers.Get(pair(m.subject, m.desc.Digest)); ok {
		if err := json.Unmarshal([]byte(r.JSON), &known.Descriptor); err != nil {
			panic(err) // encodeDescriptor wrote it
		}
	}
	return known
}
