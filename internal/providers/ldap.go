//go:build !noldap

package providers

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/ldap"
	"github.com/caddy-oci/oci-registry/internal/option"
)

func init() { caddy.RegisterModule(LDAP{}) }

// LDAP asks a directory for users and their groups: it searches for the
// user's entry, and binds as that with the password. All texts may have placeholders
// like {env.NAME} and {file./path}.
type LDAP struct {
	// URLs are the servers, ldaps://HOST or ldap://HOST, which means StartTLS. The next
	// one is asked if one fails. Required.
	URLs []string `json:"urls,omitempty"`

	// Plain lets everybody on the way read the passwords: ldap:// goes without TLS.
	// Default: false.
	Plain bool `json:"plain,omitempty"`

	// CA is a file with further certificates, as PEM, that may vouch for the servers.
	// It's read when the configuration is loaded. Default: the system's alone.
	CA string `json:"ca,omitempty"`

	// ServerName is the name in the servers' certificates. Default: the host of the URL.
	ServerName string `json:"server_name,omitempty"`

	// BindDN and BindPassword are who searches. A password that's a {file./path} is read
	// for each connection. Default: nobody, the search is anonymous.
	BindDN       string `json:"bind_dn,omitempty"`
	BindPassword string `json:"bind_password,omitempty"`

	// Base is the DN that the users are below. Required.
	Base string `json:"base,omitempty"`

	// SingleLevel leaves out what's more than one level below Base. Default: false.
	SingleLevel bool `json:"single_level,omitempty"`

	// UserAttribute has the user's name. Default: uid.
	UserAttribute string `json:"user_attribute,omitempty"`

	// Filter is what else a user's entry must be like. Default: none.
	Filter string `json:"filter,omitempty"`

	// Groups says how a user's groups are found. Default: there are none.
	Groups *LDAPGroups `json:"groups,omitempty"`

	// Timeout is how long a login may take, with all its steps. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	users *users
}

// LDAPGroups says how a user's groups are found: by an attribute of the user, by a
// search, or both.
type LDAPGroups struct {
	// Attribute is that of a user's entry with the groups, such as memberOf. Default: none.
	Attribute string `json:"attribute,omitempty"`

	// Filter finds the groups that a user is in, such as (member={dn}) or
	// (memberUid={user}). Default: none.
	Filter string `json:"filter,omitempty"`

	// Base is the DN below which groups are. Default: that of the users for the search,
	// anywhere for the attribute.
	Base string `json:"base,omitempty"`

	// Name is the attribute of a group's DN that names it, such as cn. Default: none,
	// all of the DN is the name.
	Name string `json:"name,omitempty"`

	// Depth is how many levels of groups in groups are followed. Default: 0.
	Depth int `json:"depth,omitempty"`
}

// CaddyModule implements caddy.Module.
func (LDAP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_ldap", New: func() caddy.Module { return new(LDAP) }}
}

// UnmarshalCaddyfile parses
//
//	oci_ldap URL… {
//		base DN
//		bind DN PASSWORD
//		user_attribute NAME
//		filter FILTER
//		single_level
//		groups {
//			attribute NAME
//			filter FILTER
//			base DN
//			name NAME
//			depth NUMBER
//		}
//		ca FILE
//		server_name NAME
//		plain
//		timeout DURATION
//	}
func (p *LDAP) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	p.URLs = d.RemainingArgs()
	return option.Block(d, option.Set{
		"base":           option.Text(&p.Base, "DN"),
		"bind":           p.unmarshalBind,
		"user_attribute": option.Text(&p.UserAttribute, "NAME"),
		"filter":         option.Text(&p.Filter, "FILTER, like (objectClass=person)"),
		"single_level":   option.Flag(&p.SingleLevel),
		"groups":         p.unmarshalGroups,
		"ca":             option.Text(&p.CA, "FILE"),
		"server_name":    option.Text(&p.ServerName, "NAME"),
		"plain":          option.Flag(&p.Plain),
		"timeout":        option.Duration(&p.Timeout),
	})
}

func (p *LDAP) unmarshalBind(d *caddyfile.Dispenser) (err error) {
	if p.BindDN, err = option.Argument(d, "DN PASSWORD"); err != nil {
		return err
	}
	if !d.NextArg() {
		return d.Errf("bind %s has no password: want bind DN PASSWORD, such as 'bind cn=registry,dc=example {file./run/secrets/ldap}'", p.BindDN)
	}
	p.BindPassword = d.Val()
	return nil
}

