// Package issuer verifies JWTs that somebody else has signed: OpenID Connect issuers
// such as GitHub Actions, Kubernetes or Keycloak, and SPIFFE trust domains.
//
// Nothing is fetched before it's needed, so an issuer that is down holds up nobody
// at the start. Once its keys are known it may be down again.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/internal/lately"
)

// MaxToken is the size of the largest token that's looked at, in bytes.
const MaxToken = 64 << 10

// Leeway is how far the issuer's clock and ours may be apart.
const Leeway = 30 * time.Second

// How old what was fetched may be, in use.
const (
	metadataAge = time.Hour
	keysAge     = 10 * time.Minute
	keysPause   = 2 * time.Second // between two fetches, whatever tokens say of keys that aren't known
	fileAge     = 2 * time.Second
)

const fetchTime = 10 * time.Second // a request may take so long

// algorithms are those that verify with a public key. A token of another one isn't
// even parsed: "none", and HMAC, whose key would be the public one.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Options say who the issuer is and where its keys are.
type Options struct {
	// URL is what the claim iss must be, to the letter. Keys are found through
	// <URL>/.well-known/openid-configuration unless one of the options below has them.
	URL string

	// TrustDomain is for SPIFFE's JWT-SVIDs, which need not say who issued them: the
	// claim sub must be of this domain, without "spiffe://". Without URL, JWKSURL or
	// KeysFile must be given.
	TrustDomain string

	// JWKSURL is where the keys are, for an issuer without discovery.
	JWKSURL string

	// KeysFile has the keys, as a JWK set or as PEM public keys and certificates. A
	// change is seen within seconds.
	KeysFile string

	// CAFile has the certificates, in PEM, by which the issuer's is checked. Default:
	// those of the system.
	CAFile string

	// TokenFile has a bearer token for the issuer's discovery and JWKSURL, and is read
	// each time: Kubernetes asks for one. No other host is sent it.
	TokenFile string

	// PlainHTTP allows URLs of http:// on other hosts than this one. Whoever sits on
	// the way can then sign in as anybody.
	PlainHTTP bool
}

// An Issuer is one that's trusted to say who somebody is. It is safe for concurrent use.
type Issuer struct {
	options  Options
	client   *http.Client
	metadata *lately.Value[Metadata]
	keys     *lately.Value[[]jose.JSONWebKey]
}

// New returns the issuer. It reads files and asks nobody.
func New(o Options) (*Issuer, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	client, err := newClient(o)
	if err != nil {
		return nil, err
	}
	i := &Issuer{options: o, client: client}
	i.metadata = lately.New(lately.Options[Metadata]{Fetch: i.fetchMetadata, Age: metadataAge, Pause: time.Minute})
	keys := lately.Options[[]jose.JSONWebKey]{Fetch: i.fetchKeys, Age: keysAge, Pause: keysPause, Same: sameKeys}
	if o.KeysFile != "" {
		if _, err := readKeys(o.KeysFile); err != nil {
			return nil, err
		}
		keys.Age, keys.Pause = fileAge, fileAge
		keys.Fetch = func(context.Context) ([]jose.JSONWebKey, error) { return readKeys(o.KeysFile) }
	}
	i.keys = lately.New(keys)
	return i, nil
}

func (o *Options) validate() error {
	switch {
	case o.URL == "" && o.TrustDomain == "":
		return errors.New("an issuer needs its URL, or a trust domain")
	case o.URL == "" && o.JWKSURL == "" && o.KeysFile == "":
		return fmt.Errorf("the trust domain %s needs a JWKS URL or a file with keys", o.TrustDomain)
	case o.JWKSURL != "" && o.KeysFile != "":
		return errors.New("keys are in a file or at a JWKS URL, not both")
	case strings.Contains(o.TrustDomain, "/"):
		return fmt.Errorf("trust domain %q: want a name like example.org, without spiffe://", o.TrustDomain)
	}
	for _, s := range []string{o.URL, o.JWKSURL} {
		// The URL of one with keys in a file is but a name.
		if s == "" || s == o.URL && o.KeysFile != "" {
			continue
		}
		if err := o.checkURL(s); err != nil {
			return err
		}
	}
	return nil
}

