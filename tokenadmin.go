package ociregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/adminapi"
)

// tokenRoutes are the part of the admin API that ends tokens and sessions:
//
//	POST /oci_registry/registries/{name}/tokens/revoke?user=…&provider=…   a user's refresh tokens
//	POST /oci_registry/registries/{name}/tokens/replace-keys               all tokens and sessions there are
//
// user is a name, or user@PROVIDER:NAME. Without a provider it's the user of that name of
// each one that can give refresh tokens. They are answered 204 once it's written down.
func (a *adminAPI) tokenRoutes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "POST " + adminapi.Path + "/{name}/tokens/revoke", Handler: ofTokens((*Registry).revokeRefresh)},
		{Pattern: "POST " + adminapi.Path + "/{name}/tokens/replace-keys", Handler: ofTokens((*Registry).replaceKeys)},
	}
}

// ofTokens handles requests that end what a registry has given.
func ofTokens(end func(*Registry, *http.Request) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		reg, err := servedAs(r.PathValue("name"))
		if err != nil {
			return err
		}
		if err := end(reg, r); err != nil {
			if known, ok := errors.AsType[caddy.APIError](err); ok {
				return known // Caddy looks for it without unwrapping
			}
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// givesNone is the error that there's nothing that could be ended.
func (r *Registry) givesNone() error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("registry %s gives no tokens", r.name)}
}

// revokeRefresh ends the refresh tokens of a user.
func (r *Registry) revokeRefresh(req *http.Request) error {
	if r.tokens == nil {
		return r.givesNone()
	}
	who := authz.ParseUser(req.FormValue("user"))
	who.Provider = strings.TrimPrefix(cmp.Or(req.FormValue("provider"), who.Provider), "oci_")
	if who.IsAnonymous() {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("whose? Want ?user=NAME")}
	}
	providers, err := r.refreshingProviders(who.Provider)
	if err != nil {
		return err
	}
	for _, p := range providers {
		if err := r.tokens.RevokeRefresh(req.Context(), p, who.ID); err != nil {
			return fmt.Errorf("revoke the refresh tokens of %s of provider %s: %w", who.ID, p, err)
		}
		r.audit.observeEnd("refresh tokens revoked", zap.String("owner", who.ID), zap.String("owner_provider", p))
	}
	return nil
}

// refreshingProviders are those whose users can have refresh tokens: all, or the one called so.
func (r *Registry) refreshingProviders(only string) ([]string, error) {
	var all []string
	for _, p := range r.auth.sources {
		if r.tokens.Refreshes(p) && (only == "" || only == p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("no provider of that name gives its users refresh tokens")}
	}
	return all, nil
}

// replaceKeys ends all tokens, and all sessions of browsers: if one kind fails, the other
// one all the same.
func (r *Registry) replaceKeys(req *http.Request) error {
	if r.tokens == nil && r.auth.pages == nil {
		return r.givesNone()
	}
	var errs []error
	replace := func(what string, do func(context.Context) error) {
		if err := do(context.WithoutCancel(req.Context())); err != nil {
			errs = append(errs, fmt.Errorf("replace the keys that sign %ss: %w", what, err))
			return
		}
		r.audit.observeEnd(what + " keys replaced")
	}
	if r.tokens != nil {
		replace("token", r.tokens.ReplaceKeys)
	}
	if r.auth.pages != nil {
		replace("session", r.auth.pages.EndAll)
	}
	return errors.Join(errs...)
}

// observeEnd is told what was ended by the admin API.
func (a *audit) observeEnd(what string, fields ...zap.Field) {
	if a.log != nil {
		a.log.Info(what, append([]zap.Field{zap.String("registry", a.registry), zap.String("by", "admin API")}, fields...)...)
	}
}
