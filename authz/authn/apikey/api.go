package apikey

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

// API is how users see to their keys over HTTP, with JSON.
//
//	GET    <path>             {"keys": [KEY, …]}: the user's own
//	GET    <path>?all=true    everybody's; for an admin
//	POST   <path>             NEW → 201, KEY and "key": the only time that it's shown
//	GET    <path>/<id>        KEY
//	DELETE <path>/<id>        204; it's revoked, and those that were created by it
//	DELETE <path>?user=NAME   {"revoked": N}: all of a user's
//
// An admin sees and revokes anybody's keys; with ?user=NAME a list has that user's,
// and &provider=NAME says which one is meant if it isn't a user of the admin's own
// provider. Who has signed in by a key sees and revokes that one and those that were
// created by it. The key of another user isn't there.
//
//	NEW: {"label": "ci", "scopes": [{"repositories": "team/**", "actions": ["pull", "push"]}],
//	      "expires_in": 2592000}                all may be left out; seconds
//	KEY: {"id": "…", "owner": "…", "provider": "…", "label": "…", "scopes": […],
//	      "created": "…", "expires": "…", "last_used": "…", "parent": "…"}
//
// An error is {"errors": [{"code": "…", "message": "…"}]} with 400, 401, 403, 404, 405,
// 413 or 415; 503 has no body. Browsers may use it from the registry's own origin only.
type API struct {
	Keys *Keys

	// Path is what comes before the IDs in a URL's path, without a slash at its end.
	Path string

	// Identity says who sent a request. Required.
	Identity func(*http.Request) (authz.Identity, error)

	// Admin reports whether somebody may see and revoke the keys of others. It isn't
	// asked of who has signed in by a credential that's limited. Default: nobody may.
	Admin func(*http.Request, authz.Identity) bool

	// Observe is told of each request once it has been served. Default: nobody is.
	Observe func(*http.Request, Served)

	// Challenge returns the WWW-Authenticate of a 401. Default: Basic.
	Challenge func(*http.Request) string
}

// Served is a request that was served.
type Served struct {
	// Operation is one of Operations.
	Operation string

	// Who sent it; zero if that isn't known.
	Who authz.Identity

	// Key is the one that it was about; empty if it was about several, or none.
	Key ID

	// Owner is whose keys those of Others are; empty: everybody's.
	Owner string

	// Others is whether the sender has seen or revoked what belongs to others.
	Others bool

	// Status is what the client was answered, and Code the error's.
	Status int
	Code   oci.Code

	// Err is why it wasn't done; nil if it was.
	Err error
}

// Operations are what the Operation of a Served can be. Invalid is a request for nothing
// that there is.
func Operations() []string {
	return []string{"list-keys", "get-key", "create-key", "delete-key", "delete-keys", invalid}
}

const invalid = "invalid-keys"

const maxBody = 8 << 10 // of a request, in bytes

// call is a request to the API.
type call struct {
	api API
	w   http.ResponseWriter
	r   *http.Request
	who authz.Identity
	id  ID // empty: all

	served Served
}

// ServeHTTP implements http.Handler.
func (a API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	c := &call{api: a, w: w, r: r}
	c.served.Operation = invalid
	if err := c.serve(); err != nil {
		c.served.Err = err
		c.writeError(err)
	}
	if a.Observe != nil {
		c.served.Who = c.who
		a.Observe(r, c.served)
	}
}

func (c *call) serve() error {
	if err := http.NewCrossOriginProtection().Check(c.r); err != nil {
		return oci.Errorf(oci.Denied, "this came from a page of another origin")
	}
	var ok bool
	if c.id, ok = c.api.idOf(c.r.URL.Path); !ok {
		return errNoKey
	}
	c.served.Key = c.id
	serve := c.method()
	if serve == nil {
		return oci.Errorf(oci.Unsupported, "want %s", c.w.Header().Get("Allow"))
	}
	var err error
	if c.who, err = c.api.Identity(c.r); err != nil {
		return err
	}
	if c.who.IsAnonymous() {
		return oci.Errorf(oci.Unauthorized, "API keys are for users: sign in")
	}
	return serve()
}

// idOf returns the ID that a path ends in, empty for the path of all.
func (a API) idOf(path string) (id ID, ok bool) {
	rest, ok := strings.CutPrefix(path+"/", a.Path+"/")
	id = ID(strings.TrimSuffix(rest, "/"))
	return id, ok && (id == "" || id.ok())
}

