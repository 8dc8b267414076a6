package ociregistry

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/oci"
)

// audit is the log of who did what to a registry: what was written and deleted, who
// signed in, and what was refused. Its name is oci_registry.audit. Nothing in it is
// a secret.
type audit struct {
	log      *zap.Logger
	registry string
	logins   *logins
	tokens   *token.Service // nil if none are given
}

// deeds are the operations that leave something behind, and what the audit log
// calls them.
var deeds = map[string]string{
	"put-manifest":    "push",
	"put-blob":        "push blob",
	"finish-upload":   "push blob",
	"mount-blob":      "mount blob",
	"delete-manifest": "delete",
	"delete-blob":     "delete blob",
}

// observe is told of each request once it has been served.
func (a *audit) observe(r *http.Request, e *handler.Event, more ...zap.Field) {
	if a.log == nil || !a.log.Core().Enabled(zapcore.InfoLevel) {
		return
	}
	if !e.Who.IsAnonymous() && !a.byToken(r) && a.logins.isFirst(r, e.Who) {
		a.write(r, "login", e, more...)
	}
	deed := deeds[e.Operation]
	switch {
	case e.Status == http.StatusUnauthorized && errors.Is(e.Err, authn.ErrRefused):
		a.write(r, "login refused", e, more...)
	case e.Status == http.StatusUnauthorized: // a client that is asked to sign in
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusForbidden:
		a.write(r, "denied", e, more...)
	case deed != "":
		a.write(r, deed, e, more...)
	}
}

// byToken reports whether who sent r has signed in for a token before.
func (a *audit) byToken(r *http.Request) bool {
	if a.tokens == nil {
		return false
	}
	_, ours, _ := a.tokens.Identify(r)
	return ours
}

// observeToken is told what is going to come of each request for a token: it's where one
// signs in.
func (a *audit) observeToken(r *http.Request, e *handler.Event) {
	switch {
	case e.Err == nil:
		e.Status = http.StatusOK
	case errors.Is(e.Err, authn.ErrRefused):
		e.Status = http.StatusUnauthorized
	case errors.Is(e.Err, oci.TooManyRequests):
		e.Status = http.StatusTooManyRequests
	default:
		return // nothing that anybody did
	}
	a.observe(r, e)
}

func (a *audit) write(r *http.Request, what string, e *handler.Event, more ...zap.Field) {
	c := a.log.Check(zapcore.InfoLevel, what)
	if c == nil {
		return
	}
	fields := append(make([]zap.Field, 0, 16), zap.String("registry", a.registry), zap.String("client", clientaddr.Of(r).String()))
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, zap.String(key, value))
		}
	}
	user := e.Who.ID
	if user == "" {
		user = claimedUser(r)
	}
	add("user", user)
	add("provider", e.Who.Provider)
	add("operation", e.Operation)
	add("repository", e.Repository.String())
	add("reference", e.Reference.String())
	add("digest", e.Digest.String())
	add("code", string(e.Code))
	if refusal := e.Err; refusal != nil {
		add("reason", reasonOf(refusal))
	}
	add("uuid", requestID(r.Context()))
	c.Write(append(append(fields, more...), zap.Int("status", e.Status))...)
}

// requestID is the id of the request whose context it is; empty if it's none.
func requestID(ctx context.Context) string {
	repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}

// reasonOf is what the audit log says about why something was refused. What failed
// on our side is told to the other log.
func reasonOf(err error) string {
	if errors.Is(err, authn.ErrRefused) {
		return err.Error()
	}
	if refused, ok := errors.AsType[*oci.Error](err); ok {
		return refused.Error()
	}
	return "failed"
}

// claimedUser is whom a client says it is that isn't known. It may be anything.
func claimedUser(r *http.Request) string {
	const longest = 128
	user, _, found, err := authn.Password(r)
	if !found || err != nil {
		return ""
	}
	return user[:min(len(user), longest)]
}
