package token

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

const (
	maxBody  = 64 << 10 // of a POST, in bytes: a password may be a JWT
	maxQuery = 16 << 10

	// retryAfter is when a client may come back that nobody could identify, in seconds.
	retryAfter = 5
)

// answer is what a client gets.
type answer struct {
	Token     string `json:"token"`
	Access    string `json:"access_token"`
	ExpiresIn int    `json:"expires_in"` // seconds
	IssuedAt  string `json:"issued_at"`
	Scope     string `json:"scope"`
	Refresh   string `json:"refresh_token,omitempty"`
}

// ServeHTTP is the token server: GET with credentials in the header Authorization, and
// POST of a form with a password or a refresh token. It serves any path.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	var e Event
	a, err := s.answer(w, r, &e)
	e.Err = err
	if s.opts.Observe != nil {
		s.opts.Observe(r, e)
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, a)
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, e *Event) (*answer, error) {
	if err := s.opts.Admit(r); err != nil {
		return nil, err
	}
	q, err := parseRequest(w, r)
	if err != nil {
		return nil, err
	}
	e.Grant, e.Client = q.grant, q.client
	service := s.opts.Service(r)
	if q.service != "" && q.service != service {
		return nil, badRequestf("service %q: this is %q", q.service, service)
	}
	e.Who, err = s.who(r, q, service)
	if err == nil {
		err = s.opts.AdmitUser(e.Who)
	}
	if err != nil {
		return nil, err
	}
	ask := asker{s.opts.Authorizer, e.Who, s.opts.Client(r)}
	g, err := ask.grant(r.Context(), q.scopes)
	if err != nil {
		return nil, err
	}
	if e.Who.IsAnonymous() && len(g.limit) == 0 {
		if err := ask.nothing(r.Context(), q.scopes); err != nil {
			return nil, err
		}
	}
	e.Scope = g.text()
	return s.issue(r.Context(), q, e.Who, g, service)
}

// nothing is why nobody gets nothing: a user could get something by signing in.
func (a asker) nothing(ctx context.Context, scopes []Scope) error {
	if len(scopes) > 0 {
		return oci.Errorf(oci.Unauthorized, "nothing of it may be done without signing in")
	}
	_, err := a.authorizer.Authorize(ctx, authz.Question{Who: a.who, Client: a.client})
	return err
}

// who finds out who asks. Nobody is anonymous by mistake: only who shows no
// credentials at all.
func (s *Service) who(r *http.Request, q *request, service string) (authz.Identity, error) {
	switch q.grant {
	case "password":
		r = withPassword(r, q.user, q.password)
	case "refresh_token":
		return s.refreshed(r.Context(), q.refresh, service)
	}
	if _, ours, err := s.Identify(r); ours {
		if err == nil {
			err = refusedf("there's no token for a token")
		}
		return authz.Identity{}, err
	}
	who, found, err := s.opts.Credentials.Identify(r)
	switch {
	case err != nil:
		return authz.Identity{}, err
	case !found && q.grant != "":
		return authz.Identity{}, fmt.Errorf("%w: none were sent", authn.ErrRefused)
	case !found:
		return authz.Identity{}, nil
	}
	return who, nil
}

// withPassword is the request as if the name and the password were in its header, and
// nothing else that says who sent it.
func withPassword(r *http.Request, user, password string) *http.Request {
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = http.NoBody, 0
	r.Header.Del("Cookie")
	r.SetBasicAuth(user, password)
	if r.TLS != nil {
		r.TLS = &tls.ConnectionState{
			Version: r.TLS.Version, HandshakeComplete: r.TLS.HandshakeComplete,
			CipherSuite: r.TLS.CipherSuite, NegotiatedProtocol: r.TLS.NegotiatedProtocol, ServerName: r.TLS.ServerName,
		}
	}
	return r
}

