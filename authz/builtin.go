package authz

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/caddy-oci/oci-registry/oci"
)

// Anonymous is what callers may do who haven't signed in, where there's no policy.
type Anonymous string

// The values of Anonymous.
const (
	AnonymousNone Anonymous = "none" // nothing
	AnonymousPull Anonymous = "pull" // pull and list; the default
	AnonymousAll  Anonymous = "all"  // everything, deleting included
)

// ParseAnonymous returns the level s; empty is AnonymousPull.
func ParseAnonymous(s string) (Anonymous, error) {
	switch a := Anonymous(s); a {
	case "":
		return AnonymousPull, nil
	case AnonymousNone, AnonymousPull, AnonymousAll:
		return a, nil
	}
	return "", fmt.Errorf("anonymous %q: want none, pull or all", s)
}

// Authenticated lets everyone do everything who isn't anonymous, and leaves
// anonymous callers to Else.
type Authenticated struct{ Else Authorizer }

var _ Authorizer = Authenticated{}

// Authorize implements Authorizer.
func (a Authenticated) Authorize(ctx context.Context, q Question) (Answer, error) {
	if !q.Who.IsAnonymous() {
		return q.limited(Answer{Overwrite: true})
	}
	answer, err := a.Else.Authorize(ctx, q)
	if refusal, ok := errors.AsType[*oci.Error](err); ok && refusal.Code == oci.Denied {
		err = oci.Errorf(oci.Unauthorized, "%w", refusal.Unwrap()) // signing in helps
	}
	return answer, err
}

// Filter implements Authorizer.
func (a Authenticated) Filter(ctx context.Context, q Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	if q.Who.IsAnonymous() {
		return a.Else.Filter(ctx, q, names)
	}
	return q.filterByLimit(names)
}

var _ Authorizer = AnonymousNone

// Authorize implements Authorizer: it treats everybody as anonymous.
func (a Anonymous) Authorize(_ context.Context, q Question) (Answer, error) {
	for _, w := range q.Want {
		if !a.allows(w.Action) {
			return Answer{}, oci.Errorf(oci.Denied, "%s needs an authenticated user, or the option 'anonymous %s'",
				w.Action, leastLevel(w.Action))
		}
	}
	return q.limited(Answer{Overwrite: a == AnonymousAll})
}

// Filter implements Authorizer.
func (a Anonymous) Filter(_ context.Context, q Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	for _, w := range q.Want {
		if !a.allows(w.Action) {
			return func(func(oci.Name) bool) {}
		}
	}
	return q.filterByLimit(names)
}

func (a Anonymous) allows(action Action) bool {
	return a == AnonymousAll || a == AnonymousPull && leastLevel(action) == AnonymousPull
}

func leastLevel(action Action) Anonymous {
	if action == Pull || action == List {
		return AnonymousPull
	}
	return AnonymousAll
}