// method is what the request asks for; nil, with Allow, if that isn't to be had.
func (c *call) method() func() error {
	does := func(operation string, serve func() error) func() error {
		c.served.Operation = operation
		return serve
	}
	switch {
	case c.r.Method == http.MethodGet && c.id == "":
		return does("list-keys", c.list)
	case c.r.Method == http.MethodGet:
		return does("get-key", c.show)
	case c.r.Method == http.MethodPost && c.id == "":
		return does("create-key", c.create)
	case c.r.Method == http.MethodDelete && c.id == "":
		return does("delete-keys", c.revokeAll)
	case c.r.Method == http.MethodDelete:
		return does("delete-key", c.revoke)
	case c.id == "":
		c.w.Header().Set("Allow", "GET, POST, DELETE")
	default:
		c.w.Header().Set("Allow", "GET, DELETE")
	}
	return nil
}

var (
	errNoKey    = oci.WithStatus(http.StatusNotFound, oci.NameUnknown, "there's no such API key")
	errNotAdmin = oci.Errorf(oci.Denied, "that's for an admin who has signed in with a password or a session")
)

func (c *call) isAdmin() bool {
	return c.who.Limit == nil && c.api.Admin != nil && c.api.Admin(c.r, c.who)
}

// user is whose keys are meant: the sender's, or those of whom the query says.
func (c *call) user() (provider, user string, err error) {
	query := c.r.URL.Query()
	provider, user = c.who.Provider, c.who.ID
	if query.Has("user") {
		user = query.Get("user")
	}
	if query.Has("provider") {
		provider = query.Get("provider")
	}
	if provider != c.who.Provider || user != c.who.ID {
		if !c.isAdmin() {
			return "", "", errNotAdmin
		}
		c.served.Others, c.served.Owner = true, user
	}
	return provider, user, nil
}

func (c *call) list() error {
	if all, _ := strconv.ParseBool(c.r.URL.Query().Get("all")); all {
		if !c.isAdmin() {
			return errNotAdmin
		}
		c.served.Others = true
		keys, err := c.api.Keys.All(c.r.Context())
		return c.writeKeys(keys, err)
	}
	provider, user, err := c.user()
	if err != nil {
		return err
	}
	keys, err := c.api.Keys.List(c.r.Context(), provider, user)
	if err == nil && c.who.Limit != nil {
		keys, err = c.ownOnly(keys)
	}
	return c.writeKeys(keys, err)
}

// ownOnly leaves of a user's keys the one by which the request was sent, and those that
// were created by it.
func (c *call) ownOnly(keys []Key) ([]Key, error) {
	own, err := c.api.Keys.ownKey(c.r.Context(), c.who)
	if err != nil {
		return nil, err
	}
	parents := make(map[ID]ID, len(keys))
	for _, k := range keys {
		parents[k.ID] = k.Parent
	}
	return slices.DeleteFunc(keys, func(k Key) bool {
		id := k.ID
		for range len(keys) { // so deep it can be
			if id == own.ID {
				return false
			}
			id = parents[id]
		}
		return true
	}), nil
}

// find returns the key that the URL says, if the sender may see it.
func (c *call) find() (Key, error) {
	k, err := c.api.Keys.Find(c.r.Context(), c.id)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, errNoKey
	}
	if err != nil {
		return Key{}, err
	}
	c.served.Others = k.Owner != c.who.ID || k.Provider != c.who.Provider
	if c.served.Others && !c.isAdmin() {
		c.served.Others = false
		return Key{}, errNoKey
	}
	c.served.Owner = k.Owner
	if c.who.Limit == nil {
		return k, nil
	}
	all, err := c.api.Keys.List(c.r.Context(), k.Provider, k.Owner)
	if err == nil {
		all, err = c.ownOnly(all)
	}
	if err == nil && !slices.ContainsFunc(all, func(o Key) bool { return o.ID == k.ID }) {
		err = errNoKey
	}
	return k, err
}

func (c *call) show() error {
	k, err := c.find()
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, viewOf(k))
}

