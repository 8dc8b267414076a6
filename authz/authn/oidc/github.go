package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

// maxPages is how many pages of 100 organizations or teams are read.
const maxPages = 20

// githubAPI is where the API is.
func (p *provider) githubAPI() string {
	base := strings.TrimSuffix(p.Issuer.URL, "/")
	if base == "https://github.com" {
		return "https://api.github.com"
	}
	return base + "/api/v3"
}

// github returns as claims what GitHub's API says: sub, login, name, the primary
// e-mail if it's verified, and groups, which are organizations and their teams.
func (p *provider) github(ctx context.Context, token *oauth2.Token) ([]issuer.Claims, error) {
	api := p.githubAPI()
	user, err := p.get(ctx, token, api+"/user")
	if err != nil {
		return nil, err
	}
	id, _ := user["id"].(float64)
	if id == 0 || user.String("login") == "" {
		return nil, errNothingSaid
	}
	claims := issuer.Claims{
		"sub": strconv.FormatInt(int64(id), 10), "login": user.String("login"), "name": user.String("name"),
	}
	err = each(ctx, p, token, api+"/user/emails", func(e struct {
		Email             string
		Primary, Verified bool
	},
	) {
		if e.Primary && e.Verified {
			claims["email"], claims["email_verified"] = e.Email, true
		}
	})
	if err != nil {
		return nil, err
	}
	groups, err := p.githubGroups(ctx, token, api)
	claims["groups"] = groups
	return []issuer.Claims{claims}, err
}

// githubGroups returns "org" for each organization and "org/team" for each team.
func (p *provider) githubGroups(ctx context.Context, token *oauth2.Token, api string) ([]string, error) {
	type organization struct{ Login string }
	var groups []string
	err := each(ctx, p, token, api+"/user/orgs", func(o organization) { groups = append(groups, o.Login) })
	if err != nil {
		return nil, err
	}
	err = each(ctx, p, token, api+"/user/teams", func(team struct {
		Slug         string
		Organization organization
	},
	) {
		groups = append(groups, team.Organization.Login+"/"+team.Slug)
	})
	return groups, err
}

// each calls fn with all elements of a list that comes in pages.
func each[T any](ctx context.Context, p *provider, token *oauth2.Token, place string, fn func(T)) error {
	next := place + "?per_page=100"
	for range maxPages {
		data, header, err := p.download(ctx, token, next)
		if err != nil {
			return err
		}
		var list []T
		if err := json.Unmarshal(data, &list); err != nil {
			return fmt.Errorf("%s is no JSON list of what it should be", place)
		}
		for _, e := range list {
			fn(e)
		}
		if next = nextPage(header.Get("Link"), place); next == "" {
			return nil
		}
	}
	return nil
}

var linkRE = regexp.MustCompile(`<([^>]+)>;[^,]*rel="next"`)

// nextPage returns the next page of a list, which the token is sent to: so it must
// be on the same host.
func nextPage(link, place string) string {
	m := linkRE.FindStringSubmatch(link)
	if m == nil {
		return ""
	}
	next, err := url.Parse(m[1])
	here, errHere := url.Parse(place)
	if err != nil || errHere != nil || next.Scheme != here.Scheme || next.Host != here.Host {
		return ""
	}
	return next.String()
}
