package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

// person is who somebody is at a provider.
type person struct {
	authz.Identity
	subject string // the provider's own name, which never changes
}

// A cookie has room for the longest user, however it's written.
const (
	maxUser  = 256 // bytes
	maxGroup = 1024
)

// errNotAllowed is for those whom the provider knows and the configuration doesn't want.
var errNotAllowed = fmt.Errorf("%w: the account may not sign in", authn.ErrRefused)

// person asks the provider whose token it is. The nonce is the one of the attempt;
// without one, it's a token that was refreshed, which need not have an ID token.
func (l *Login) person(ctx context.Context, p *provider, token *oauth2.Token, nonce *string) (*person, error) {
	var said []issuer.Claims
	var err error
	if p.Kind == GitHub {
		said, err = p.github(ctx, token)
	} else {
		said, err = p.openID(ctx, token, nonce)
	}
	if err != nil {
		return nil, err
	}
	if len(said) == 0 {
		return nil, errNothingSaid
	}
	who, err := p.read(said)
	if err != nil {
		return nil, err
	}
	if hasOverage(said) {
		l.config.Logger.WarnContext(ctx, "the provider leaves out groups, since there are too many for a token",
			slog.String("provider", p.Name), slog.String("user", who.ID),
			slog.String("help", "let the provider send only the groups that are assigned to the application, or roles"))
	}
	return who, nil
}

var errNothingSaid = errors.New("the provider says nothing of the account")

// openID returns what the ID token and the userinfo endpoint say, in that order.
func (p *provider) openID(ctx context.Context, token *oauth2.Token, nonce *string) ([]issuer.Claims, error) {
	var said []issuer.Claims
	raw, _ := token.Extra("id_token").(string)
	if raw != "" || nonce != nil {
		claims, err := p.verify(ctx, raw, nonce)
		if err != nil {
			return nil, err
		}
		said = append(said, claims)
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	if p.NoUserInfo || m.UserInfo == "" {
		return said, nil
	}
	claims, err := p.get(ctx, token, m.UserInfo)
	if err != nil {
		return nil, err
	}
	// What userinfo says of somebody else would be a token that was swapped.
	if len(said) > 0 && claims.String("sub") != said[0].String("sub") || claims.String("sub") == "" {
		return nil, refuse("the ID token and userinfo are of two accounts")
	}
	return append(said, claims), nil
}

// verify refuses an ID token that isn't for this client and this attempt.
func (p *provider) verify(ctx context.Context, raw string, nonce *string) (issuer.Claims, error) {
	claims, err := p.issuer.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	azp, audiences := claims.String("azp"), claims.Strings("aud")
	switch {
	case claims.String("sub") == "":
		return nil, refuse("the ID token is nobody's")
	case !claims.IsFor(p.ClientID):
		return nil, refuse("the ID token is for %q", audiences)
	case azp != "" && azp != p.ClientID, azp == "" && len(audiences) > 1:
		return nil, refuse("the ID token was issued to %q, for %q", azp, audiences)
	case nonce != nil && subtle.ConstantTimeCompare([]byte(claims.String("nonce")), []byte(*nonce)) != 1:
		return nil, refuse("the ID token isn't of this attempt to sign in")
	}
	return claims, nil
}

// get returns the JSON object at a URL of the provider.
func (p *provider) get(ctx context.Context, token *oauth2.Token, place string) (issuer.Claims, error) {
	data, _, err := p.download(ctx, token, place)
	if err != nil {
		return nil, err
	}
	var claims issuer.Claims
	if err := json.Unmarshal(data, &claims); err != nil || claims == nil {
		return nil, fmt.Errorf("%s is no JSON object", place)
	}
	return claims, nil
}

// download returns what the provider lets the token see, and the header.
func (p *provider) download(ctx context.Context, token *oauth2.Token, place string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	token.SetAuthHeader(req)
	req.Header.Set("Accept", "application/json")
	resp, err := p.issuer.Client().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		data, err := issuer.ReadAll(resp.Body)
		return data, resp.Header, err
	case http.StatusUnauthorized:
		return nil, nil, refuse("%s refuses the token", place)
	}
	return nil, nil, fmt.Errorf("%s answers %s", place, resp.Status)
}

