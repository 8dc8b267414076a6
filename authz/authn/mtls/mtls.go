// Package mtls knows who sent a request by the client's certificate.
//
// What counts is a chain that the TLS server has verified. A certificate that was
// only sent (Caddy's client_auth modes "request" and "require" don't verify) is
// refused, and so is one that has none of the names that are looked for: whoever shows
// one isn't anonymous.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// Options configure a Method.
type Options struct {
	// Attributes are where the user's name is, in order: the first that has a value
	// counts. Default: the common name.
	Attributes []Attribute

	// Groups are where names of groups are: all their values count. Default: nowhere.
	Groups []Attribute

	// Provider is what an Identity says about where it's from. Default: "mtls".
	Provider string
}

// Method is the authn.Method of client certificates. It is safe for concurrent use.
type Method struct {
	names, groups []extractor
	provider      string
}

var _ authn.Method = (*Method)(nil)

// New returns a Method, or what's wrong with opts.
func New(opts Options) (*Method, error) {
	if len(opts.Attributes) == 0 {
		opts.Attributes = []Attribute{{Kind: CommonName}}
	}
	if opts.Provider == "" {
		opts.Provider = "mtls"
	}
	m := &Method{provider: opts.Provider}
	var err error
	if m.names, err = compile(opts.Attributes); err != nil {
		return nil, fmt.Errorf("attribute %w", err)
	}
	if m.groups, err = compile(opts.Groups); err != nil {
		return nil, fmt.Errorf("groups: attribute %w", err)
	}
	return m, nil
}

func compile(attributes []Attribute) ([]extractor, error) {
	all := make([]extractor, len(attributes))
	for i, a := range attributes {
		var err error
		if all[i], err = a.compile(); err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	return all, nil
}

var (
	errUnverified = fmt.Errorf("%w: nobody has verified the client's certificate", authn.ErrRefused)
	errExpired    = fmt.Errorf("%w: the client's certificate isn't valid at this time", authn.ErrRefused)
	errNoName     = fmt.Errorf("%w: the client's certificate has none of the names that are looked for", authn.ErrRefused)
)

// Identify implements authn.Method.
func (m *Method) Identify(r *http.Request) (authz.Identity, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 && len(r.TLS.VerifiedChains) == 0 {
		return authz.Identity{}, false, nil
	}
	leaf, err := verifiedLeaf(r.TLS, time.Now())
	if err != nil {
		return authz.Identity{}, true, err
	}
	for _, x := range m.names {
		for name := range x.values(leaf) {
			return authz.Identity{ID: name, Groups: m.groupsOf(leaf), Provider: m.provider}, true, nil
		}
	}
	return authz.Identity{}, true, errNoName
}

// verifiedLeaf returns the client's certificate if the server has verified it, and it
// is still valid: a connection can outlast what it was made with.
func verifiedLeaf(state *tls.ConnectionState, now time.Time) (*x509.Certificate, error) {
	err := errUnverified
	for _, chain := range state.VerifiedChains {
		if len(chain) == 0 {
			continue
		}
		if !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return !validAt(c, now) }) {
			return chain[0], nil
		}
		err = errExpired
	}
	return nil, err
}

func validAt(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

func (m *Method) groupsOf(leaf *x509.Certificate) []string {
	var groups []string
	for _, x := range m.groups {
		for g := range x.values(leaf) {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
	}
	return groups
}
