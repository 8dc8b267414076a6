// Package workload knows workloads by the JWTs that their platform gives them: jobs
// of GitHub Actions and GitLab, service accounts of Kubernetes, anything with a
// SPIFFE JWT-SVID. No password is kept anywhere.
//
// A token comes as "Authorization: Bearer", or as the password of Basic with any user
// name, which is what docker login and imagePullSecrets can do.
package workload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

// A Trust is an issuer whose tokens are accepted, and what they mean.
type Trust struct {
	Issuer issuer.Options

	// Audiences are whom tokens must be for: one of them is enough. Required. A token
	// that was made for somebody else could be passed on by that one.
	Audiences []string

	Mapping Mapping
}

// Tokens finds out whose JWT of a trusted issuer a request has. It is safe for
// concurrent use.
//
// It should come before methods that look up passwords: those take their time for
// a password that's a token.
type Tokens struct {
	provider string
	trusts   []trust
	verified *verified
}

var (
	_ authn.Method = (*Tokens)(nil)
	_ authn.Source = (*Tokens)(nil)
)

type trust struct {
	issuer    *issuer.Issuer
	audiences []string
	mapping   *mapping
}

// New returns the Tokens of the issuers, which are tried in order; several may be
// of one URL. The provider is the Provider of all identities. It fails for an
// expression that doesn't compile, and a file that can't be read, but asks nobody.
func New(provider string, trusts ...Trust) (*Tokens, error) {
	if len(trusts) == 0 {
		return nil, errors.New("no issuer is trusted")
	}
	cache, err := newVerified()
	if err != nil {
		return nil, err
	}
	t := &Tokens{provider: provider, verified: cache}
	issuers := map[issuer.Options]*issuer.Issuer{} // one set of keys for each
	for n, config := range trusts {
		made, err := newTrust(config, issuers)
		if err != nil {
			return nil, fmt.Errorf("issuer %d: %w", n+1, err)
		}
		t.trusts = append(t.trusts, made)
	}
	return t, nil
}

func newTrust(config Trust, issuers map[issuer.Options]*issuer.Issuer) (trust, error) {
	t := trust{audiences: config.Audiences}
	if len(t.audiences) == 0 || slices.Contains(t.audiences, "") {
		return t, errors.New("at least one audience is needed, and none that's empty")
	}
	var err error
	if t.issuer = issuers[config.Issuer]; t.issuer == nil {
		if t.issuer, err = issuer.New(config.Issuer); err != nil {
			return t, err
		}
		issuers[config.Issuer] = t.issuer
	}
	if config.Mapping.User == "" && config.Issuer.URL == "" {
		config.Mapping.User = "claims.sub" // a SPIFFE ID has the trust domain in it
	}
	t.mapping, err = config.Mapping.compile()
	return t, err
}

// Identify implements authn.Method. Tokens of issuers that aren't trusted are left to
// other methods.
func (t *Tokens) Identify(r *http.Request) (authz.Identity, bool, error) {
	raw, ok := credentials(r)
	if !ok {
		return authz.Identity{}, false, nil
	}
	return t.identify(r.Context(), raw)
}

// Authenticate implements authn.Source: the password is a token, and the user's
// name doesn't matter.
func (t *Tokens) Authenticate(ctx context.Context, _, password string) (authz.Identity, error) {
	who, found, err := t.identify(ctx, password)
	if !found {
		return authz.Identity{}, refuse("not a token of an issuer that's trusted")
	}
	return who, err
}

// credentials returns what could be a token of a request.
func credentials(r *http.Request) (string, bool) {
	all := r.Header["Authorization"]
	if len(all) != 1 {
		return "", false
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	scheme, token, _ := strings.Cut(all[0], " ")
	return strings.Trim(token, " "), strings.EqualFold(scheme, "Bearer")
}

func (t *Tokens) identify(ctx context.Context, raw string) (authz.Identity, bool, error) {
	if !issuer.LooksLikeToken(raw) {
		return authz.Identity{}, false, nil
	}
	if len(raw) > issuer.MaxToken {
		return authz.Identity{}, true, refuse("a token of more than %d bytes", issuer.MaxToken)
	}
	key := t.verified.key(raw)
	if who, ok := t.verified.get(ctx, key); ok {
		return who, true, nil
	}
	claims, ok := issuer.Peek(raw)
	if !ok {
		return authz.Identity{}, false, nil
	}
	var refused, unsure error
	found := false
	for _, trust := range t.trusts {
		if !trust.issuer.Named(claims.String("iss"), claims.String("sub")) {
			continue
		}
		found = true
		version := trust.issuer.Version(ctx)
		who, expiry, err := trust.verify(ctx, raw)
		switch {
		case err == nil:
			who.Provider = t.provider
			t.verified.add(key, len(raw), verifiedToken{who, expiry, trust.issuer, version})
			return who, true, nil
		case errors.Is(err, authn.ErrRefused):
			refused = errors.Join(refused, err)
		default:
			unsure = errors.Join(unsure, err)
		}
	}
	if unsure != nil {
		return authz.Identity{}, true, unsure
	}
	return authz.Identity{}, found, refused
}

// checkNames refuses an identity that no rule could mean.
func checkNames(who authz.Identity) error {
	if len(who.Groups) > maxGroups {
		return refuse("more than %d groups", maxGroups)
	}
	for _, s := range append([]string{who.ID}, who.Groups...) {
		if s == "" || len(s) > maxName || strings.ContainsFunc(s, unicode.IsControl) {
			return refuse("a name of a user or a group is empty, longer than %d bytes or not printable", maxName)
		}
	}
	return nil
}

const (
	maxName   = 1024
	maxGroups = 1000
)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", authn.ErrRefused, fmt.Errorf(format, args...))
}