// read makes a person of what the provider says. Of the user's name the first claim
// counts that's there, of groups all.
func (p *provider) read(said []issuer.Claims) (*person, error) {
	who := &person{Identity: authz.Identity{Provider: p.Name}}
	who.subject = said[0].String("sub")
	for _, path := range p.User {
		for _, claims := range said {
			name, _ := lookup(claims, path).(string)
			if name == "" || who.ID != "" {
				continue
			}
			if path == "email" && !isVerified(said, name, !p.UnverifiedEmail) {
				return nil, fmt.Errorf("%w: its e-mail isn't verified", errNotAllowed)
			}
			who.ID = name
		}
	}
	for _, path := range p.Groups {
		for _, claims := range said {
			who.Groups = append(who.Groups, groups(lookup(claims, path))...)
		}
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	if who.ID == "" {
		return nil, fmt.Errorf("%w: it has none of the claims %q", errNotAllowed, p.User)
	}
	tooLong := func(g string) bool { return len(g) > maxGroup || isOdd(g) }
	if len(who.ID) > maxUser || isOdd(who.ID) || slices.ContainsFunc(who.Groups, tooLong) {
		return nil, fmt.Errorf("%w: its name, or a group's, is too long or not printable", errNotAllowed)
	}
	return who, p.require(said, who)
}

func isOdd(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl)
}

// require refuses who isn't wanted.
func (p *provider) require(said []issuer.Claims, who *person) error {
	if len(p.RequireGroups) > 0 && !slices.ContainsFunc(p.RequireGroups, func(g string) bool { return slices.Contains(who.Groups, g) }) {
		return fmt.Errorf("%w: it's in none of the groups that are required", errNotAllowed)
	}
	if len(p.RequireDomains) == 0 {
		return nil
	}
	for _, claims := range said {
		email := claims.String("email")
		at := strings.LastIndexByte(email, '@')
		wanted := func(d string) bool { return at >= 0 && strings.EqualFold(d, email[at+1:]) }
		if slices.ContainsFunc(p.RequireDomains, wanted) && isVerified(said, email, true) {
			return nil
		}
	}
	return fmt.Errorf("%w: it has no verified e-mail of a domain that's required", errNotAllowed)
}

// isVerified reports whether the provider has verified an e-mail. Many say nothing of
// it, which counts unless it has to be said.
func isVerified(said []issuer.Claims, email string, mustSay bool) bool {
	verified := false
	for _, claims := range said {
		if other := claims.String("email"); other != "" && other != email {
			continue
		}
		switch claims["email_verified"] {
		case true, "true": // some providers quote it
			verified = true
		case nil:
		default:
			return false
		}
	}
	return verified || !mustSay
}

// lookup returns the claim at a path of names with dots between them. A name may have
// dots itself, as URLs do: the longest one that's there is taken.
func lookup(value any, path string) any {
	object, ok := value.(map[string]any)
	if claims, is := value.(issuer.Claims); is {
		object, ok = claims, true
	}
	if !ok {
		return nil
	}
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		v, ok := object[path[:end]]
		if !ok {
			continue
		}
		if end == len(path) {
			return v
		}
		if found := lookup(v, path[end+1:]); found != nil {
			return found
		}
	}
	return nil
}

// groups returns the names in a claim: a string, a list of strings, or an object's keys.
func groups(claim any) []string {
	var all []string
	switch v := claim.(type) {
	case string:
		all = []string{v}
	case []any:
		for _, e := range v {
			s, _ := e.(string)
			all = append(all, s)
		}
	case []string:
		all = slices.Clone(v)
	case map[string]any:
		for name := range v {
			all = append(all, name)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// hasOverage reports whether Entra says that there are more groups than it sends.
func hasOverage(said []issuer.Claims) bool {
	return slices.ContainsFunc(said, func(c issuer.Claims) bool {
		names, _ := c["_claim_names"].(map[string]any)
		more, _ := c["hasgroups"].(bool)
		return more || names["groups"] != nil
	})
}
