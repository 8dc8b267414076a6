package authz

import (
	"errors"
	"iter"
	"slices"

	"github.com/caddy-oci/oci-registry/authz/glob"
	"github.com/caddy-oci/oci-registry/oci"
)

// ErrLimit is wrapped by a refusal of what the user may do and the credential may
// not: a token with more scopes would help.
var ErrLimit = errors.New("the credential's scopes don't include it")

// Scope is a set of actions on the repositories that a glob matches.
type Scope struct {
	// Repositories is a glob as in a Rule. One that's malformed matches nothing.
	Repositories string

	// Actions are what it's for. Pull includes list.
	Actions []Action
}

// Includes reports whether an access is one of the scope. Only the scope of all
// repositories, "**", includes any on the registry as such.
func (s Scope) Includes(a Access) bool {
	if !slices.Contains(s.Actions, a.Action) && (a.Action != List || !slices.Contains(s.Actions, Pull)) {
		return false
	}
	if a.Repository.IsZero() || s.Repositories == "**" {
		return s.Repositories == "**"
	}
	return glob.Match(s.Repositories, a.Repository.String())
}

// WithinLimit reports whether the Limit lets i have an access. To list the
// registry as such is within every limit: it says nothing of any repository.
func (i Identity) WithinLimit(a Access) bool {
	if i.Limit == nil || a.Repository.IsZero() && a.Action == List {
		return true
	}
	for _, s := range i.Limit {
		if s.Includes(a) {
			return true
		}
	}
	return false
}

// limited returns an answer to q with what's beyond the limit of q.Who left out.
func (q *Question) limited(a Answer) (Answer, error) {
	if q.Who.Limit == nil {
		return a, nil
	}
	for _, w := range q.Want {
		if !q.Who.WithinLimit(w) {
			return Answer{}, oci.Errorf(oci.Denied, "%w", &Refusal{Access: w, Err: ErrLimit, text: limitText(w)})
		}
		if w.Action == Push {
			w.Action = Overwrite
			a.Overwrite = a.Overwrite && q.Who.WithinLimit(w)
		}
	}
	return a, nil
}

// filterByLimit yields those of names that all of q.Want is within the limit for.
func (q *Question) filterByLimit(names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	if q.Who.Limit == nil {
		return names
	}
	return func(yield func(oci.Name) bool) {
		for n := range names {
			if q.namesWithinLimit(n) && !yield(n) {
				return
			}
		}
	}
}

func (q *Question) namesWithinLimit(n oci.Name) bool {
	for _, w := range q.Want {
		if !q.Who.WithinLimit(Access{Action: w.Action, Repository: n}) {
			return false
		}
	}
	return true
}
