// Package routed makes one store of several, each of which has the repositories
// under prefixes of its own: what is pulled often on a fast disk, say, and the
// rest in a bucket.
package routed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Part is a store, and which repositories are in it.
type Part struct {
	Store storage.Store

	// Prefixes are what the names of its repositories begin with, in whole
	// components: "team" has team and team/app, and not teams/app.
	Prefixes []oci.Name
}

// store is a storage.Store over several.
type store struct {
	parts  []part
	routes []route // the longest prefix first, and the empty one last
}

// part is a store and what it's called in errors.
type part struct {
	store storage.Store
	paths string // empty for the rest
}

// route sends a prefix to a part.
type route struct {
	prefix string // empty for the rest
	part   int
}

// New returns a Store of the parts, in which rest has what no part has. All parts
// have different stores. Closing it closes them all.
//
// A repository is in the part with the longest prefix of its name. What the store
// of a part has beside those isn't shown, and neither is what lies in another
// store under the prefix of a part. What is noted of background work, and the
// registry's own state, are kept in the first of the stores that can, rest before all
// others.
func New(rest storage.Store, parts ...Part) storage.Store {
	s := &store{parts: []part{{store: rest}}}
	for i, p := range parts {
		paths := make([]string, len(p.Prefixes))
		for j, prefix := range p.Prefixes {
			paths[j] = prefix.String()
			s.routes = append(s.routes, route{prefix.String(), i + 1})
		}
		s.parts = append(s.parts, part{p.Store, strings.Join(paths, ", ")})
	}
	slices.SortStableFunc(s.routes, func(a, b route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	s.routes = append(s.routes, route{})
	var all storage.Store = s
	if m, ok := firstAble[storage.Maintainable](s); ok {
		all = maintained{s, m}
	}
	if k, ok := firstAble[storage.Keeper](s); ok {
		all = keeping{all, k}
	}
	return all
}

// firstAble returns the first part that is a T.
func firstAble[T any](s *store) (able T, ok bool) {
	for _, p := range s.parts {
		if able, ok = storage.As[T](p.store); ok {
			break
		}
	}
	return able, ok
}

// has reports whether name is under the route's prefix.
func (r route) has(name oci.Name) bool {
	rest, ok := strings.CutPrefix(name.String(), r.prefix)
	return ok && (r.prefix == "" || rest == "" || rest[0] == '/')
}

// route returns the one that a name takes.
func (s *store) route(name oci.Name) route {
	i := slices.IndexFunc(s.routes, func(r route) bool { return r.has(name) })
	return s.routes[i]
}

// wrap says in which part something has failed.
func (p part) wrap(err error) error {
	if err == nil || p.paths == "" {
		return err
	}
	return fmt.Errorf("path %s: %w", p.paths, err)
}

// Repository implements storage.Store.
func (s *store) Repository(name oci.Name) storage.Repository {
	at := s.route(name).part
	return repository{s.parts[at].store.Repository(name), s, at}
}

// Ready implements storage.Store: all parts are ready.
func (s *store) Ready(ctx context.Context) error {
	return s.each(func(store storage.Store) error { return store.Ready(ctx) })
}

// Close implements storage.Store.
func (s *store) Close() error { return s.each(storage.Store.Close) }

func (s *store) each(do func(storage.Store) error) error {
	errs := make([]error, len(s.parts))
	for i, p := range s.parts {
		errs[i] = p.wrap(do(p.store))
	}
	return errors.Join(errs...)
}

// repository is one of a part.
type repository struct {
	storage.Repository

	store *store
	part  int
}

// Unwrap is for storage.As.
func (r repository) Unwrap() any { return r.Repository }

// MountBlob finds nothing in another part: stores share no bytes, and to copy a
// blob takes longer than who mounts would wait.
func (r repository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	if r.store.route(from).part != r.part {
		return oci.Descriptor{}, oci.Errorf(oci.BlobUnknown, "%s lies in another store", from)
	}
	return r.Repository.MountBlob(ctx, d, from)
}

// Repositories implements storage.Store: one list of all, merged as it's read.
func (s *store) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		lists := make([]*list, len(s.routes))
		for i, r := range s.routes {
			lists[i] = newList(s.under(ctx, r, after))
			defer lists[i].stop()
		}
		for {
			least := slices.MinFunc(lists, (*list).compare)
			if least.err != nil {
				yield(oci.Name{}, least.err)
				return
			}
			if !least.more || !yield(least.name, nil) {
				return
			}
			least.advance()
		}
	}
}

// under yields the repositories that take the route r.
func (s *store) under(ctx context.Context, r route, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		p := s.parts[r.part]
		for name, err := range p.store.Repositories(ctx, r.start(after)) {
			switch {
			case err != nil:
				yield(oci.Name{}, p.wrap(err))
				return
			case r.past(name):
				return
			case name.Compare(after) > 0 && s.route(name) == r && !yield(name, nil):
				return
			}
		}
	}
}

// start is after, or a name that comes before all under the route's prefix if
// that's later: so what a store has beside those isn't read in vain.
func (r route) start(after oci.Name) oci.Name {
	for end := len(r.prefix) - 1; end > 0; end-- {
		if before, err := oci.ParseName(r.prefix[:end]); err == nil {
			if after.Compare(before) > 0 {
				return after
			}
			return before
		}
	}
	return after
}

// past reports whether neither name nor one that comes after it is under the
// route's prefix.
func (r route) past(name oci.Name) bool {
	return r.prefix != "" && !r.has(name) && name.String() > r.prefix+"/"
}

// list is a sequence of names that is read one by one.
type list struct {
	next func() (oci.Name, error, bool)
	stop func()

	name oci.Name
	err  error
	more bool
}

func newList(all iter.Seq2[oci.Name, error]) *list {
	l := new(list)
	l.next, l.stop = iter.Pull2(all)
	l.advance()
	return l
}

func (l *list) advance() { l.name, l.err, l.more = l.next() }

// compare puts a list that has failed first, since half of what there is would
// pass for all of it; and one that has ended last.
func (l *list) compare(m *list) int {
	rank := func(l *list) int {
		switch {
		case l.err != nil:
			return 0
		case l.more:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(l), rank(m)), l.name.Compare(m.name))
}
