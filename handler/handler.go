// Package handler speaks the OCI distribution protocol, distribution-spec main,
// over net/http for any storage.Store.
//
// A request goes one way: parse its line, authorize the route, serve the
// endpoint, write the error if there's one. Handlers return errors; only
// writeError turns them into responses.
package handler

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Options configure a Handler. Only Store is required.
type Options struct {
	// Store is what is served. The caller closes it, after the last request.
	Store storage.Store

	// Authorizer decides about every request. Default: authz.AnonymousPull.
	Authorizer authz.Authorizer

	// Identity says who sent a request. An error that is oci.Unauthorized refuses its
	// credentials, and oci.TooManyRequests asks for patience; the client is told their
	// text. Any other error means that it couldn't be found out, which is 503: nobody
	// is anonymous by mistake. Default: anonymous.
	Identity func(*http.Request) (authz.Identity, error)

	// Client says where a request came from. Default: its RemoteAddr.
	Client func(*http.Request) netip.Addr

	// Observe is called once when a request has been served, for logs and
	// metrics. The Event doesn't change afterwards, and may be kept. Default: nil,
	// nobody looks.
	Observe func(*http.Request, *Event)

	// Log gets what went wrong on our side. Default: discarded.
	Log *slog.Logger

	// MaxManifestSize is the largest manifest accepted, in bytes. Default: 4 MiB,
	// the least that the spec wants clients to be able to rely on.
	MaxManifestSize int64

	// MaxBlobSize is the largest blob accepted, in bytes. Default: 0, no limit.
	MaxBlobSize int64

	// Sparse is what a pushed manifest may name without its being there.
	// Default: storage.SparseIndexes.
	Sparse storage.Sparse

	// Challenge returns the WWW-Authenticate of a 401 to what was asked, which has
	// no Who if that's what is refused. If there is one, it's the scopes of a bearer
	// token that don't include it. Empty: signing in doesn't help, and what would be 401
	// is 403. Default: nil, it never does.
	Challenge func(*http.Request, authz.Question) string

	// ChallengeFirst answers 401 to GET /v2/ without credentials, whatever anonymous
	// callers may do: Docker and others sign in as this answer says or not at all,
	// and get a token for nobody if they have no user. Default: false.
	ChallengeFirst bool

	// Extensions are listed by _oci/ext/discover. Default: none.
	Extensions []Extension
}

// defaultMaxManifestSize is the MaxManifestSize of zero Options.
const defaultMaxManifestSize = 4 << 20

// Handler is the registry's http.Handler. It serves /v2 and everything below
// it; any other path is not found. It is safe for concurrent use.
type Handler struct{ opts Options }

var _ http.Handler = (*Handler)(nil)