func (p *LDAP) unmarshalGroups(d *caddyfile.Dispenser) error {
	p.Groups = new(LDAPGroups)
	return option.Block(d, option.Set{
		"attribute": option.Text(&p.Groups.Attribute, "NAME, like memberOf"),
		"filter":    option.Text(&p.Groups.Filter, "FILTER, like (member={dn})"),
		"base":      option.Text(&p.Groups.Base, "DN"),
		"name":      option.Text(&p.Groups.Name, "NAME, like cn"),
		"depth":     option.Number(&p.Groups.Depth),
	})
}

// ldapStanding is how long a password that the directory has found right counts
// without asking again: for the requests of one push, and no longer.
const ldapStanding = 3 * time.Second

// Provision implements caddy.Provisioner. It asks no server.
func (p *LDAP) Provision(ctx caddy.Context) error {
	opts, err := p.options()
	if err != nil {
		return err
	}
	if opts.Password != nil {
		now, _ := opts.Password() // it was asked before
		option.WarnOfSecret(ctx.Slogger(), "oci_ldap: the password of bind", p.BindPassword, now)
	}
	key, err := p.key(opts)
	if err != nil {
		return err
	}
	verify := authn.VerifiedOptions{TTL: ldapStanding, Concurrency: 8}
	p.users, err = acquireUsers(key, ctx.Slogger(), verify, func(log *slog.Logger) (userSource, error) {
		opts.Log = log
		return ldap.New(opts)
	})
	return err
}

// key says all of what is asked, and how: the options with their placeholders, what
// those stand for, and what is in the file of certificates. It's a hash, since a password
// may stand in the options.
func (p *LDAP) key(o ldap.Options) (string, error) {
	text, err := p.keyText(o)
	sum := sha256.Sum256([]byte(text))
	return "oci_ldap " + hex.EncodeToString(sum[:]), err
}

func (p *LDAP) keyText(o ldap.Options) (string, error) {
	config, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	parts := append([]string{string(config), o.BindDN, o.Base}, o.URLs...)
	if o.TLS != nil {
		parts = append(parts, o.TLS.ServerName)
	}
	ca, err := option.Resolve("ca", p.CA)
	if err != nil || ca == "" {
		return strings.Join(parts, "\n"), err
	}
	pem, err := os.ReadFile(ca) //nolint:gosec // the operator says which file
	if err != nil {
		return "", fmt.Errorf("ca: %w", err)
	}
	sum := sha256.Sum256(pem)
	return strings.Join(append(parts, hex.EncodeToString(sum[:])), "\n"), nil
}

// options are those of the library.
func (p *LDAP) options() (o ldap.Options, err error) {
	o = ldap.Options{
		URLs: make([]string, len(p.URLs)), Plain: p.Plain, SingleLevel: p.SingleLevel, UserAttribute: p.UserAttribute,
		Filter: p.Filter, Limit: time.Duration(p.Timeout),
	}
	for i, u := range p.URLs {
		if o.URLs[i], err = option.Resolve("url", u); err != nil {
			return o, err
		}
	}
	if o.Base, err = option.Resolve("base", p.Base); err != nil {
		return o, err
	}
	if o.BindDN, err = option.Resolve("bind", p.BindDN); err != nil {
		return o, err
	}
	if p.BindPassword != "" {
		o.Password = func() (string, error) { return option.Resolve("password", p.BindPassword) }
		if _, err := o.Password(); err != nil {
			return o, errors.New("bind: the password stands for nothing: is the variable set, is the file there?")
		}
	}
	if g := p.Groups; g != nil {
		o.Groups = ldap.Groups{Attribute: g.Attribute, Filter: g.Filter, Base: g.Base, Name: g.Name, Depth: g.Depth}
	}
	o.TLS, err = p.tls()
	return o, err
}

// tls is how the servers are known; nil for the usual way.
func (p *LDAP) tls() (*tls.Config, error) {
	ca, err := option.Resolve("ca", p.CA)
	if err != nil {
		return nil, err
	}
	name, err := option.Resolve("server_name", p.ServerName)
	if err != nil || ca == "" && name == "" {
		return nil, err
	}
	roots, err := option.RootsWith(ca)
	return &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}, err
}

// Cleanup implements caddy.CleanerUpper.
func (p *LDAP) Cleanup() error {
	u := p.users
	p.users = nil
	return u.release()
}

// Method implements Provider.
func (p *LDAP) Method() authn.Method { return p.users.method() }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *LDAP) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return p.users.authenticate(w, r)
}

var (
	_ Provider              = (*LDAP)(nil)
	_ caddy.Provisioner     = (*LDAP)(nil)
	_ caddy.CleanerUpper    = (*LDAP)(nil)
	_ caddyfile.Unmarshaler = (*LDAP)(nil)
)
