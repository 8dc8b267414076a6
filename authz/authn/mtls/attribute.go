package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind says what in a certificate is looked at.
type Kind string

// The kinds.
const (
	CommonName         Kind = "common_name"         // of the subject
	Subject            Kind = "subject"             // all of it, as RFC 2253 writes it: CN=alice,O=Example
	Organization       Kind = "organization"        // of the subject
	OrganizationalUnit Kind = "organizational_unit" // of the subject
	DNS                Kind = "dns"                 // DNS names among the subject alternative names
	Email              Kind = "email"               // mail addresses among them
	URI                Kind = "uri"                 // URIs among them
	SPIFFE             Kind = "spiffe"              // the SPIFFE ID, which is the only URI among them
)

// Attribute is a place in a certificate that has names in it.
type Attribute struct {
	Kind Kind

	// Pattern is a regular expression that a whole value must match; what its first
	// group matches is the name. Default: any value, and all of it is the name.
	Pattern string

	// Index says which of several values counts, from 1. Default: 0, the first that
	// matches.
	Index int

	// TrustDomain is that of SPIFFE IDs. Required for SPIFFE, and for nothing else.
	TrustDomain string
}

// extractor is an Attribute that is ready to be used.
type extractor struct {
	list    func(*x509.Certificate) []string
	pattern *regexp.Regexp // nil is anything
	index   int
}

// kinds are those of which a certificate has a list of values.
var kinds = map[Kind]func(*x509.Certificate) []string{
	CommonName:         func(c *x509.Certificate) []string { return []string{c.Subject.CommonName} },
	Subject:            func(c *x509.Certificate) []string { return []string{c.Subject.String()} },
	Organization:       func(c *x509.Certificate) []string { return c.Subject.Organization },
	OrganizationalUnit: func(c *x509.Certificate) []string { return c.Subject.OrganizationalUnit },
	DNS:                func(c *x509.Certificate) []string { return c.DNSNames },
	Email:              func(c *x509.Certificate) []string { return c.EmailAddresses },
	URI:                uris,
}

func uris(c *x509.Certificate) []string {
	all := make([]string, len(c.URIs))
	for i, u := range c.URIs {
		all[i] = u.String()
	}
	return all
}

func (a Attribute) compile() (x extractor, err error) {
	x.index = a.Index
	if a.Kind == SPIFFE {
		x.list, err = spiffeIDs(a.TrustDomain)
	} else {
		x.list, err = a.plain()
	}
	if err != nil {
		return x, err
	}
	if a.Index < 0 {
		return x, fmt.Errorf("index %d: they count from 1", a.Index)
	}
	if a.Pattern == "" {
		return x, nil
	}
	if _, err = regexp.Compile(a.Pattern); err != nil { // "a)|(b" is one only in parentheses
		return x, fmt.Errorf("pattern: %w", err)
	}
	// The whole value, or "spiffe://a/(.*)" would be found in "https://b/?spiffe://a/root".
	x.pattern, err = regexp.Compile(`\A(?:` + a.Pattern + `)\z`)
	return x, err
}

func (a Attribute) plain() (func(*x509.Certificate) []string, error) {
	list, ok := kinds[a.Kind]
	switch {
	case !ok:
		return nil, fmt.Errorf("%q: want common_name, subject, organization, organizational_unit, dns, email, uri or spiffe", a.Kind)
	case a.TrustDomain != "":
		return nil, fmt.Errorf("%s has no trust domain, only spiffe has", a.Kind)
	}
	return list, nil
}

// values yields the names that a certificate has at the place. A value with control
// characters in it, or that isn't UTF-8, is none.
func (x extractor) values(c *x509.Certificate) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, v := range x.list(c) {
			if x.index > 0 && x.index != i+1 {
				continue
			}
			if name := x.name(v); isName(v) && isName(name) && !yield(name) {
				return
			}
		}
	}
}

// name returns what of a value is the name, or nothing.
func (x extractor) name(value string) string {
	if x.pattern == nil {
		return value
	}
	switch groups := x.pattern.FindStringSubmatch(value); len(groups) {
	case 0:
		return ""
	case 1:
		return value
	default:
		return groups[1]
	}
}

func isName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// spiffeIDs returns what yields the SPIFFE ID of a certificate, if that's one of a
// workload of the trust domain. A certificate with several URIs is no SVID
// (X509-SVID, section 2), so it has none.
func spiffeIDs(trustDomain string) (func(*x509.Certificate) []string, error) {
	if trustDomain == "" {
		return nil, errors.New("spiffe needs a trust domain, like example.org")
	}
	if !isTrustDomain(trustDomain) {
		return nil, errors.New("a trust domain consists of a-z, 0-9, '.', '-' and '_', like example.org")
	}
	return func(c *x509.Certificate) []string {
		if len(c.URIs) != 1 || !isSPIFFE(c.URIs[0], trustDomain) {
			return nil
		}
		return uris(c)
	}, nil
}

func isSPIFFE(u *url.URL, trustDomain string) bool {
	path, rooted := strings.CutPrefix(u.Path, "/")
	return u.String() == "spiffe://"+trustDomain+u.Path && rooted && // no user, port, query, escapes
		!slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return !isSegment(s) })
}

// What SPIFFE IDs consist of (SPIFFE-ID, sections 2.1 and 2.2).
const (
	trustDomainLetters = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	segmentLetters     = trustDomainLetters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func isTrustDomain(s string) bool { return strings.Trim(s, trustDomainLetters) == "" }

func isSegment(s string) bool {
	return s != "" && s != "." && s != ".." && strings.Trim(s, segmentLetters) == ""
}
