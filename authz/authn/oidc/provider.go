package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

// A Kind of provider has its own defaults, and its own ways.
type Kind string

// The kinds.
const (
	Generic  Kind = ""         // any OpenID Connect issuer
	Dex      Kind = "dex"      // groups by a scope of that name
	Entra    Kind = "entra"    // Microsoft's, of one tenant
	GitHub   Kind = "github"   // OAuth 2 with an API of its own
	GitLab   Kind = "gitlab"   // gitlab.com, or another one by its URL
	Google   Kind = "google"   // knows no groups
	Keycloak Kind = "keycloak" // groups, and roles of the realm
	Zitadel  Kind = "zitadel"  // roles of a project
)

// Kinds are those that have a name, sorted.
func Kinds() []Kind { return []Kind{Dex, Entra, GitHub, GitLab, Google, Keycloak, Zitadel} }

// A Provider is where people sign in.
type Provider struct {
	// Name is in the callback's path and in Identity.Provider: lower-case letters,
	// digits and "-". Title is what people read. Default: the name.
	Name, Title string

	Kind Kind

	// Issuer is the issuer; its URL has a default for GitHub, GitLab and Google. GitHub
	// Enterprise Server is the URL of its web pages.
	Issuer issuer.Options

	// ClientID is the registry's at the provider. Secret returns the one that goes with
	// it, each time it's needed. Default: none, as of a public client.
	ClientID string
	Secret   func() (string, error)

	// Scopes are asked for. Default: openid, email and profile, and what the kind
	// needs for groups.
	Scopes []string

	// User are the claims that may be the user's name, the first that's there: paths
	// like "email" or "realm_access.name", whose parts may themselves have dots. Default:
	// the kind's, most often email. An email is refused unless the provider says that it's
	// verified.
	User []string

	// UnverifiedEmail takes an email of which the provider doesn't say whether it's
	// verified: nobody but who may have it can have given it to an account there.
	UnverifiedEmail bool

	// Groups are the claims that have groups, all of them: a string, a list of strings,
	// or an object by its keys. Default: the kind's, most often groups.
	Groups []string

	// RequireGroups and RequireDomains refuse who is in none of the groups, or whose
	// verified e-mail is of none of the domains. Default: everybody with an account
	// may sign in, which at GitHub, GitLab and Google is everybody.
	RequireGroups, RequireDomains []string

	// NoUserInfo takes what the ID token says and doesn't ask for more.
	NoUserInfo bool

	// Follow is how often the provider is asked whether an account is still there, for
	// sessions and API keys. It takes a refresh token, kept in the Store. Default: 0,
	// never.
	Follow time.Duration
}

// preset is what a kind has by default.
type preset struct {
	url          string
	scopes       []string
	user, groups []string
}

var presets = map[Kind]preset{
	Generic:  {scopes: openID(), user: []string{"email"}, groups: []string{"groups"}},
	Dex:      {scopes: openID("groups"), user: []string{"email"}, groups: []string{"groups"}},
	Entra:    {scopes: openID(), user: []string{"preferred_username"}, groups: []string{"groups", "roles"}},
	GitLab:   {url: "https://gitlab.com", scopes: openID(), user: []string{"email"}, groups: []string{"groups", "groups_direct"}},
	Google:   {url: "https://accounts.google.com", scopes: openID(), user: []string{"email"}},
	Keycloak: {scopes: openID(), user: []string{"preferred_username"}, groups: []string{"groups", "realm_access.roles"}},
	Zitadel: {
		scopes: openID("urn:zitadel:iam:org:projects:roles"), user: []string{"preferred_username"},
		groups: []string{"urn:zitadel:iam:org:project:roles"},
	},
	GitHub: {
		url: "https://github.com", scopes: []string{"read:user", "user:email", "read:org"},
		user: []string{"email"}, groups: []string{"groups"},
	},
}

func openID(more ...string) []string {
	return append([]string{"openid", "email", "profile"}, more...)
}

type provider struct {
	Provider
	issuer *issuer.Issuer
	terms  string
}

func newProvider(c Provider, config Config) (*provider, error) {
	d, ok := presets[c.Kind]
	switch {
	case !providerName.MatchString(c.Name):
		return nil, errors.New("a provider's name is lower-case letters, digits and \"-\"")
	case !ok:
		return nil, fmt.Errorf("there's no kind %q", c.Kind)
	case c.ClientID == "":
		return nil, errors.New("the client's ID is missing")
	case c.Follow != 0 && config.Store == nil:
		return nil, errors.New("accounts can't be followed without a store")
	case c.Follow < 0 || c.Follow > 0 && c.Follow < time.Minute:
		return nil, errors.New("accounts are followed once a minute at most")
	}
	if c.Issuer.URL == "" {
		c.Issuer.URL = d.url
	}
	if err := checkTenant(c); err != nil {
		return nil, err
	}
	c.Title = or(c.Title, c.Name)
	c.Scopes = orList(c.Scopes, d.scopes)
	c.User, c.Groups = orList(c.User, d.user), orList(c.Groups, d.groups)
	if c.Kind != GitHub && !slices.Contains(c.Scopes, "openid") {
		return nil, errors.New("the scope openid is missing")
	}
	i, err := issuer.New(c.Issuer)
	return &provider{c, i, terms(c)}, err
}

