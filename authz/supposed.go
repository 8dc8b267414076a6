package authz

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/caddy-oci/oci-registry/oci"
)

// Supposed is a question that nobody has asked, in the words of whoever wonders: would
// this user be let do that?
type Supposed struct {
	User       string // or anonymous; user:NAME is a user, whatever the name, and user@PROVIDER:NAME one of that
	Groups     []string
	Provider   string // that knows the user, if User doesn't say; may be empty
	Action     string
	Repository string // empty for the registry as such
	Reference  string // tag or digest; may be empty
	Client     string // address; may be empty
}

// Question returns s as an Authorizer is asked.
func (s Supposed) Question() (q Question, err error) {
	if s.User != "anonymous" {
		q.Who = ParseUser(s.User)
		q.Who.Groups, q.Who.Provider = s.Groups, cmp.Or(q.Who.Provider, s.Provider)
	}
	switch {
	case s.User == "":
		return q, errors.New("who? Want the name of a user, or anonymous")
	case q.Who.IsAnonymous() && len(s.Groups) > 0:
		return q, errors.New("who hasn't signed in is in no group")
	}
	w := Access{Action: Action(s.Action)}
	switch w.Action {
	case Pull, Push, Overwrite, Delete, List:
	default:
		return q, fmt.Errorf("action %q: want pull, push, overwrite, delete or list", s.Action)
	}
	if s.Repository != "" {
		if w.Repository, err = oci.ParseName(s.Repository); err != nil {
			return q, err
		}
	}
	if s.Reference != "" {
		if w.Reference, err = oci.ParseReference(s.Reference); err != nil {
			return q, err
		}
	}
	if s.Client != "" {
		if q.Client, err = netip.ParseAddr(s.Client); err != nil {
			return q, fmt.Errorf("address of the client: %w", err)
		}
	}
	q.Want = []Access{w}
	return q, nil
}
