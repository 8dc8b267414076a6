//go:build !noworkload

package providers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/workload"
	"github.com/caddy-oci/oci-registry/internal/option"
)

func init() { caddy.RegisterModule(Workload{}) }

// Workload knows workloads by the JWTs that their platform gives them: jobs
// of GitHub Actions and GitLab, service accounts of Kubernetes, anything with a SPIFFE
// JWT-SVID. A token comes as a bearer, or as the password of any user name.
type Workload struct {
	// Issuers are those whose tokens are accepted, and what they mean. They're tried in
	// order. Required.
	Issuers []WorkloadIssuer `json:"issuers,omitempty"`

	tokens *sharedTokens
	open   []string // issuers without a validation
}

// WorkloadIssuer is somebody who says who a workload is. Its URLs and files may have
// placeholders like {env.NAME}.
type WorkloadIssuer struct {
	// URL is what the claim iss must be, to the letter. Default: empty, TrustDomain says
	// who it is.
	URL string `json:"url,omitempty"`

	// TrustDomain is that of SPIFFE IDs, which the claim sub must be of. Default: none.
	TrustDomain string `json:"trust_domain,omitempty"`

	// JWKSURL and KeysFile have the issuer's keys. Default: they're found by URL.
	JWKSURL  string `json:"jwks_url,omitempty"`
	KeysFile string `json:"keys_file,omitempty"`

	// CA is a file with the certificates that vouch for the issuer. Default: the system's.
	CA string `json:"ca,omitempty"`

	// TokenFile has a bearer token to ask the issuer for its keys with, as Kubernetes
	// wants one. Default: none.
	TokenFile string `json:"token_file,omitempty"`

	// PlainHTTP allows URLs without TLS on other hosts than this. Default: false.
	PlainHTTP bool `json:"plain_http,omitempty"`

	// Audiences are whom tokens must be for: one of them is enough. Required.
	Audiences []string `json:"audiences,omitempty"`

	// Variables are computed in order, in CEL, for the expressions after them, which
	// know them as vars.NAME. Default: none.
	Variables []WorkloadVariable `json:"variables,omitempty"`

	// Validations must all be true, in CEL. Default: none.
	Validations []WorkloadValidation `json:"validations,omitempty"`

	// User is the user's name, in CEL. Default: claims.iss + '/' + claims.sub, or
	// claims.sub of a trust domain.
	User string `json:"user,omitempty"`

	// Groups are the groups, in CEL: a list of strings. Default: none.
	Groups string `json:"groups,omitempty"`
}

// WorkloadVariable is a value with a name.
type WorkloadVariable struct {
	Name       string `json:"name,omitempty"`
	Expression string `json:"expression,omitempty"`
}

// WorkloadValidation is a condition, and what the log says if it isn't met.
type WorkloadValidation struct {
	Expression string `json:"expression,omitempty"`
	Message    string `json:"message,omitempty"`
}

// CaddyModule implements caddy.Module.
func (Workload) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_workload", New: func() caddy.Module { return new(Workload) }}
}

// UnmarshalCaddyfile parses
//
//	oci_workload {
//		issuer URL|spiffe://TRUST_DOMAIN {
//			audience NAME…
//			user EXPRESSION
//			groups EXPRESSION
//			validate EXPRESSION [MESSAGE]
//			variable NAME EXPRESSION
//			jwks_url URL
//			keys_file FILE
//			ca FILE
//			token_file FILE
//			plain_http
//		}
//	}
func (p *Workload) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return option.Block(d, option.Set{"issuer": p.unmarshalIssuer}, "issuer")
}

func (p *Workload) unmarshalIssuer(d *caddyfile.Dispenser) error {
	url, err := option.Argument(d, "URL { … }")
	if err != nil {
		return err
	}
	i := WorkloadIssuer{URL: url}
	if domain, ok := strings.CutPrefix(url, "spiffe://"); ok {
		i.URL, i.TrustDomain = "", domain
	}
	err = option.Block(d, option.Set{
		"audience":   i.unmarshalAudience,
		"user":       option.Text(&i.User, "EXPRESSION, like claims.sub"),
		"groups":     option.Text(&i.Groups, "EXPRESSION, like claims.groups"),
		"validate":   i.unmarshalValidation,
		"variable":   i.unmarshalVariable,
		"jwks_url":   option.Text(&i.JWKSURL, "URL"),
		"keys_file":  option.Text(&i.KeysFile, "FILE"),
		"ca":         option.Text(&i.CA, "FILE"),
		"token_file": option.Text(&i.TokenFile, "FILE"),
		"plain_http": option.Flag(&i.PlainHTTP),
	}, "audience", "validate", "variable")
	p.Issuers = append(p.Issuers, i)
	return err
}

func (i *WorkloadIssuer) unmarshalAudience(d *caddyfile.Dispenser) error {
	all := d.RemainingArgs()
	if len(all) == 0 {
		return d.Errf("audience: whom must tokens be for? Want audience NAME…")
	}
	i.Audiences = append(i.Audiences, all...)
	return nil
}

