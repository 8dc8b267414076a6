package ldap

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Options says where the directory is, and what its entries are like.
type Options struct {
	// URLs are the servers of the directory, ldaps://HOST[:PORT] or ldap://HOST[:PORT].
	// They're tried in order; one that failed comes last for 30 seconds. Required.
	URLs []string

	// Plain lets everybody on the way read the passwords: ldap:// goes without TLS.
	// Default: false, ldap:// means StartTLS, and a server that can't isn't asked.
	Plain bool

	// TLS is how servers are known. Default: by the system's certificates, and by
	// the host's name in the URL.
	TLS *tls.Config

	// BindDN is who searches. Default: nobody, the search is anonymous.
	BindDN string

	// Password returns the password of BindDN. It is called for each new connection,
	// so a password that changes needs no new Source. Required with BindDN.
	Password func() (string, error)

	// Base is the DN below which the users are. Required.
	Base string

	// SingleLevel leaves out what is more than one level below Base. Default: false.
	SingleLevel bool

	// UserAttribute has the user's name. It's the ID of the user's Identity as the
	// directory writes it, however the letters' case was typed. Default: uid.
	UserAttribute string

	// Filter is what else a user's entry must be like, such as not disabled:
	// (!(userAccountControl:1.2.840.113556.1.4.803:=2)) with Active Directory,
	// (!(nsAccountLock=TRUE)) with 389. Default: none.
	Filter string

	// Groups says how a user's groups are found. Default: there are none.
	Groups Groups

	// Connections is how many there may be at once for searches, and as many again
	// for binds. Default: 8.
	Connections int

	// Idle is how long a connection is kept that nobody needs. Default: 1 minute.
	Idle time.Duration

	// Step is how long the server may take for each step: to connect, with TLS; to
	// answer one bind or one search. Default: 3 seconds.
	Step time.Duration

	// Limit is how long one call of the Source takes at most, with waiting for a
	// connection, a second attempt and all its steps. Default: 10 seconds.
	Limit time.Duration

	// Provider is what an Identity says of where it's from. Default: ldap.
	Provider string

	// Dial connects to a server. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Log is told of servers that fail while others don't. Default: nobody.
	Log *slog.Logger
}

// Groups says how a user's groups are found: by an attribute of the user, by a
// search, or both.
type Groups struct {
	// Attribute is that of a user's entry with the groups, such as memberOf. Its values
	// are DNs or names. Default: none.
	Attribute string

	// Filter finds the groups that a user is a member of, such as (member={dn}) or
	// (memberUid={user}): {dn} is the DN of the user's entry, {user} the user's ID.
	// Either stands for a whole value, after "=" and before ")". Default: none.
	Filter string

	// Base is the DN below which groups are. Others don't count, wherever they're
	// found. Default: Options.Base for the search; anywhere for Attribute.
	Base string

	// Name is the attribute of a group's DN that names the group, such as cn: of
	// CN=Release,OU=Groups,DC=example that's Release. Only the DN's first part counts;
	// a group whose first part has no such attribute is named by its DN. Whoever may
	// make a group below Base can give it the name of another one elsewhere below it.
	// Default: none, the DN as the directory writes it.
	Name string

	// Depth is how many levels of groups in groups are followed, up to 16. Filter must
	// then be free of {user}. Default: 0, groups of users only.
	Depth int

	// Limit is how many groups a user may be in, up to 5000. With more there's an error
	// that isn't authn.ErrRefused. Default: 1000.
	Limit int
}

// maxDepth bounds Groups.Depth, maxGroups Groups.Limit.
const maxDepth, maxGroups = 16, 5000

