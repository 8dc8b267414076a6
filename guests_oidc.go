//go:build !nooidc

package ociregistry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/internal/providers"
)

func init() { caddy.RegisterModule(OIDCProvider{}) }

// OIDCProvider knows people who have signed in with a browser, at an OpenID Connect
// issuer or at GitHub. Their sessions are signed cookies, whose keys are in the
// registry's state, so they outlive restarts and are good at every replica.
type OIDCProvider struct {
	// Issuers are where people sign in; of several they choose one. Required.
	Issuers []OIDCIssuer `json:"issuers,omitempty"`

	// Path is that of the pages: PATH says who has signed in, PATH/login begins,
	// PATH/callback/NAME is where the issuer of that name sends people back to, and
	// PATH/logout ends the session. Default: /v2/_auth in a registry, /auth elsewhere.
	Path string `json:"path,omitempty"`

	// Lifetime is how long a session lasts. Default: 12h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Idle is how long a session lasts that isn't used. Default: 2h, or Lifetime if
	// that's less.
	Idle caddy.Duration `json:"idle,omitempty"`

	log       *slog.Logger
	login     *oidc.Login
	loginPath string
}

// OIDCIssuer is where people sign in. Its URL, file, ID and secret may have placeholders
// like {env.NAME} and {file./path}.
type OIDCIssuer struct {
	// Kind says what is otherwise at this one: dex, entra, github, gitlab, google,
	// keycloak or zitadel. It has defaults for what's below. Default: any OpenID Connect
	// issuer.
	Kind oidc.Kind `json:"kind,omitempty"`

	// URL is the issuer's. Default: that of github.com, gitlab.com or Google, by Kind.
	URL string `json:"url,omitempty"`

	// Name is in the callback's path, and is the provider of who signs in here. Default:
	// the kind, or oidc.
	Name string `json:"name,omitempty"`

	// Title is what people read who choose. Default: the name.
	Title string `json:"title,omitempty"`

	// ClientID is what the registry is called there. Required.
	ClientID string `json:"client_id,omitempty"`

	// ClientSecret goes with it. A {file./path} is read each time. Default: none, as of
	// a public client.
	ClientSecret string `json:"client_secret,omitempty"`

	// Scopes are asked for. Default: openid, email, profile, and what the kind needs
	// for groups.
	Scopes []string `json:"scopes,omitempty"`

	// User are the claims with the user's name, paths like realm_access.name, of the ID
	// token and userinfo; the first that's there counts. Default: the kind's, mostly
	// email.
	User []string `json:"user,omitempty"`

	// UnverifiedEmail takes an e-mail as the user's name of which the issuer doesn't say
	// whether it's verified. Default: false.
	UnverifiedEmail bool `json:"unverified_email,omitempty"`

	// Groups are the claims with groups; all count. Default: the kind's, mostly groups.
	Groups []string `json:"groups,omitempty"`

	// RequireGroups and RequireDomains are the groups, and the domains of a verified
	// e-mail, of which somebody must have one. Default: none.
	RequireGroups  []string `json:"require_groups,omitempty"`
	RequireDomains []string `json:"require_domains,omitempty"`

	// Follow is how often the issuer is asked whether an account is still there and
	// which groups it's in, for sessions and API keys. Default: 0, never.
	Follow caddy.Duration `json:"follow,omitempty"`

	// NoUserInfo takes what the ID token says, and doesn't ask for more. Default: false.
	NoUserInfo bool `json:"no_userinfo,omitempty"`

	// CA is a file with the certificates that vouch for the issuer. Default: the system's.
	CA string `json:"ca,omitempty"`

	// PlainHTTP allows URLs without TLS on other hosts than this. Default: false.
	PlainHTTP bool `json:"plain_http,omitempty"`
}

// CaddyModule implements caddy.Module.
func (OIDCProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_oidc", New: func() caddy.Module { return new(OIDCProvider) }}
}

// Provision makes the pages of a site that is no registry: a registry makes its own, with
// settle. It asks nobody.
func (p *OIDCProvider) Provision(ctx caddy.Context) error {
	p.log = ctx.Slogger()
	if len(p.Issuers) == 0 {
		return errors.New("oci_oidc has nowhere to sign in: write 'issuer URL { … }' in its block")
	}
	for _, i := range p.Issuers {
		if now, err := option.Resolve("client_secret", i.ClientSecret); err == nil {
			option.WarnOfSecret(p.log, "oci_oidc: the client_secret of issuer "+i.name(), i.ClientSecret, now)
		}
	}
	if isInRegistry(ctx) {
		return nil
	}
	return p.settleAlone(ctx)
}