// New returns a Handler for opts.Store.
func New(opts Options) *Handler {
	if opts.Authorizer == nil {
		opts.Authorizer = authz.AnonymousPull
	}
	if opts.Identity == nil {
		opts.Identity = func(*http.Request) (authz.Identity, error) { return authz.Identity{}, nil }
	}
	if opts.Client == nil {
		opts.Client = remoteAddr
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.MaxManifestSize == 0 {
		opts.MaxManifestSize = defaultMaxManifestSize
	}
	if opts.Sparse == "" {
		opts.Sparse = storage.SparseIndexes
	}
	if opts.Extensions == nil {
		opts.Extensions = []Extension{}
	}
	return &Handler{opts}
}

func remoteAddr(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// request is a request on its way through the Handler. It is used again for
// another one, so nobody may have it once it's been served.
type request struct {
	*http.Request
	*lasting
	route

	question authz.Question
	repo     storage.Repository // nil if the route has no name
	began    time.Time
	answer   authz.Answer
	started  bool // the response's header is out
}

// lasting is what others may still have when a request has been served, so it's
// never used again.
type lasting struct {
	body   body            // whoever gave up on a slow client may be reading
	want   [1]authz.Access // holds the Want of most questions
	values values          // of the response's header, which access logs look at
	event  Event           // Options.Observe may keep it
}

// served are requests to use again.
var served = sync.Pool{New: func() any { return new(request) }}

func newRequest(r *http.Request) *request {
	req, _ := served.Get().(*request)
	req.Request, req.lasting, req.began = r, &lasting{body: newBody(r)}, time.Now()
	return req
}

func (r *request) release() {
	*r = request{}
	served.Put(r)
}

// endpoint is what one kind of route needs and does.
type endpoint struct {
	operation string       // a stable word for logs and metrics
	action    authz.Action // on the route's repository
	serve     func(*Handler, http.ResponseWriter, *request) error
}

// endpoints has one entry for every kind but zero.
var endpoints = [numKinds]endpoint{
	ping:             {"ping", authz.List, (*Handler).ping},
	getBlob:          {"get-blob", authz.Pull, (*Handler).getBlob},
	getManifest:      {"get-manifest", authz.Pull, (*Handler).getManifest},
	startUpload:      {"start-upload", authz.Push, (*Handler).startUpload},
	putBlob:          {"put-blob", authz.Push, (*Handler).putBlob},
	patchUpload:      {"patch-upload", authz.Push, (*Handler).patchUpload},
	finishUpload:     {"finish-upload", authz.Push, (*Handler).finishUpload},
	putManifest:      {"put-manifest", authz.Push, (*Handler).putManifest},
	listTags:         {"list-tags", authz.Pull, (*Handler).listTags},
	deleteManifest:   {"delete-manifest", authz.Delete, (*Handler).deleteManifest},
	deleteBlob:       {"delete-blob", authz.Delete, (*Handler).deleteBlob},
	mountBlob:        {"mount-blob", authz.Push, (*Handler).mountBlob},
	listReferrers:    {"list-referrers", authz.Pull, (*Handler).listReferrers},
	getUpload:        {"get-upload", authz.Push, (*Handler).getUpload},
	cancelUpload:     {"cancel-upload", authz.Push, (*Handler).cancelUpload},
	listRepositories: {"list-repositories", authz.List, (*Handler).listRepositories},
	listExtensions:   {"list-extensions", authz.List, (*Handler).listExtensions},
}

// ServeHTTP serves one request. It panics with http.ErrAbortHandler if the
// response can't be completed, so that no client takes it for whole.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := newRequest(r)
	defer h.end(req)
	if err := h.serve(w, req); err != nil {
		h.writeError(w, req, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *request) error {
	if err := r.parse(r.Method, r.URL); err != nil {
		return err
	}
	if err := checkEarlyData(r.TLS, r.kind); err != nil {
		return err
	}
	if err := crossOrigin.Check(r.Request); err != nil {
		return oci.Errorf(oci.Denied, "a page of another site can't change anything here")
	}
	if err := h.authorize(r); err != nil {
		return err
	}
	if !r.name.IsZero() {
		r.repo = h.opts.Store.Repository(r.name)
	}
	return endpoints[r.kind].serve(h, w, r)
}

// crossOrigin refuses what a browser sends on behalf of another site: it may do
// so with the user's credentials, or from inside the user's network. Clients
// that aren't browsers say nothing of an origin.
var crossOrigin = http.NewCrossOriginProtection()

// checkEarlyData refuses changes in TLS early data, which whoever recorded it
// can send again (RFC 8470): a tag would move back.
func checkEarlyData(c *tls.ConnectionState, k kind) error {
	if c == nil || c.HandshakeComplete {
		return nil
	}
	if a := endpoints[k].action; a == authz.Pull || a == authz.List {
		return nil
	}
	return oci.WithStatus(http.StatusTooEarly, oci.Denied, "in early data")
}

// respond sends the response's header. Nothing is told to a client any other
// way, so that the request's Event knows.
func (r *request) respond(w http.ResponseWriter, status int) {
	r.started = true
	r.event.Status = status
	r.protect(w.Header())
	w.WriteHeader(status)
}
