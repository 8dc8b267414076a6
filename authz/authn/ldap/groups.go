package ldap

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// atOnce is how many groups one search looks for the groups of.
const atOnce = 32

// groups returns the names of the groups that a user is in.
func (s *Source) groups(ctx context.Context, u *user) ([]string, error) {
	found, err := s.newGroupSet()
	if err != nil {
		return nil, err
	}
	if err := s.addValues(ctx, found, u.Entry); err != nil {
		return nil, err
	}
	if err := s.addSearched(ctx, found, []string{s.groupFilter(u.DN, u.id)}); err != nil {
		return nil, err
	}
	for range s.opts.Groups.Depth {
		level := found.next()
		if len(level) == 0 {
			break
		}
		if err := s.addLevel(ctx, found, level); err != nil {
			return nil, fmt.Errorf("groups in groups: %w", err)
		}
	}
	return found.names, nil
}

// addLevel adds the groups that groups are in.
func (s *Source) addLevel(ctx context.Context, found *groupSet, dns []string) error {
	if err := s.addAttributes(ctx, found, dns); err != nil {
		return err
	}
	for some := range slices.Chunk(dns, atOnce) {
		var filters []string
		for _, dn := range some {
			filters = append(filters, s.groupFilter(dn, ""))
		}
		if err := s.addSearched(ctx, found, filters); err != nil {
			return err
		}
	}
	return nil
}

// addAttributes adds what the attribute of groups says of them.
func (s *Source) addAttributes(ctx context.Context, found *groupSet, dns []string) error {
	name := s.opts.Groups.Attribute
	if name == "" {
		return nil
	}
	for _, dn := range dns {
		entries, err := s.search(ctx, query{
			base: dn, scope: ldap.ScopeBaseObject, filter: "(objectClass=*)", most: 1, attributes: []string{name},
		})
		if isAnswer(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax) {
			continue // it's gone, or was no DN
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", dn, err)
		}
		for _, e := range entries {
			if err := s.addValues(ctx, found, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// addValues adds what the attribute of an entry says.
func (s *Source) addValues(ctx context.Context, found *groupSet, e *ldap.Entry) error {
	if s.opts.Groups.Attribute == "" {
		return nil
	}
	values, err := s.values(ctx, e, s.opts.Groups.Attribute)
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := found.add(v); err != nil {
			return err
		}
	}
	return nil
}

// addSearched adds the groups that one of the filters finds.
func (s *Source) addSearched(ctx context.Context, found *groupSet, filters []string) error {
	g := s.opts.Groups
	if g.Filter == "" {
		return nil
	}
	base := g.Base
	if base == "" {
		base = s.opts.Base
	}
	entries, err := s.search(ctx, query{
		base: base, scope: ldap.ScopeWholeSubtree, filter: "(|" + strings.Join(filters, "") + ")",
		most: g.Limit + 1, attributes: []string{"1.1"}, // no attributes: RFC 4511, section 4.5.1.8
	})
	if isTooMany(err) {
		return s.tooManyGroups()
	}
	if err != nil {
		return fmt.Errorf("search below %s: %w", base, err)
	}
	for _, e := range entries {
		if err := found.add(e.DN); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) groupFilter(dn, id string) string {
	return strings.NewReplacer("{dn}", ldap.EscapeFilter(dn), "{user}", ldap.EscapeFilter(id)).Replace(s.opts.Groups.Filter)
}

func (s *Source) tooManyGroups() error {
	return fmt.Errorf("more than %d groups, or than the server gives at once: raise the limit, or find fewer by the groups' filter and base", s.opts.Groups.Limit)
}

// A groupSet collects groups, each once however often and in whatever spelling its DN
// comes: so a group that's a member of itself ends no search later than another one.
type groupSet struct {
	opts    Groups
	base    *ldap.DN // nil for anywhere
	tooMany func() error

	seen  map[string]bool // normalized DNs
	names []string
	fresh []string // DNs that next hasn't returned yet
}

func (s *Source) newGroupSet() (*groupSet, error) {
	g := &groupSet{opts: s.opts.Groups, tooMany: s.tooManyGroups, seen: map[string]bool{}}
	if g.opts.Base == "" {
		return g, nil
	}
	var err error
	g.base, err = ldap.ParseDN(g.opts.Base)
	return g, err
}

// next returns the DNs that were added since it was called last.
func (g *groupSet) next() []string {
	fresh := g.fresh
	g.fresh = nil
	return fresh
}

// add adds a group by its DN, or by its name if it isn't one.
func (g *groupSet) add(value string) error {
	if value == "" {
		return nil
	}
	dn, err := ldap.ParseDN(value)
	isDN := err == nil && len(dn.RDNs) > 0
	key := value
	if isDN {
		key = strings.ToLower(dn.String())
	}
	switch {
	case g.seen[key], g.base != nil && (!isDN || !g.base.AncestorOfFold(dn)):
		return nil
	case len(g.seen) >= g.opts.Limit:
		return g.tooMany()
	}
	g.seen[key] = true
	name := value
	if isDN {
		g.fresh = append(g.fresh, value)
		name = g.name(dn, value)
	}
	if !slices.Contains(g.names, name) {
		g.names = append(g.names, name)
	}
	return nil
}

// name returns the name of a group, whose DN the directory writes as value.
func (g *groupSet) name(dn *ldap.DN, value string) string {
	for _, a := range dn.RDNs[0].Attributes {
		if g.opts.Name != "" && strings.EqualFold(a.Type, g.opts.Name) && a.Value != "" {
			return a.Value
		}
	}
	return value
}
