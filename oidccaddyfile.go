//go:build !nooidc

package ociregistry

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
	"github.com/caddy-oci/oci-registry/internal/option"
)

// UnmarshalCaddyfile parses
//
//	oci_oidc {
//		issuer [KIND] [URL] {
//			client_id ID
//			client_secret SECRET
//			require_group NAME…
//			require_domain DOMAIN…
//			follow DURATION
//			user CLAIM…
//			unverified_email
//			groups CLAIM…
//			scopes NAME…
//			name NAME
//			title TEXT
//			no_userinfo
//			ca FILE
//			plain_http
//		}
//		path PATH
//		lifetime DURATION
//		idle DURATION
//	}
func (p *OIDCProvider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return option.Block(d, option.Set{
		"issuer":   p.unmarshalIssuer,
		"path":     option.Text(&p.Path, "PATH, like /auth"),
		"lifetime": option.Duration(&p.Lifetime),
		"idle":     option.Duration(&p.Idle),
	}, "issuer")
}

func (p *OIDCProvider) unmarshalIssuer(d *caddyfile.Dispenser) error {
	i, err := issuerOf(d)
	if err != nil {
		return err
	}
	err = option.Block(d, option.Set{
		"client_id":        option.Text(&i.ClientID, "ID"),
		"client_secret":    option.Text(&i.ClientSecret, "SECRET, like {file./run/secrets/oidc}"),
		"require_group":    option.Words(&i.RequireGroups, "NAME…"),
		"require_domain":   option.Words(&i.RequireDomains, "DOMAIN…, like example.com"),
		"follow":           option.Duration(&i.Follow),
		"user":             option.Words(&i.User, "CLAIM…, like preferred_username"),
		"unverified_email": option.Flag(&i.UnverifiedEmail),
		"groups":           option.Words(&i.Groups, "CLAIM…, like realm_access.roles"),
		"scopes":           option.Words(&i.Scopes, "NAME…, like openid email"),
		"name":             option.Text(&i.Name, "NAME"),
		"title":            option.Text(&i.Title, "TEXT"),
		"no_userinfo":      option.Flag(&i.NoUserInfo),
		"ca":               option.Text(&i.CA, "FILE"),
		"plain_http":       option.Flag(&i.PlainHTTP),
	})
	p.Issuers = append(p.Issuers, i)
	return err
}

// issuerOf parses [KIND] [URL].
func issuerOf(d *caddyfile.Dispenser) (i OIDCIssuer, err error) {
	args := d.RemainingArgs()
	if len(args) > 0 && slices.Contains(oidc.Kinds(), oidc.Kind(args[0])) {
		i.Kind, args = oidc.Kind(args[0]), args[1:]
	}
	if len(args) > 0 {
		i.URL, args = args[0], args[1:]
	}
	switch {
	case len(args) > 0, i.URL != "" && !strings.Contains(i.URL, "://") && !strings.Contains(i.URL, "{"):
		return i, d.Errf("issuer: want issuer [KIND] URL, such as 'issuer keycloak https://sso.example.com/realms/team', or one of google, github and gitlab alone; kinds are %q", oidc.Kinds())
	case i.Kind == "" && i.URL == "":
		return i, d.Errf("issuer has no value: want issuer [KIND] URL { … }")
	}
	return i, nil
}
