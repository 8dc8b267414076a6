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
		for s, d := range i.unread.All() {
			if !yield(d.of(s.digest())) {
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
		a.learn(sumOf(m.Digest), descOf(m.Descriptor), statementOf(m))
	}
	for _, d := range absent {
		a.unread.Delete(sumOf(d))
	}
	return a.commit()
}

// LearnFrom is Learn with what an earlier index of the same repository knew.
func (i *Index) LearnFrom(old *Index) *Index {
	a := begin(i)
	for grown := true; grown; {
		grown = false
		for s := range a.unread.Tree().All() {
			m, ok := old.find(s)
			if !ok || !m.read {
				continue
			}
			a.learn(s, m.desc, old.statement(s, m))
			a.unread.Delete(s)
			grown = true // its children may be unread now
		}
	}
	return a.commit()
}

func (i *Index) statement(s sum, m manifest) statement {
	says := statement{subject: m.rest().subject, children: m.rest().children}
	if says.subject != "" {
		says.referrer, _ = i.referrers.Get(pair{sumOf(says.subject), s})
	}
	return says
}

func (a *applier) learn(s sum, d desc, says statement) {
	old, own := a.manifests.Get(s)
	if own && old.read {
		return
	}
	for _, c := range says.children {
		// One that another index lists is read, or unread already, or isn't there.
		if _, listed := a.manifests.Get(c.sum); !listed && !a.hasParent(c.sum) {
			a.unread.Set(c.sum, c.desc)
		}
	}
	if own {
		a.list(s, d, says)
		return
	}
	h := manifest{desc: d}
	a.read(s, &h, says)
	a.hidden.Set(s, h)
}

// Known yields the manifests that index.json lists, in order of digest, with all
// that was learned of them: what Apply needs to put them into another Index.
func (i *Index) Known() iter.Seq[oci.Manifest] {
	return func(yield func(oci.Manifest) bool) {
		for s, m := range i.manifests.All() {
			if !yield(i.known(s, m)) {
				return
			}
		}
	}
}

func (i *Index) known(s sum, m manifest) oci.Manifest {
	says := i.statement(s, m)
	known := oci.Manifest{Descriptor: m.of(s.digest()), Subject: says.subject}
	for _, c := range says.children {
		known.Manifests = append(known.Manifests, c.descriptor())
	}
	if says.subject != "" {
		if err := json.Unmarshal([]byte(says.referrer.JSON), &known.Descriptor); err != nil {
			panic(err) // encodeDescriptor wrote it
		}
	}
	return known
}
