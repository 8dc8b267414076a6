package s3

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/btree"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// contents is what a repository holds. It doesn't change.
type contents struct {
	index *layout.Index
	blobs btree.Tree[byDigest, *blob]    // the bytes of manifests too
	lost  btree.Tree[byDigest, struct{}] // what was in blobs until its bytes were found to be bad
}

// byDigest is a digest as a key.
type byDigest = btree.String

// blob is where a blob is, and since when it has had a mark, if it has one, or
// has been unsure.
type blob struct {
	entry

	marked time.Time
}

func nothing() contents { return contents{index: layout.New()} }

// find returns a blob that one may rely on, or nil.
func (c *contents) find(d digest.Digest) *blob {
	b, ok := c.blobs.Get(byDigest(d))
	if !ok || b.Unsure {
		return nil
	}
	return b
}

// isLost reports whether d was there until its bytes were found to be bad.
func (c *contents) isLost(d digest.Digest) bool {
	_, lost := c.lost.Get(byDigest(d))
	return lost
}

func (c *contents) marked(d digest.Digest) bool {
	b := c.find(d)
	return b != nil && !b.marked.IsZero()
}

// apply returns the contents after the changes.
func (c *contents) apply(changes []change) (contents, error) {
	blobs, lost := c.blobs.Edit(), c.lost.Edit()
	var names []storage.Change
	for i := range changes {
		ch := &changes[i]
		name, isName, err := ch.name()
		if err != nil {
			return contents{}, err
		}
		if isName {
			names = append(names, name)
		} else {
			ch.applyTo(&blobs, &lost)
		}
	}
	next := contents{c.index, blobs.Tree(), lost.Tree()}
	if len(names) > 0 {
		next.index, _ = c.index.Apply(names)
	}
	return next, nil
}

// name returns the change as an Index takes it, if it's one of names.
func (ch *change) name() (c storage.Change, isName bool, err error) {
	switch {
	case ch.Put != nil:
		m := oci.Manifest{Descriptor: *ch.Put, Subject: ch.Subject}
		for _, child := range ch.Children {
			m.Manifests = append(m.Manifests, child.descriptor())
		}
		return storage.Change{Kind: storage.PutChange, Manifest: m, Digest: m.Digest}, true, nil
	case ch.Tag != "":
		t, err := oci.ParseTag(ch.Tag)
		return storage.Change{Kind: storage.TagChange, Tag: t, Digest: ch.Digest}, true, err
	case ch.Untag != "":
		t, err := oci.ParseTag(ch.Untag)
		return storage.Change{Kind: storage.UntagChange, Tag: t}, true, err
	case ch.Delete != "":
		return storage.Change{Kind: storage.DeleteChange, Digest: ch.Delete}, true, nil
	}
	return storage.Change{}, false, nil
}

func (c child) descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: c.Size}
}

// applyTo does a change that isn't one of names.
func (ch *change) applyTo(blobs *btree.Edit[byDigest, *blob], lost *btree.Edit[byDigest, struct{}]) {
	k := byDigest(ch.Blob + ch.Drop + ch.Mark + ch.Unmark) // there's one of them
	if ch.Lost {
		lost.Set(k, struct{}{})
	} else if ch.Blob != "" && !ch.Unsure {
		lost.Delete(k)
	}
	old, ok := blobs.Get(k)
	switch {
	case ch.Blob != "":
		blobs.Set(k, &blob{ch.entry, ch.Since})
	case !ok:
	case ch.Drop != "":
		blobs.Delete(k)
	case ch.Mark != "":
		if old.marked.IsZero() {
			blobs.Set(k, &blob{old.entry, ch.Since})
		}
	case ch.Unmark != "":
		blobs.Set(k, &blob{entry: old.entry})
	}
}

// snapshot returns the changes that make the contents of nothing.
func (c *contents) snapshot() []change {
	var all []change
	for key, b := range c.blobs.All() {
		all = append(all, change{Blob: digest.Digest(key), entry: b.entry})
		if !b.marked.IsZero() {
			all = append(all, change{Mark: digest.Digest(key), Since: b.marked})
		}
	}
	for key := range c.lost.All() {
		all = append(all, change{Drop: digest.Digest(key), Lost: true})
	}
	for m := range c.index.Known() {
		all = append(all, putOf(m))
	}
	for t, desc := range c.index.Tags(oci.Tag{}) {
		all = append(all, change{Tag: t.String(), Digest: desc.Digest})
	}
	return all
}

// putOf is a manifest as a record has it: without its bytes, and with what a
// list of referrers says of it only if it refers to something.
func putOf(m oci.Manifest) change {
	desc := oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
	if m.Subject != "" {
		desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
	}
	ch := change{Put: &desc, Subject: m.Subject}
	for _, c := range m.Manifests {
		ch.Children = append(ch.Children, child{c.MediaType, c.Digest, c.Size})
	}
	return ch
}

// state is a repository's record, read. It doesn't change.
type state struct {
	contents

	etag string // of the record; "" if there's none
	head head
	tail []line
	base contents // what the segments say, before the tail
}

func absent() *state { return &state{contents: nothing(), base: nothing()} }

// exists reports whether anything was ever put here, and not retired since.
func (s *state) exists() bool { return s.etag != "" && !s.head.Retired }

// knows reports whether the commit, or upload session, is among the last.
func (s *state) knows(id string) bool {
	return slices.Contains(s.head.Folded, id) ||
		slices.ContainsFunc(s.tail, func(l line) bool { return l.names(id) })
}

func (s *state) tailSize() (n int) {
	for _, l := range s.tail {
		n += len(l)
	}
	return n
}

// with returns the state after a commit. It has no etag yet.
func (s *state) with(name oci.Name, c commit) (*state, error) {
	if len(c.Changes) == 1 && c.Changes[0].retire {
		return &state{head: retired(s.head.Count+1, c.ID), base: nothing(), contents: nothing()}, nil
	}
	l, err := encodeLine(c)
	if err != nil {
		return nil, err
	}
	next := &state{head: s.head, base: s.base}
	next.head.Format, next.head.Repository, next.head.Retired = format, name.String(), false
	next.head.Count++
	next.tail = append(slices.Clip(s.tail), l)
	next.contents, err = s.apply(c.Changes)
	return next, err
}

// bytes is the record.
func (s *state) bytes() ([]byte, error) {
	first, err := encodeLine(s.head)
	if err != nil {
		return nil, err
	}
	return bytes.Join(append([][]byte{first}, tailBytes(s.tail)...), nil), nil
}

func tailBytes(lines []line) [][]byte {
	all := make([][]byte, len(lines))
	for i, l := range lines {
		all[i] = l
	}
	return all
}

// replay applies lines of commits.
func (c *contents) replay(lines []line) (contents, error) {
	var all []change
	for i, l := range lines {
		done, err := decodeCommit(l)
		if err != nil {
			return contents{}, fmt.Errorf("line %d: %w", i, err)
		}
		all = append(all, done.Changes...)
	}
	return c.apply(all)
}
