package ldap

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// A user is an entry that was found for a name.
type user struct {
	*ldap.Entry

	id string
}

// find returns the user who has the name, with some more attributes of its entry, or
// ErrRefused if there's none.
func (s *Source) find(ctx context.Context, name string, more ...string) (*user, error) {
	q := query{
		base: s.opts.Base, scope: ldap.ScopeWholeSubtree, most: 2, attributes: []string{s.opts.UserAttribute},
		filter: "(&(" + s.opts.UserAttribute + "=" + ldap.EscapeFilter(name) + ")" + s.opts.Filter + ")",
	}
	if s.opts.SingleLevel {
		q.scope = ldap.ScopeSingleLevel
	}
	if s.opts.Groups.Attribute != "" {
		q.attributes = append(q.attributes, s.opts.Groups.Attribute)
	}
	q.attributes = append(q.attributes, more...)
	entries, err := s.search(ctx, q)
	switch {
	case isTooMany(err) || err == nil && len(entries) > 1:
		return nil, fmt.Errorf("more than one entry below %s has the same %s: it takes a filter, or another attribute, to tell users apart", s.opts.Base, s.opts.UserAttribute)
	case err != nil:
		return nil, fmt.Errorf("search below %s: %w", s.opts.Base, err)
	case len(entries) == 0:
		return nil, authn.ErrRefused
	}
	return s.userOf(entries[0], name)
}

// userOf gives the user of an entry the name that the directory writes. Directories
// compare with less care than policies: what isn't the same but for the case of
// letters isn't the user's name.
func (s *Source) userOf(e *ldap.Entry, name string) (*user, error) {
	names := e.GetEqualFoldAttributeValues(s.opts.UserAttribute)
	switch {
	case e.DN == "":
		return nil, fmt.Errorf("an entry without a DN below %s", s.opts.Base) // a bind as "" would be anonymous
	case len(names) == 0:
		return nil, fmt.Errorf("%s has no %s to see: let who searches read it", e.DN, s.opts.UserAttribute)
	}
	i := slices.Index(names, name)
	if i < 0 {
		i = slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	}
	if i < 0 {
		return nil, authn.ErrRefused
	}
	return &user{e, names[i]}, nil
}

// A query is a search. Aliases and referrals are not followed.
type query struct {
	base       string
	scope      int
	filter     string
	most       int // entries
	attributes []string
}

func (s *Source) search(ctx context.Context, q query) ([]*ldap.Entry, error) {
	seconds := int((s.opts.Step + time.Second - 1) / time.Second)
	request := ldap.NewSearchRequest(q.base, q.scope, ldap.NeverDerefAliases, q.most, seconds, false, q.filter, q.attributes, nil)
	request.EnforceSizeLimit = true
	var result *ldap.SearchResult
	err := s.searches.with(ctx, func(c *conn) error {
		return c.ask(ctx, func(l *ldap.Conn) (err error) {
			result, err = l.Search(request)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return result.Entries, nil
}

// values returns all values of an attribute of an entry. Active Directory gives those of
// one with many in pieces, as member;range=0-1499: [MS-ADTS], section 3.1.1.3.1.3.3.
func (s *Source) values(ctx context.Context, e *ldap.Entry, name string) ([]string, error) {
	all := e.GetEqualFoldAttributeValues(name)
	dn := e.DN
	for {
		piece, next := pieceOf(e, name)
		all = append(all, piece...)
		if next <= 0 {
			return all, nil
		}
		if len(all) > s.opts.Groups.Limit {
			return nil, s.tooManyGroups()
		}
		entries, err := s.search(ctx, query{
			base: dn, scope: ldap.ScopeBaseObject, filter: "(objectClass=*)", most: 1,
			attributes: []string{name + ";range=" + strconv.Itoa(next) + "-*"},
		})
		if err != nil {
			return nil, fmt.Errorf("values of %s from %d on: %w", name, next, err)
		}
		if len(entries) == 0 {
			return all, nil // it's gone meanwhile
		}
		e = entries[0]
	}
}

// pieceOf returns some values of an attribute, and where the next ones begin; 0 if
// there are none.
func pieceOf(e *ldap.Entry, name string) (values []string, next int) {
	prefix := name + ";range="
	for _, a := range e.Attributes {
		if len(a.Name) <= len(prefix) || !strings.EqualFold(a.Name[:len(prefix)], prefix) || len(a.Values) == 0 {
			continue
		}
		_, to, _ := strings.Cut(a.Name[len(prefix):], "-")
		last, err := strconv.Atoi(to)
		if err != nil { // "*": these are the last
			return a.Values, 0
		}
		return a.Values, last + 1
	}
	return nil, 0
}
