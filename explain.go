package ociregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/oci"
)

// explain says whether s would be granted, and why.
func (r *Registry) explain(ctx context.Context, s authz.Supposed) (authz.Explanation, error) { //nolint:contextcheck // what PrepareRequest returns goes on from ctx
	q, err := s.Question()
	if err != nil {
		return authz.Explanation{}, err
	}
	if q.Client.IsValid() {
		req := requestFor(ctx, q)
		ctx = inContext(req.Context(), req)
	}
	if r.policy != nil {
		return r.policy.Explain(ctx, q), nil
	}
	answer, err := r.authorizer.Authorize(ctx, q)
	e := authz.Explanation{User: q.Who.ID, Groups: q.Who.Groups, Granted: err == nil, Overwrite: answer.Overwrite}
	if refused, ok := errors.AsType[*oci.Error](err); ok {
		e.Code, e.Answer = refused.Code, refused.Error()
	}
	because := "there's no policy, and who has signed in may do everything"
	if q.Who.IsAnonymous() {
		because = fmt.Sprintf("there's no policy, and for callers who haven't signed in the registry says 'anonymous %s'", r.Anonymous)
	}
	w := q.Want[0]
	e.Accesses = []authz.Verdict{{
		Action: w.Action, Repository: w.Repository.String(), Reference: w.Reference.String(), Granted: err == nil, Because: because,
	}}
	return e, nil
}

// requestFor is a request such as q might be about, for conditions that look at one.
func requestFor(ctx context.Context, q authz.Question) *http.Request {
	w := q.Want[0]
	method := http.MethodGet
	switch w.Action {
	case authz.Push, authz.Overwrite:
		method = http.MethodPut
	case authz.Delete:
		method = http.MethodDelete
	case authz.Pull, authz.List:
	}
	path := "/v2/_catalog"
	if !w.Repository.IsZero() {
		path = "/v2/" + w.Repository.String() + "/manifests/" + cmp.Or(w.Reference.String(), "latest")
	}
	r, _ := http.NewRequestWithContext(ctx, method, path, nil) // all of it has been checked
	r.RemoteAddr = netip.AddrPortFrom(q.Client, 1).String()
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
}

// explainRoute is the part of the admin API that says who may do what:
//
//	GET /oci_registry/registries/{name}/explain?user=…&group=…&action=…&repository=…&reference=…&client=…
//
// It answers an authz.Explanation. user is a name or anonymous; group may come several
// times; repository, reference and client may be left out. POST takes the same as a form.
func (a *adminAPI) explainRoute() caddy.AdminRoute {
	return caddy.AdminRoute{Pattern: adminapi.Path + "/{name}/explain", Handler: caddy.AdminHandlerFunc(serveExplain)}
}

func serveExplain(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		if err := onlyGet(r); err != nil {
			return err
		}
	}
	reg, err := servedAs(r.PathValue("name"))
	if err != nil {
		return err
	}
	if err := r.ParseForm(); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	e, err := reg.explain(r.Context(), authz.Supposed{
		User: r.Form.Get("user"), Groups: r.Form["group"], Provider: r.Form.Get("provider"), Action: r.Form.Get("action"),
		Repository: r.Form.Get("repository"), Reference: r.Form.Get("reference"), Client: r.Form.Get("client"),
	})
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return writeJSON(w, e)
}