func (o Options) withDefaults() Options {
	o.UserAttribute = cmp.Or(o.UserAttribute, "uid")
	o.Connections = cmp.Or(o.Connections, 8)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.Step = cmp.Or(o.Step, 3*time.Second)
	o.Limit = cmp.Or(o.Limit, 10*time.Second)
	o.Provider = cmp.Or(o.Provider, "ldap")
	o.Groups.Limit = cmp.Or(o.Groups.Limit, 1000)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// check refuses what can't be meant. Its errors go to whoever wrote the configuration.
func (o Options) check() error {
	switch {
	case len(o.URLs) == 0:
		return errors.New("no URL of a server: give one like ldaps://directory.example.com")
	case o.Base == "":
		return errors.New("no base: give the DN that the users are below, like ou=people,dc=example,dc=com")
	case o.BindDN != "" && o.Password == nil:
		return fmt.Errorf("no password to bind as %s with", o.BindDN)
	case o.BindDN == "" && o.Password != nil:
		return errors.New("a password, and nobody to bind as with it: give the DN too, or neither to search anonymously")
	case o.Connections < 0 || o.Idle < 0 || o.Step < 0 || o.Limit < 0:
		return errors.New("numbers of connections and times must not be negative; 0 is the default")
	case o.Plain && o.TLS != nil:
		return errors.New("both TLS and none: how servers are known means nothing without it")
	}
	return errors.Join(
		checkDN("base", o.Base),
		checkDN("bind DN", o.BindDN),
		checkAttribute("user attribute", o.UserAttribute),
		checkFilter("filter", o.Filter),
		o.Groups.check(),
	)
}

func (g Groups) check() error {
	switch {
	case g.Depth < 0 || g.Depth > maxDepth:
		return fmt.Errorf("groups in groups: %d levels: want 0 to %d", g.Depth, maxDepth)
	case g.Limit < 0 || g.Limit > maxGroups:
		return fmt.Errorf("a user's groups: %d: must not be negative, nor more than %d; 0 is the default", g.Limit, maxGroups)
	case g.Attribute == "" && g.Filter == "" && (g.Base != "" || g.Name != "" || g.Depth != 0):
		return errors.New("no groups would be found: give the attribute with a user's groups, like memberOf, or a filter, like (member={dn})")
	case g.Depth > 0 && strings.Contains(g.Filter, "{user}"):
		return errors.New("groups in groups have no user's name: a filter with {user} can't find them; leave out the levels, or use {dn}")
	}
	if g.Filter != "" {
		if err := checkPlaceholders(g.Filter); err != nil {
			return err
		}
	}
	return errors.Join(
		checkDN("base of groups", g.Base),
		checkAttribute("attribute of groups", g.Attribute),
		checkAttribute("name of groups", g.Name),
		checkFilter("filter of groups", g.Filter),
	)
}

// checkPlaceholders makes sure that a placeholder is a whole value, where nothing that
// replaces it can be taken for something else.
func checkPlaceholders(filter string) error {
	n := 0
	for _, p := range []string{"{dn}", "{user}"} {
		n += strings.Count(filter, p)
		if strings.Count(filter, p) != strings.Count(filter, "="+p+")") {
			return fmt.Errorf("filter of groups %q: %s stands for a whole value: want (ATTRIBUTE=%s)", filter, p, p)
		}
	}
	if n == 0 {
		return fmt.Errorf("filter of groups %q finds the same groups for all users: want {dn} or {user} in it, like (member={dn})", filter)
	}
	return nil
}

func checkFilter(what, filter string) error {
	if filter == "" {
		return nil
	}
	if _, err := ldap.CompileFilter(filter); err != nil {
		return fmt.Errorf("%s %q: want one like (objectClass=person): %w", what, filter, err)
	}
	return nil
}

func checkDN(what, dn string) error {
	if _, err := ldap.ParseDN(dn); err != nil {
		return fmt.Errorf("%s %q: want a DN like ou=people,dc=example,dc=com: %w", what, dn, err)
	}
	return nil
}

// attribute is an attribute type by name or number: RFC 4512, section 1.4.
var attribute = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)$`)

func checkAttribute(what, name string) error {
	if name != "" && !attribute.MatchString(name) {
		return fmt.Errorf("%s %q: want the name of an attribute, like uid", what, name)
	}
	return nil
}

// parseURL returns a server's host and address, and whether TLS is there from the start.
func parseURL(raw string) (host, address string, secure bool, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", false, errors.New("URL of a server: want ldaps://HOST, ldaps://HOST:PORT or the like with ldap, and nothing else")
	}
	port := map[string]string{"ldaps": ldap.DefaultLdapsPort, "ldap": ldap.DefaultLdapPort}[u.Scheme]
	if port == "" {
		return "", "", false, fmt.Errorf("URL of a server: scheme %q: want ldaps, or ldap, which is made secure by StartTLS", u.Scheme)
	}
	return u.Hostname(), net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)), u.Scheme == "ldaps", nil
}