// terms stands for who may sign in and under what name. A session that began under
// others is over: the issuer may have been another one, or somebody hasn't shown what is
// required now.
func terms(c Provider) string {
	sorted := func(s []string) []string { return slices.Sorted(slices.Values(s)) }
	text, _ := json.Marshal([]any{c.Issuer.URL, c.ClientID, c.User, c.UnverifiedEmail, sorted(c.RequireGroups), sorted(c.RequireDomains)}) // strings are never refused
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// checkTenant refuses the issuers of Entra that stand for all tenants: each signs by
// its own name, and its administrator can give an account any name. An email may be anything
// there, so it's no name by default.
func checkTenant(c Provider) error {
	if c.Kind != Entra {
		if u, err := url.Parse(strings.ToLower(c.Issuer.URL)); err == nil && slices.Contains(entraHosts, u.Hostname()) {
			return errors.New("it's Entra, where whoever has an account may give it any e-mail: want the kind entra, as in 'issuer entra " + c.Issuer.URL + "'")
		}
		return nil
	}
	for _, all := range []string{"/common/", "/organizations/", "/consumers/"} {
		if strings.Contains(c.Issuer.URL+"/", all) {
			return errors.New("want the issuer of one tenant, https://login.microsoftonline.com/<tenant ID>/v2.0")
		}
	}
	return nil
}

// entraHosts are where Entra's issuers are.
var entraHosts = []string{
	"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "login.windows.net", "sts.windows.net",
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func orList(s, otherwise []string) []string {
	if len(s) == 0 {
		return otherwise
	}
	return s
}

// withoutOffline are the kinds that don't know the scope offline_access, and GitLab
// refuses those that it doesn't know. Google has a parameter for it; the tokens of the
// others go on anyway.
var withoutOffline = []Kind{GitHub, GitLab, Google}

func (p *provider) follows() bool { return p.Follow > 0 }

// metadata is where people are sent, and tokens come from.
func (p *provider) metadata(ctx context.Context) (issuer.Metadata, error) {
	if p.Kind != GitHub {
		m, err := p.issuer.Metadata(ctx)
		if err != nil {
			return m, fmt.Errorf("ask %s what it can do: %w", p.Issuer.URL, err)
		}
		if m.Authorization == "" || m.Token == "" {
			return m, fmt.Errorf("%s doesn't sign people in", p.Issuer.URL)
		}
		return m, nil
	}
	base := strings.TrimSuffix(p.Issuer.URL, "/")
	return issuer.Metadata{
		Authorization: base + "/login/oauth/authorize",
		Token:         base + "/login/oauth/access_token",
		TokenAuth:     []string{"client_secret_post"},
	}, nil
}

// client returns what talks to the provider, with the secret of now.
func (p *provider) client(m issuer.Metadata, redirect string) (*oauth2.Config, error) {
	c := &oauth2.Config{
		ClientID: p.ClientID, RedirectURL: redirect, Scopes: slices.Clone(p.Scopes),
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInParams},
	}
	if p.follows() && !slices.Contains(withoutOffline, p.Kind) && !slices.Contains(c.Scopes, "offline_access") {
		c.Scopes = append(c.Scopes, "offline_access")
	}
	if p.Secret == nil {
		return c, nil
	}
	// A provider that doesn't say what it takes takes Basic.
	if len(m.TokenAuth) == 0 || slices.Contains(m.TokenAuth, "client_secret_basic") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	var err error
	if c.ClientSecret, err = p.Secret(); err != nil {
		return nil, fmt.Errorf("get the client's secret: %w", err)
	}
	return c, nil
}

// with returns a context in which oauth2 uses the provider's HTTP client.
func (p *provider) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.issuer.Client())
}

// tokenError says what the provider answered, but not in its own words: they may
// have secrets in them.
func tokenError(err error) error {
	refusal := new(oauth2.RetrieveError)
	if !errors.As(err, &refusal) {
		return fmt.Errorf("ask the provider for a token: %w", err)
	}
	if refusal.Response != nil && refusal.Response.StatusCode < http.StatusInternalServerError && refusal.ErrorCode == "invalid_grant" {
		return refuse("the provider refuses the code or the refresh token")
	}
	status := 0
	if refusal.Response != nil {
		status = refusal.Response.StatusCode
	}
	return fmt.Errorf("the provider gives no token: status %d, %q", status, refusal.ErrorCode)
}
