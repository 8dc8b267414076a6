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
)

// tokenRoutes are the part of the admin API that ends tokens:
//
//	POST /oci_registry/registries/{name}/tokens/revoke?user=…&provider=…   a user's refresh tokens
//	POST /oci_registry/registries/{name}/tokens/replace-keys               all tokens there are
//
// user is a name, or user@PROVIDER:NAME. Without a provider it's the user of that name of
// each one that can give refresh tokens. They are answered 204 once it's written down.
func (a *adminAPI) tokenRoutes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "POST " + adminPath + "/{name}/tokens/revoke", Handler: ofTokens((*Registry).revokeRefresh)},
		{Pattern: "POST " + adminPath + "/{name}/tokens/replace-keys", Handler: ofTokens((*Registry).replaceKeys)},
	}
}

// ofTokens handles requests that end some of a registry's tokens.
func ofTokens(end func(*Registry, *http.Request) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		reg, err := servedAs(r.PathValue("name"))
		if err != nil {
			return err
		}
		if reg.tokens == nil {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("registry %s gives no tokens", reg.name)}
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

// revokeRefresh ends the refresh tokens of a user.
func (r *Registry) revokeRefresh(req *http.Request) error {
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
	for _, name := range r.auth.names {
		if p := strings.TrimPrefix(name, "oci_"); r.tokens.Refreshes(p) && (only == "" || only == p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("no provider of that name gives its users refresh tokens")}
	}
	return all, nil
}

// replaceKeys ends all tokens.
func (r *Registry) replaceKeys(req *http.Request) error {
	if err := r.tokens.ReplaceKeys(context.WithoutCancel(req.Context())); err != nil {
		return fmt.Errorf("replace the keys that sign tokens: %w", err)
	}
	r.audit.observeEnd("token keys replaced")
	return nil
}

// observeEnd is told what was ended by the admin API.
func (a *audit) observeEnd(what string, fields ...zap.Field) {
	if a.log != nil {
		a.log.Info(what, append([]zap.Field{zap.String("registry", a.registry), zap.String("by", "admin API")}, fields...)...)
	}
}
