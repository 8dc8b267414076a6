package ociregistry

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/internal/option"
)

// authentication parses
//
//	auth {
//		provider MODULE …
//		upstream {
//			user PLACEHOLDER
//			groups PLACEHOLDER
//		}
//		challenge auto|basic|bearer
//		realm NAME
//		api_keys { … }
//		tokens { … }
//		limits { … }
//	}
func authentication(to **Auth) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		a := new(Auth)
		*to = a
		return option.Block(d, option.Set{
			"provider":  a.unmarshalProvider,
			"upstream":  a.unmarshalUpstream,
			"challenge": option.Choice(&a.Challenge, ChallengeAuto, ChallengeBasic, ChallengeBearer),
			"realm":     option.Text(&a.Realm, "VALUE"),
			"api_keys":  apiKeys(&a.APIKeys),
			"tokens":    tokens(&a.Tokens),
			"limits":    loginLimits(&a.Limits),
		}, "provider")
	}
}

func (a *Auth) unmarshalUpstream(d *caddyfile.Dispenser) error {
	a.Upstream = new(Upstream)
	err := option.Block(d, option.Set{
		"user":   option.Text(&a.Upstream.User, "PLACEHOLDER, like {http.auth.user.id}"),
		"groups": option.Text(&a.Upstream.Groups, "PLACEHOLDER, like {http.auth.user.groups}"),
	})
	if err != nil {
		return err
	}
	if err := a.Upstream.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

const providerModules = "http.authentication.providers"

// unmarshalProvider parses "provider MODULE …". What follows is the module's own.
func (a *Auth) unmarshalProvider(d *caddyfile.Dispenser) error {
	name, err := option.Argument(d, strings.Join(option.ModuleNames(providerModules), "|")+" { … }")
	if err != nil {
		return err
	}
	if name == "http_basic" {
		return a.unmarshalBasic(d)
	}
	info, err := caddy.GetModule(providerModules + "." + name)
	if err != nil {
		return d.Errf("no module %s.%s is in this build of Caddy: want one of %s, or add the plugin that has it", providerModules, name, strings.Join(option.ModuleNames(providerModules), ", "))
	}
	if _, ok := info.New().(caddyfile.Unmarshaler); !ok {
		return d.Errf("provider %s knows no Caddyfile but that of its own directive: put that directive before oci_registry, or describe the registry in JSON", name)
	}
	m, err := caddyfile.UnmarshalModule(d, providerModules+"."+name)
	if err != nil {
		return err
	}
	a.add(m, name)
	return nil
}

func (a *Auth) add(provider any, name string) {
	a.ProvidersRaw = append(a.ProvidersRaw, caddyconfig.JSONModuleObject(provider, "provider", name, nil))
}

// unmarshalBasic parses the users of Caddy's own provider, which has no Caddyfile but
// that of the directive basic_auth:
//
//	provider http_basic [bcrypt|argon2id] {
//		USER HASH
//	}
func (a *Auth) unmarshalBasic(d *caddyfile.Dispenser) error {
	p := caddyauth.HTTPBasicAuth{HashCache: new(caddyauth.Cache)}
	if d.NextArg() {
		algorithms := []string{"bcrypt", "argon2id"}
		if !slices.Contains(algorithms, d.Val()) {
			return d.Errf("provider http_basic %q: want %s, or nothing for the first", d.Val(), strings.Join(algorithms, " or "))
		}
		p.HashRaw = caddyconfig.JSON(map[string]string{"algorithm": d.Val()}, nil)
	}
	if d.NextArg() {
		return d.Errf("unexpected argument %q", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		user := d.Val()
		hash, err := option.Argument(d, "HASH, which 'caddy hash-password' prints")
		if err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("unexpected %q after the hash of %s", d.Val(), user)
		}
		p.AccountList = append(p.AccountList, caddyauth.Account{Username: user, Password: hash})
	}
	if len(p.AccountList) == 0 {
		return d.Errf("provider http_basic has no users: write 'USER HASH' in its block")
	}
	a.add(p, "http_basic")
	return nil
}
