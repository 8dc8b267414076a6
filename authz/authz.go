// Package authz decides who may do what to which repository. It knows nothing
// of HTTP, so search, catalog, mounts and the protocol ask it the same question.
package authz

import (
	"context"
	"iter"
	"net/netip"

	"github.com/caddy-oci/oci-registry/oci"
)

// Action is something done to a repository.
type Action string

// The actions.
const (
	Pull      Action = "pull"      // read manifests, blobs, tags, referrers
	Push      Action = "push"      // upload blobs, put manifests, set tags
	Overwrite Action = "overwrite" // move a tag that names something else
	Delete    Action = "delete"    // remove tags, manifests, blobs
	List      Action = "list"      // be told that the repository exists
)

// Identity is who asks. The zero Identity is anonymous.
type Identity struct {
	// ID is the user's name, unique within Provider.
	ID string

	// Groups are the groups the user is in, in any order.
	Groups []string

	// Provider is the source that knows the user. Default: an earlier HTTP handler.
	Provider string

	// Claims is what the source said beside that, for conditions.
	Claims map[string]any

	// Limit is what the credential itself allows, whatever the user may do: an
	// API key's scopes. Default: nil, no limit. Without an element it allows nothing.
	Limit []Scope
}

// IsAnonymous reports whether nobody signed in.
func (i Identity) IsAnonymous() bool { return i.ID == "" }

// Access is one action on one repository. Asked about the catalog as such, the
// repository is zero.
type Access struct {
	Action     Action
	Repository oci.Name
	Reference  oci.Reference // zero unless the action is on one manifest
}

// Question is everything that one request needs: a mount wants two accesses.
type Question struct {
	Who    Identity
	Client netip.Addr // the client's address; zero if it isn't known
	Want   []Access
}

// Answer is what a granted request may do beyond what it asked for.
type Answer struct {
	// Overwrite says that a push may move a tag that names something else.
	// Whether it does is only known inside the change, which applies this.
	Overwrite bool
}

// An Authorizer decides. It is asked once per request and must be fast and safe
// for concurrent use.
type Authorizer interface {
	// Authorize grants all that q wants, or fails: with oci.Unauthorized if q.Who
	// is anonymous and signing in could help, with oci.Denied if not. The error's
	// text goes to the client and names the option that would allow it. It wraps
	// ErrLimit if it's only q.Who's Limit that forbids it; nothing beyond that is ever
	// granted. An error of another kind means that no decision could be made.
	Authorize(ctx context.Context, q Question) (Answer, error)

	// Filter yields those of names that q.Who may do every q.Want to; the Repository
	// of each Want is taken from the name. It keeps the order.
	Filter(ctx context.Context, q Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name]
}

// FilterOneByOne is a Filter made of Authorize, for authorizers with nothing better.
func FilterOneByOne(ctx context.Context, a Authorizer, q Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	return func(yield func(oci.Name) bool) {
		want := make([]Access, len(q.Want))
		for n := range names {
			for i, w := range q.Want {
				want[i] = Access{Action: w.Action, Repository: n}
			}
			if _, err := a.Authorize(ctx, Question{Who: q.Who, Client: q.Client, Want: want}); err == nil && !yield(n) {
				return
			}
		}
	}
}
