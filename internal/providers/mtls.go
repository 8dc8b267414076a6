//go:build !noauth

package providers

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/mtls"
	"github.com/caddy-oci/oci-registry/internal/option"
)

func init() { caddy.RegisterModule(MTLS{}) }

// MTLS knows users by the certificate that their client has shown, and
// that the server has verified: with client_auth in the site's tls, whose mode is
// verify_if_given or require_and_verify.
type MTLS struct {
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
func (MTLS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_mtls", New: func() caddy.Module { return new(MTLS) }}
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
func (p *MTLS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return option.Block(d, option.Set{"user": certificateField(&p.User), "groups": certificateField(&p.Groups)}, "user", "groups")
}

func certificateField(to *[]CertificateField) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		word, err := option.Argument(d, "FIELD [PATTERN]")
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
func (p *MTLS) Provision(caddy.Context) (err error) {
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
func (p *MTLS) Method() authn.Method { return p.method }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *MTLS) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return Authenticate(p.method, w, r)
}

var (
	_ Provider              = (*MTLS)(nil)
	_ caddy.Provisioner     = (*MTLS)(nil)
	_ caddyfile.Unmarshaler = (*MTLS)(nil)
)
