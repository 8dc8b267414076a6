//go:build !nooidc

package ociregistry

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
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
	return parseBlock(d, options{
		"issuer":   p.unmarshalIssuer,
		"path":     anyText(&p.Path, "PATH, like /auth"),
		"lifetime": duration(&p.Lifetime),
		"idle":     duration(&p.Idle),
	}, "issuer")
}

func (p *OIDCProvider) unmarshalIssuer(d *caddyfile.Dispenser) error {
	i, err := issuerOf(d)
	if err != nil {
		return err
	}
	err = parseBlock(d, options{
		"client_id":        anyText(&i.ClientID, "ID"),
		"client_secret":    anyText(&i.ClientSecret, "SECRET, like {file./run/secrets/oidc}"),
		"require_group":    words(&i.RequireGroups, "NAME…"),
		"require_domain":   words(&i.RequireDomains, "DOMAIN…, like example.com"),
		"follow":           duration(&i.Follow),
		"user":             words(&i.User, "CLAIM…, like preferred_username"),
		"unverified_email": isSet(&i.UnverifiedEmail),
		"groups":           words(&i.Groups, "CLAIM…, like realm_access.roles"),
		"scopes":           words(&i.Scopes, "NAME…, like openid email"),
		"name":             anyText(&i.Name, "NAME"),
		"title":            anyText(&i.Title, "TEXT"),
		"no_userinfo":      isSet(&i.NoUserInfo),
		"ca":               anyText(&i.CA, "FILE"),
		"plain_http":       isSet(&i.PlainHTTP),
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

// words parses one or more words.
func words(to *[]string, want string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		*to = d.RemainingArgs()
		if len(*to) == 0 {
			return d.Errf("option %s has no value: want %s %s", name, name, want)
		}
		return nil
	}
}
