//go:build !noauth

package ociregistry

import (
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/htpasswd"
	"github.com/caddy-oci/oci-registry/authz/authn/mtls"
)

func init() {
	caddy.RegisterModule(HtpasswdProvider{})
	caddy.RegisterModule(MTLSProvider{})
}

// HtpasswdProvider knows users by a file of names and hashes of passwords, as
// Apache's htpasswd makes it: bcrypt, SHA-crypt or argon2id. The file is watched: what
// it says counts within 5 seconds, without a reload.
type HtpasswdProvider struct {
	// File is the file. Placeholders like {env.NAME} are replaced. Required.
	File string `json:"file,omitempty"`

	users *users
}

// CaddyModule implements caddy.Module.
func (HtpasswdProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_htpasswd", New: func() caddy.Module { return new(HtpasswdProvider) }}
}

// UnmarshalCaddyfile parses
//
//	oci_htpasswd FILE
//	oci_htpasswd {
//		file FILE
//	}
func (p *HtpasswdProvider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		p.File = d.Val()
		return parseBlock(d, nil)
	}
	return parseBlock(d, options{"file": text(&p.File, nil)})
}

// Provision reads the file. One that's broken is an error, though an earlier
// configuration may go on with what it had read before.
func (p *HtpasswdProvider) Provision(ctx caddy.Context) error {
	if p.File == "" {
		return errors.New("oci_htpasswd has no file: write 'file PATH' in its block, or the path after its name")
	}
	path, err := resolve("file", p.File)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := htpasswd.Check(path); err != nil {
		return err
	}
	p.users, err = acquireUsers("oci_htpasswd "+path, ctx.Slogger(), authn.VerifiedOptions{}, func(log *slog.Logger) (userSource, error) {
		return htpasswd.Open(path, htpasswd.Options{Log: log})
	})
	return err
}

// Cleanup implements caddy.CleanerUpper.
func (p *HtpasswdProvider) Cleanup() error {
	u := p.users
	p.users = nil
	return u.release()
}

// Method implements Provider.
func (p *HtpasswdProvider) Method() authn.Method { return p.users.method() }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *HtpasswdProvider) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return p.users.authenticate(w, r)
}

// MTLSProvider knows users by the certificate that their client has shown, and
// that the server has verified: with client_auth in the site's tls, whose mode is
// verify_if_given or require_and_verify.
type MTLSProvider struct {
	// User is where the user's name is, in order: the first that has a value counts.
	// Default: the common name.
	User []CertificateField `json:"user,omitempty"`

	// Groups are where names of groups are: all their values count. Default: nowhere.
	Groups []CertificateField `json:"groups,omitempty"`

	method *mtls.Method
}

// CertificateField is a place in a certificate that has names in it.
type CertificateField struct {
	// Field is common_name, subject (all of it, like CN=alice,O=Example), organization,
	// organizational_unit, dns, email, uri or spiffe. Required.
	Field mtls.Kind `json:"field,omitempty"`

	// Pattern is a regular expression that a whole value must match; what its first
	// group matches is the name. Default: any value, and all of it.
	Pattern string `json:"pattern,omitempty"`

	// Index says which of several values counts, from 1. Default: 0, the first that
	// matches.
	Index int `json:"index,omitempty"`

	// TrustDomain is that of SPIFFE IDs, like example.org. Required for spiffe.
	TrustDomain string `json:"trust_domain,omitempty"`
}

// CaddyModule implements caddy.Module.
func (MTLSProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_mtls", New: func() caddy.Module { return new(MTLSProvider) }}
}

// UnmarshalCaddyfile parses
//
//	oci_mtls {
//		user FIELD [PATTERN]
//		groups FIELD [PATTERN]
//	}
//
// Both may be given several times. What follows spiffe is the trust domain, and then
// the pattern.
func (p *MTLSProvider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return parseBlock(d, options{"user": certificateField(&p.User), "groups": certificateField(&p.Groups)}, "user", "groups")
}

func certificateField(to *[]CertificateField) option {
	return func(d *caddyfile.Dispenser) error {
		word, err := argument(d, "FIELD [PATTERN]")
		if err != nil {
			return err
		}
		f := CertificateField{Field: mtls.Kind(word)}
		if f.Field == mtls.SPIFFE && d.NextArg() {
			f.TrustDomain = d.Val()
		}
		if d.NextArg() {
			f.Pattern = d.Val()
		}
		*to = append(*to, f)
		return nil
	}
}

// Provision implements caddy.Provisioner.
func (p *MTLSProvider) Provision(caddy.Context) (err error) {
	p.method, err = mtls.New(mtls.Options{Attributes: attributes(p.User), Groups: attributes(p.Groups)})
	return err
}

func attributes(fields []CertificateField) []mtls.Attribute {
	all := make([]mtls.Attribute, len(fields))
	for i, f := range fields {
		all[i] = mtls.Attribute{Kind: f.Field, Pattern: f.Pattern, Index: f.Index, TrustDomain: f.TrustDomain}
	}
	return all
}

// Method implements Provider.
func (p *MTLSProvider) Method() authn.Method { return p.method }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *MTLSProvider) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return authenticate(p.method, w, r)
}

var (
	_ Provider              = (*HtpasswdProvider)(nil)
	_ caddy.Provisioner     = (*HtpasswdProvider)(nil)
	_ caddy.CleanerUpper    = (*HtpasswdProvider)(nil)
	_ caddyfile.Unmarshaler = (*HtpasswdProvider)(nil)
	_ Provider              = (*MTLSProvider)(nil)
	_ caddy.Provisioner     = (*MTLSProvider)(nil)
	_ caddyfile.Unmarshaler = (*MTLSProvider)(nil)
)