// issue makes the tokens.
func (s *Service) issue(ctx context.Context, q *request, who authz.Identity, g grants, service string) (*answer, error) {
	set, err := s.ring.current(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c := s.accessClaims(who, g.limit, service, now)
	if who.Claims[APIKey] == nil { // which doesn't end with the password
		ask := s.generation
		if q.refresh != "" {
			ask = s.recentGeneration // it was asked for just now
		}
		if c.Generation, err = ask(ctx, who.Provider, who.ID); err != nil {
			return nil, err
		}
	}
	raw, err := set.sign(access, c, now)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxToken {
		if n := c.claimsSize(); n > maxToken/4 {
			return nil, badRequestf("the claims that the policy looks at are %d bytes, which is too much for a token of %d: have the identity provider send fewer", n, maxToken)
		}
		return nil, badRequestf("a token for all that would be %d bytes: ask for less", len(raw))
	}
	a := &answer{
		Token: raw, Access: raw, ExpiresIn: int(s.opts.Life / time.Second),
		IssuedAt: now.UTC().Format(time.RFC3339), Scope: g.text(), Refresh: q.refresh,
	}
	if q.offline && q.refresh == "" {
		a.Refresh, err = s.newRefresh(set, who, c.Generation, service, now)
	}
	return a, err
}

// request is what a client asks for.
type request struct {
	service, client string
	scopes          []Scope
	offline         bool
	grant           string // "password", "refresh_token"; empty: by the header

	user, password, refresh string
}

func parseRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, badRequestf("a query of more than %d bytes", maxQuery)
	}
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequestf("the query can't be read")
	}
	var form url.Values
	switch r.Method {
	case http.MethodGet:
	case http.MethodPost:
		if form, err = readForm(w, r); err != nil {
			return nil, err
		}
	default:
		w.Header().Set("Allow", "GET, POST")
		return nil, oci.Errorf(oci.Unsupported, "%s: want GET or POST", r.Method)
	}
	for name, values := range form {
		params[name] = append(params[name], values...)
	}
	q := &request{service: params.Get("service"), client: params.Get("client_id")}
	q.offline = isTrue(params.Get("offline_token")) || params.Get("access_type") == "offline"
	if q.scopes, err = ParseScopes(params["scope"]); err != nil {
		return nil, err
	}
	return q, q.parseGrant(form)
}

// readForm returns the fields of a POST's body.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, oci.WithStatus(http.StatusUnsupportedMediaType, oci.Unsupported, "want application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, oci.WithStatus(http.StatusRequestEntityTooLarge, oci.SizeInvalid, "a form of more than %d bytes", maxBody)
	}
	if err != nil {
		return nil, badRequestf("the form didn't come whole")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil { // whose text may have a password in it
		return nil, badRequestf("the form can't be read")
	}
	return form, nil
}

// parseGrant takes secrets from the body alone: what's in a URL is in logs.
func (q *request) parseGrant(form url.Values) error {
	switch q.grant = form.Get("grant_type"); q.grant {
	case "":
	case "password":
		q.user, q.password = form.Get("username"), form.Get("password")
	case "refresh_token":
		q.refresh = form.Get("refresh_token")
	default:
		return badRequestf("grant_type %q: want password or refresh_token", q.grant)
	}
	return nil
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(s)
	return err == nil && b
}

func badRequestf(format string, args ...any) error {
	return oci.WithStatus(http.StatusBadRequest, oci.Unsupported, format, args...)
}

// writeError tells the client what it's to know: of wrong credentials that they are
// wrong, and of our own troubles nothing.
func (s *Service) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*oci.Error](err)
	switch {
	case errors.Is(err, authn.ErrRefused):
		e = &oci.Error{Code: oci.Unauthorized}
	case !ok || e.HTTPStatus() >= http.StatusInternalServerError:
		s.opts.Log.ErrorContext(r.Context(), "no token could be given", slog.Any("error", err))
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if e.HTTPStatus() == http.StatusUnauthorized {
		w.Header().Set("Www-Authenticate", "Basic realm="+quote(cmp.Or(s.opts.Prompt, s.opts.Service(r))))
	}
	type wireError struct {
		Code    oci.Code `json:"code"`
		Message string   `json:"message"`
	}
	writeJSON(w, e.HTTPStatus(), map[string]any{"errors": []wireError{{e.Code, e.Error()}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