func (i *WorkloadIssuer) unmarshalValidation(d *caddyfile.Dispenser) (err error) {
	var v WorkloadValidation
	if v.Expression, err = option.Argument(d, "EXPRESSION [MESSAGE]"); err != nil {
		return err
	}
	if d.NextArg() {
		v.Message = d.Val()
	}
	i.Validations = append(i.Validations, v)
	return nil
}

func (i *WorkloadIssuer) unmarshalVariable(d *caddyfile.Dispenser) (err error) {
	var v WorkloadVariable
	if v.Name, err = option.Argument(d, "NAME EXPRESSION"); err != nil {
		return err
	}
	if !d.NextArg() {
		return d.Errf("variable %s is nothing: want variable NAME EXPRESSION", v.Name)
	}
	v.Expression = d.Val()
	i.Variables = append(i.Variables, v)
	return nil
}

// Provision compiles the expressions. It asks no issuer.
func (p *Workload) Provision(caddy.Context) error {
	if len(p.Issuers) == 0 {
		return errors.New("oci_workload trusts nobody: write 'issuer URL { … }' in its block")
	}
	trusts := make([]workload.Trust, len(p.Issuers))
	for n, i := range p.Issuers {
		var err error
		if trusts[n], err = i.trust(); err != nil {
			return fmt.Errorf("issuer %d: %w", n+1, err)
		}
		if len(i.Validations) == 0 {
			p.open = append(p.open, cmp.Or(trusts[n].Issuer.URL, "spiffe://"+i.TrustDomain))
		}
	}
	var err error
	p.tokens, err = acquireTokens(trusts)
	return err
}

// trust is the issuer as package workload has it.
func (i WorkloadIssuer) trust() (workload.Trust, error) {
	t := workload.Trust{
		Issuer:    issuer.Options{TrustDomain: i.TrustDomain, PlainHTTP: i.PlainHTTP},
		Audiences: i.Audiences,
		Mapping:   workload.Mapping{User: i.User, Groups: i.Groups},
	}
	for _, v := range i.Variables {
		t.Mapping.Variables = append(t.Mapping.Variables, workload.Variable(v))
	}
	for _, v := range i.Validations {
		t.Mapping.Validations = append(t.Mapping.Validations, workload.Validation(v))
	}
	for _, o := range []struct {
		name, value string
		to          *string
	}{
		{"issuer", i.URL, &t.Issuer.URL},
		{"jwks_url", i.JWKSURL, &t.Issuer.JWKSURL},
		{"keys_file", i.KeysFile, &t.Issuer.KeysFile},
		{"ca", i.CA, &t.Issuer.CAFile},
		{"token_file", i.TokenFile, &t.Issuer.TokenFile},
	} {
		var err error
		if *o.to, err = option.Resolve(o.name, o.value); err != nil {
			return t, err
		}
	}
	return t, nil
}

// tokenPool has what is known of issuers and of their tokens, by configuration. It
// outlives configurations, so a reload asks no issuer for its keys again.
var tokenPool = caddy.NewUsagePool()

// sharedTokens is a share in a workload.Tokens.
type sharedTokens struct {
	*workload.Tokens

	key string
}

func acquireTokens(trusts []workload.Trust) (*sharedTokens, error) {
	config, err := json.Marshal(trusts)
	if err != nil {
		return nil, err
	}
	key := string(config)
	shared, _, err := tokenPool.LoadOrNew(key, func() (caddy.Destructor, error) {
		made, problem := workload.New("workload", trusts...)
		return &sharedTokens{made, key}, problem
	})
	t, _ := shared.(*sharedTokens)
	return t, err
}

// Destruct implements caddy.Destructor. There's nothing to be closed.
func (t *sharedTokens) Destruct() error { return nil }

// Cleanup implements caddy.CleanerUpper.
func (p *Workload) Cleanup() error {
	if p.tokens == nil {
		return nil
	}
	key := p.tokens.key
	p.tokens = nil
	_, err := tokenPool.Delete(key)
	return err
}

// Method implements Provider.
func (p *Workload) Method() authn.Method { return asPassword{p.tokens.Tokens} }

// TrustsAll implements Trusting.
func (p *Workload) TrustsAll() []string { return p.open }

// asPassword is a Method whose tokens go as passwords, too: so clients can be asked
// for one.
type asPassword struct{ authn.Method }

// Challenge implements authn.Challenger.
func (asPassword) Challenge(r *http.Request) string { return authn.Basic{}.Challenge(r) }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *Workload) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return Authenticate(p.Method(), w, r)
}

var (
	_ Provider              = (*Workload)(nil)
	_ caddy.Provisioner     = (*Workload)(nil)
	_ caddy.CleanerUpper    = (*Workload)(nil)
	_ caddyfile.Unmarshaler = (*Workload)(nil)
)