// isInRegistry reports whether a registry is what is being provisioned.
func isInRegistry(ctx caddy.Context) bool {
	return slices.ContainsFunc(ctx.Modules(), func(m caddy.Module) bool {
		switch m.(type) {
		case *App, *Handler:
			return true
		}
		return false
	})
}

// settleAlone makes the pages of any site. Its sessions are in Caddy's storage, below a
// name that says where one signs in and who may: sites that ask the same share them.
func (p *OIDCProvider) settleAlone(ctx caddy.Context) error {
	public := *p
	public.Issuers = slices.Clone(p.Issuers)
	for n := range public.Issuers {
		public.Issuers[n].ClientSecret = ""
	}
	config, err := json.Marshal(public)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("site@%x", sha256.Sum256(config))[:32] // no registry has an @ in its name
	_, err = p.settle(signInSite{
		name: name, path: "/auth", state: newInCaddy(ctx.Storage(), name), origin: new(Registry).origin,
	})
	return err
}

const (
	sessionKeyLife = 30 * 24 * time.Hour
	sessionLife    = 12 * time.Hour // unless it's configured
)

// settle implements signIn.
func (p *OIDCProvider) settle(at signInSite) (signInPages, error) {
	if err := checkPages(p.Path, at.path == signInPath); err != nil {
		return nil, fmt.Errorf("oci_oidc: %w", err)
	}
	config := oidc.Config{
		Registry: at.name, Store: at.state, Prefix: cmp.Or(p.Path, at.path), Origin: at.origin,
		Lifetime: time.Duration(p.Lifetime), IdleLifetime: time.Duration(p.Idle),
		KeepGroup: at.keepGroup, OnLogin: at.onLogin, OnLogout: at.onLogout, OnForget: at.onForget, Logger: p.log,
		Keys: oidc.StoredRing(at.state, "sessions/keys", sessionKeyLife, max(time.Duration(p.Lifetime), sessionLife)),
	}
	if at.path == signInPath {
		config.Home = config.Prefix
	}
	for _, i := range p.Issuers {
		provider, err := i.provider()
		if err != nil {
			return nil, fmt.Errorf("oci_oidc: issuer %s: %w", i.name(), err)
		}
		if err := i.check(provider, at); err != nil {
			return nil, fmt.Errorf("oci_oidc: %w", err)
		}
		if at.toWhoever && letsEverybodyIn(provider) {
			p.log.Warn("everybody in the world can sign in, and the policy allows something to authenticated, which is whoever has",
				slog.String("issuer", i.name()), slog.String("fix", "write 'require_domain DOMAIN…' or 'require_group NAME…' in its block"))
		}
		config.Providers = append(config.Providers, provider)
	}
	login, err := oidc.New(config)
	if err != nil {
		return nil, fmt.Errorf("oci_oidc: %w", err)
	}
	p.login, p.loginPath = login, strings.TrimSuffix(config.Prefix, "/")+"/login"
	return login, nil
}

// checkPages refuses a path of pages that no request has, or that is somebody else's.
func checkPages(p string, inRegistry bool) error {
	switch {
	case p == "":
	case p[0] != '/' || p == "/" || path.Clean(p) != p:
		return fmt.Errorf("path %q: want a path like /auth", p)
	case inRegistry && isAPI(p) && p != signInPath && !strings.HasPrefix(p, signInPath+"/"):
		return fmt.Errorf("path %q: below /v2 is the registry's API; want a path like /auth", p)
	}
	return nil
}

// provider is the issuer as package oidc has it.
func (i OIDCIssuer) provider() (oidc.Provider, error) {
	p := oidc.Provider{
		Name: i.name(), Title: i.Title, Kind: i.Kind, Issuer: issuer.Options{PlainHTTP: i.PlainHTTP},
		Scopes: i.Scopes, User: i.User, Groups: i.Groups, RequireGroups: i.RequireGroups, RequireDomains: i.RequireDomains,
		NoUserInfo: i.NoUserInfo, UnverifiedEmail: i.UnverifiedEmail, Follow: time.Duration(i.Follow),
	}
	for _, o := range []struct {
		name, value string
		to          *string
	}{{"url", i.URL, &p.Issuer.URL}, {"ca", i.CA, &p.Issuer.CAFile}, {"client_id", i.ClientID, &p.ClientID}} {
		var err error
		if *o.to, err = option.Resolve(o.name, o.value); err != nil {
			return p, err
		}
	}
	if i.ClientSecret == "" {
		return p, nil
	}
	secret := i.ClientSecret
	p.Secret = func() (string, error) {
		s, err := option.Resolve("client_secret", secret)
		if err != nil || s == "" {
			return "", errNoSecret // without the text, which may have a secret in it
		}
		return s, nil
	}
	_, err := p.Secret()
	return p, err
}