func (c *call) create() error {
	want, err := c.readWanted()
	if err != nil {
		return err
	}
	secret, k, err := c.api.Keys.Create(c.r.Context(), c.who, want)
	if err != nil {
		return err
	}
	c.served.Key = k.ID
	c.w.Header().Set("Location", c.api.Path+"/"+string(k.ID))
	return c.write(http.StatusCreated, struct {
		view

		Secret string `json:"key"`
	}{viewOf(k), secret})
}

func (c *call) revoke() error {
	if _, err := c.find(); err != nil {
		return err
	}
	if err := c.api.Keys.Revoke(c.r.Context(), c.who, c.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.respond(http.StatusNoContent)
	return nil
}

func (c *call) respond(status int) {
	c.served.Status = status
	c.w.WriteHeader(status)
}

func (c *call) revokeAll() error {
	if !c.r.URL.Query().Has("user") {
		return badRequestf("say whose API keys to revoke: ?user=NAME, or /ID for one")
	}
	provider, user, err := c.user()
	if err != nil {
		return err
	}
	if c.who.Limit != nil {
		return errNotAdmin
	}
	n, err := c.api.Keys.RevokeAll(c.r.Context(), c.who, provider, user)
	if err != nil {
		return err
	}
	return c.write(http.StatusOK, map[string]int{"revoked": n})
}

func (c *call) readWanted() (Wanted, error) {
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return Wanted{}, oci.WithStatus(http.StatusUnsupportedMediaType, oci.Unsupported, "want application/json")
	}
	var in struct {
		Label     string  `json:"label"`
		Scopes    []scope `json:"scopes"`
		ExpiresIn int64   `json:"expires_in"`
	}
	d := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return Wanted{}, oci.WithStatus(http.StatusRequestEntityTooLarge, oci.SizeInvalid, "more than %d bytes", maxBody)
	}
	if err != nil {
		return Wanted{}, badRequestf("%v", err)
	}
	if most := int64(c.api.Keys.opts.MaxLife / time.Second); in.ExpiresIn < 0 || in.ExpiresIn > most {
		return Wanted{}, badRequestf("expires_in: want up to %d seconds", most)
	}
	if in.Scopes != nil && len(in.Scopes) == 0 {
		return Wanted{}, badRequestf("scopes: an empty list is no scope at all; leave it out for all that you may do")
	}
	want := Wanted{Label: in.Label, Life: time.Duration(in.ExpiresIn) * time.Second}
	for _, s := range in.Scopes {
		want.Scopes = append(want.Scopes, authz.Scope(s))
	}
	return want, nil
}

// view is a key as clients see it.
type view struct {
	Key

	Scopes []scope `json:"scopes"`
}

func viewOf(k Key) view { return view{k, scopesOf(k.Scopes)} }

func (c *call) writeKeys(keys []Key, err error) error {
	if err != nil {
		return err
	}
	views := make([]view, len(keys))
	for i, k := range keys {
		views[i] = viewOf(k)
	}
	return c.write(http.StatusOK, map[string][]view{"keys": views})
}

func (c *call) write(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.respond(status)
	_, _ = c.w.Write(body) // the client may be gone
	return nil
}

func (c *call) writeError(err error) {
	e, ok := errors.AsType[*oci.Error](err)
	switch {
	case errors.Is(err, authn.ErrRefused):
		e = &oci.Error{Code: oci.Unauthorized}
	case !ok || e.HTTPStatus() >= http.StatusInternalServerError:
		c.api.Keys.opts.Log.ErrorContext(c.r.Context(), "API keys", slog.Any("error", err))
		c.w.Header().Set("Content-Length", "0")
		c.respond(http.StatusServiceUnavailable)
		return
	}
	c.served.Code = e.Code
	if e.HTTPStatus() == http.StatusUnauthorized {
		c.w.Header().Set("Www-Authenticate", c.challenge())
	}
	if e.RetryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	message := e.Error()
	if cause := e.Unwrap(); cause != nil {
		message = cause.Error()
	}
	type wireError struct {
		Code    oci.Code `json:"code"`
		Message string   `json:"message"`
	}
	_ = c.write(e.HTTPStatus(), map[string][]wireError{"errors": {{e.Code, message}}}) // which is JSON
}

func (c *call) challenge() string {
	if c.api.Challenge != nil {
		return c.api.Challenge(c.r)
	}
	return `Basic realm="registry"`
}