// checkURL refuses what keys must not be fetched from.
func (o *Options) checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("parse the issuer's URL: %w", err)
	}
	switch {
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%s: want https://, a host and a path", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && (o.PlainHTTP || isLoopback(u.Hostname())):
		return nil
	}
	return fmt.Errorf("%s: keys are fetched by https only, unless plain HTTP is allowed", u.Redacted())
}

// URL is the issuer's name.
func (i *Issuer) URL() string { return i.options.URL }

// Client is for requests to the issuer: it trusts the issuer's certificate, takes up
// to ten seconds and follows no redirect to plain HTTP.
func (i *Issuer) Client() *http.Client { return i.client }

// Named reports whether a token with these claims says that it is of this issuer.
func (i *Issuer) Named(iss, sub string) bool {
	if d := i.options.TrustDomain; d != "" && !strings.HasPrefix(sub, "spiffe://"+d+"/") {
		return false
	}
	return i.options.URL == "" || i.options.URL == iss
}

// Version changes with the issuer's keys, so what was verified under another
// version must be verified again. It fetches the keys if they're old.
func (i *Issuer) Version(ctx context.Context) uint64 {
	s, _ := i.keys.Get(ctx) // one that can't be asked still has its old keys
	return s.Version
}

// Verify returns what a token says, once it's certain that the issuer signed it and
// that it is valid now. Whom it is for is for the caller to check: Claims.IsFor.
//
// The error is authn.ErrRefused for a token that's wrong, and another one if its key
// isn't known and the issuer can't be asked for it. None has the token in it.
func (i *Issuer) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > MaxToken {
		return nil, refuse("a token of more than %d bytes", MaxToken)
	}
	jws, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, refuse("not a JWT, or one of an algorithm that isn't accepted")
	}
	if err = checkHeader(jws); err != nil {
		return nil, err
	}
	payload, err := i.verifySignature(ctx, jws)
	if err != nil {
		return nil, err
	}
	claims, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if !i.Named(claims.String("iss"), claims.String("sub")) {
		return nil, refuse("the token is of another issuer")
	}
	if err := claims.checkTime(time.Now()); err != nil {
		return nil, err
	}
	return claims, nil
}

// checkHeader refuses tokens that are made for something else, RFC 8725 3.11, and
// those with a condition that isn't understood.
func checkHeader(jws *jose.JSONWebSignature) error {
	header := jws.Signatures[0].Protected
	if _, ok := header.ExtraHeaders["crit"]; ok {
		return refuse("the token's header has conditions")
	}
	typ, ok := header.ExtraHeaders[jose.HeaderType]
	if !ok {
		return nil
	}
	s, _ := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(s), "application/") {
	case "jwt", "jose", "at+jwt":
		return nil
	}
	return refuse("a token of type %q", s)
}

func (i *Issuer) verifySignature(ctx context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	known, err := i.keys.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the keys of %s: %w", i.name(), err)
	}
	if payload, ok := verifyWith(known.Value, jws); ok {
		return payload, nil
	}
	// Maybe the issuer has a new key.
	newer, err := i.keys.Newer(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("get new keys of %s: %w", i.name(), err)
	}
	if payload, ok := verifyWith(newer.Value, jws); ok {
		return payload, nil
	}
	return nil, refuse("the token isn't signed with a key of %s", i.name())
}

// name is what errors call the issuer.
func (i *Issuer) name() string {
	if i.options.URL == "" {
		return i.options.TrustDomain
	}
	return i.options.URL
}

// refuse returns an error that is authn.ErrRefused.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", authn.ErrRefused, fmt.Errorf(format, args...))
}