var errNoSecret = errors.New("client_secret stands for nothing: is the variable set, is the file there?")

func (i OIDCIssuer) name() string { return cmp.Or(i.Name, string(i.Kind), "oidc") }

// check refuses an issuer that would let in whom nobody has meant.
func (OIDCIssuer) check(p oidc.Provider, at signInSite) error {
	if p.Kind == oidc.Google && len(p.Groups) == 0 && len(p.RequireGroups) > 0 {
		return errors.New("google knows no groups, so nobody could sign in: write 'require_domain DOMAIN…' in place of require_group")
	}
	if at.hasPolicy || !letsEverybodyIn(p) {
		return nil
	}
	fix := "write 'require_domain DOMAIN…' or 'require_group NAME…' in its block"
	if p.Kind == oidc.Google {
		fix = "write 'require_domain DOMAIN…' in its block"
	}
	if at.path == signInPath {
		fix += ", or a policy"
	}
	return fmt.Errorf("everybody in the world can have an account there, and could sign in: %s", fix)
}

// letsEverybodyIn reports whether who wants to can sign in.
func letsEverybodyIn(p oidc.Provider) bool {
	return len(p.RequireGroups)+len(p.RequireDomains) == 0 && isForEverybody(p)
}

// isForEverybody reports whether the issuer gives accounts to whoever wants one.
func isForEverybody(p oidc.Provider) bool {
	if p.Issuer.URL == "" {
		return slices.Contains([]oidc.Kind{oidc.GitHub, oidc.GitLab, oidc.Google}, p.Kind)
	}
	return isPublic(p.Issuer.URL)
}

// issuers implements signIn.
func (p *OIDCProvider) issuers() (names []string) {
	for _, i := range p.Issuers {
		names = append(names, i.name())
	}
	return names
}

// Method implements Provider.
func (p *OIDCProvider) Method() authn.Method { return p }

// Identify implements authn.Method.
func (p *OIDCProvider) Identify(r *http.Request) (authz.Identity, bool, error) {
	return p.login.Identify(r)
}

// Authenticate implements caddyauth.Authenticator, for a site that is no registry. It
// serves the pages, and sends browsers there that come without a session.
func (p *OIDCProvider) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	if p.login.Serves(r.URL.Path) {
		whole := &wholeAnswer{ResponseWriter: w}
		p.login.ServeHTTP(whole, r)
		whole.send()
		return caddyauth.User{}, false, nil
	}
	user, ok, err := providers.Authenticate(p.login, w, r)
	switch {
	case ok:
		p.login.Renew(w, r)
	case err == nil && isNavigation(r):
		to := url.URL{Path: p.loginPath, RawQuery: url.Values{"return_to": {r.URL.RequestURI()}}.Encode()}
		w.Header().Set("Location", to.String())
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusSeeOther)
	}
	return user, ok, err
}

// isNavigation reports whether r is of a browser that goes to a page.
func isNavigation(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return r.Method == http.MethodGet && (mode == "navigate" || mode == "" && strings.Contains(r.Header.Get("Accept"), "text/html"))
}

// wholeAnswer is an answer of which the length is said, so that nothing is added to it:
// to Caddy who isn't signed in has got none yet.
type wholeAnswer struct {
	http.ResponseWriter

	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (a *wholeAnswer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *wholeAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *wholeAnswer) send() {
	a.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	a.ResponseWriter.WriteHeader(cmp.Or(a.status, http.StatusOK))
	_, _ = a.ResponseWriter.Write(a.body.Bytes()) // a client that's gone doesn't care
}

var (
	_ signIn                = (*OIDCProvider)(nil)
	_ caddy.Provisioner     = (*OIDCProvider)(nil)
	_ caddyfile.Unmarshaler = (*OIDCProvider)(nil)
)
