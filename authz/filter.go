package authz

import (
	"context"
	"iter"

	"github.com/caddy-oci/oci-registry/oci"
)

// Filter implements Authorizer. It decides once for each glob that decides for some
// name, unless conditions or the names themselves have a say in it.
func (p *Policy) Filter(ctx context.Context, q Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	return func(yield func(oci.Name) bool) {
		f := filter{
			asking: asking{policy: p, question: &q},
			known:  make([]verdict, len(p.entries)),
			shared: q.onlyReads() && !p.admins.conditional(),
		}
		for n := range names {
			if f.shows(ctx, n) && !yield(n) {
				return
			}
		}
	}
}

// filter is a list that's being filtered.
type filter struct {
	asking

	known  []verdict // by the number of the entry
	shared bool      // names with one entry may share a verdict
}

type verdict uint8

const (
	unknown verdict = iota
	shown
	hidden
)

func (f *filter) shows(ctx context.Context, n oci.Name) bool {
	if f.question.Who.Limit != nil && !f.question.namesWithinLimit(n) {
		return false
	}
	e := f.policy.entryFor(n)
	if !f.shared || e == nil || e.conditional() {
		return f.decide(ctx, n)
	}
	v := &f.known[e.number]
	if *v == unknown {
		*v = hidden
		if f.decide(ctx, n) {
			*v = shown
		}
	}
	return *v == shown
}

func (f *filter) decide(ctx context.Context, n oci.Name) bool {
	for _, w := range f.question.Want {
		if r := f.settle(ctx, Access{Action: w.Action, Repository: n}); r.outcome != granted {
			return false
		}
	}
	return true
}

// onlyReads reports whether all that q wants is decided by the entry alone.
func (q *Question) onlyReads() bool {
	for _, w := range q.Want {
		if w.Action.changes() {
			return false
		}
	}
	return true
}

// conditional reports whether any rule of e has a condition.
func (e *entry) conditional() bool {
	for i := range e.grants {
		if e.grants[i].conditional {
			return true
		}
	}
	return false
}
