package gc

import (
	"iter"
	"regexp"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// manifest is what a manifest needs.
type manifest struct {
	digests   []digest.Digest // blobs and children
	subject   digest.Digest
	unknown   bool // its type isn't known: it's needed
	unread    bool // it can't be read: what it needs isn't known
	mediaType string
}

// plan is what is to be done with a repository, for one moment's names.
type plan struct {
	mark   []digest.Digest
	renew  []digest.Digest // marks that were set by a clock that was wrong
	unmark []digest.Digest
	delete []digest.Digest // manifests, and then their bytes
	drop   []digest.Digest // blobs

	garbage []digest.Digest // all of it, what only has to wait included
	circle  []digest.Digest // manifests that only their subject keeps, which may go itself
}

func (p *plan) empty() bool {
	return len(p.mark)+len(p.renew)+len(p.unmark)+len(p.delete)+len(p.drop) == 0
}

// planner makes a plan. All manifests of the index are known to it that were there when
// the round began.
type planner struct {
	opts      Options
	begun     time.Time // of the round in this repository
	now       time.Time
	index     storage.Index
	manifests map[digest.Digest]*manifest
	contents  map[digest.Digest]storage.Content
}

// plan is made so that it's right whatever of it comes to nothing, because
// somebody takes a mark off meanwhile: nothing goes as long as there's a manifest
// that names it, not even one that's about to go. An image index goes before its
// children, a subject before its referrers, and manifests before their blobs.
func (p *planner) plan() plan {
	needed := p.closure(p.roots())
	named := p.named()
	var out plan
	for m := range p.index.Manifests() {
		if p.manifests[m.Digest] == nil {
			continue
		}
		p.planManifest(&out, m.Digest, needed.manifests[m.Digest], named)
	}
	if len(out.delete) == 0 { // there may be a circle: an index whose subject is its child
		out.delete = out.circle
	}
	if named.opaque {
		return out
	}
	for d, c := range p.contents {
		if !p.isManifest(d) {
			p.planBlob(&out, d, c, needed.blobs[d], named.blobs[d])
		}
	}
	return out
}

func (p *planner) planManifest(out *plan, d digest.Digest, needed bool, named *set) {
	marked := p.contents[d].Marked
	if !needed {
		out.garbage = append(out.garbage, d)
	}
	switch {
	case needed && !marked.IsZero():
		out.unmark = append(out.unmark, d)
	case needed:
	case marked.IsZero():
		out.mark = append(out.mark, d)
	case p.wrong(marked):
		out.renew = append(out.renew, d)
	case !p.expired(d) || named.blobs[d] || p.hasYoungReferrer(d):
	case !p.isManifest(p.manifests[d].subject):
		out.delete = append(out.delete, d)
	case p.expired(p.manifests[d].subject):
		out.circle = append(out.circle, d)
	}
}

// isManifest reports whether d is a manifest, be it one that has come meanwhile.
func (p *planner) isManifest(d digest.Digest) bool {
	_, err := p.index.Resolve(oci.DigestRef(d))
	return err == nil
}

// hasYoungReferrer reports whether a referrer keeps a manifest, as long as its own
// grace isn't over.
func (p *planner) hasYoungReferrer(d digest.Digest) bool {
	for referrer := range p.index.Referrers(d, "") {
		if !p.expired(referrer.Digest) {
			return true
		}
	}
	return false
}

func (p *planner) expired(d digest.Digest) bool {
	marked := p.contents[d].Marked
	return !marked.IsZero() && p.over(marked, p.opts.UntaggedGrace)
}

func (p *planner) planBlob(out *plan, d digest.Digest, c storage.Content, needed, named bool) {
	if !needed {
		out.garbage = append(out.garbage, d)
	}
	switch {
	case needed && !c.Marked.IsZero():
		out.unmark = append(out.unmark, d)
	case needed:
	case c.Marked.IsZero():
		out.mark = append(out.mark, d)
	case p.wrong(c.Marked):
		out.renew = append(out.renew, d)
	case !named && p.over(c.Marked, p.opts.Grace):
		out.drop = append(out.drop, d)
	}
}

// due is when garbage goes at the soonest.
func (p *planner) due(d digest.Digest) time.Time {
	grace := p.opts.Grace
	if p.manifests[d] != nil {
		grace = p.opts.UntaggedGrace
	}
	marked := p.contents[d].Marked
	if marked.IsZero() || marked.After(p.now) {
		marked = p.now
	}
	if due := marked.Add(grace); due.After(p.now) {
		return due
	}
	return p.now
}

// wrong reports whether a mark isn't to be relied on. One of the future, by more than
// machines may differ, was set by a clock that was wrong.
func (p *planner) wrong(marked time.Time) bool {
	return p.opts.Renew || marked.After(p.now.Add(time.Minute))
}

// over reports whether a grace had passed since a mark when the round began.
func (p *planner) over(marked time.Time, grace time.Duration) bool {
	return !marked.After(p.begun.Add(-grace))
}

// roots are the manifests that nothing else has to need. A referrer without a
// subject is one, unless it's marked: then the subject went, and it follows.
func (p *planner) roots() []digest.Digest {
	var roots []digest.Digest
	for _, desc := range p.index.Tags(oci.Tag{}) {
		roots = append(roots, desc.Digest)
	}
	for d, m := range p.manifests {
		dangling := m.subject != "" && !p.isManifest(m.subject)
		early := dangling && !p.opts.DanglingReferrers && p.contents[d].Marked.IsZero()
		kept := p.opts.KeepUntagged && m.subject == ""
		if m.unknown || m.unread || early || kept {
			roots = append(roots, d)
		}
	}
	return roots
}

// named is what the manifests name that there are, needed or not: blobs and children.
func (p *planner) named() *set {
	s := &set{blobs: make(map[digest.Digest]bool)}
	for _, m := range p.manifests {
		s.opaque = s.opaque || m.unread
		for _, d := range m.digests {
			s.blobs[d] = true
		}
	}
	return s
}

// set is manifests and all that they need.
type set struct {
	manifests map[digest.Digest]bool
	blobs     map[digest.Digest]bool
	opaque    bool // nobody knows all of it
}

// closure is what manifests need, in both directions: what they name, and who
// refers to them.
func (p *planner) closure(from []digest.Digest) *set {
	s := &set{manifests: make(map[digest.Digest]bool), blobs: make(map[digest.Digest]bool)}
	for len(from) > 0 {
		d := from[len(from)-1]
		from = from[:len(from)-1]
		m := p.manifests[d]
		if m == nil || s.manifests[d] {
			continue
		}
		s.manifests[d] = true
		for _, n := range m.digests {
			s.blobs[n] = true
		}
		from = append(from, m.digests...)
		if m.subject != "" {
			s.blobs[m.subject] = true
			from = append(from, m.subject)
		}
		for referrer := range p.index.Referrers(d, "") {
			from = append(from, referrer.Digest)
		}
	}
	return s
}

// understand returns what a manifest needs.
func understand(m oci.Manifest) *manifest {
	out := &manifest{subject: m.Subject, unknown: !oci.IsManifest(m.MediaType), mediaType: m.MediaType}
	for _, list := range [][]oci.Descriptor{m.Blobs, m.Manifests} {
		for _, d := range list {
			out.digests = append(out.digests, d.Digest)
		}
	}
	if out.unknown { // whatever it calls its parts
		for d := range mentioned(m.Raw) {
			out.digests = append(out.digests, d)
		}
	}
	return out
}

var digests = regexp.MustCompile(`sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})`)

// mentioned yields what looks like a digest.
func mentioned(raw []byte) iter.Seq[digest.Digest] {
	return func(yield func(digest.Digest) bool) {
		for _, d := range digests.FindAll(raw, -1) {
			if !yield(digest.Digest(d)) {
				return
			}
		}
	}
}
