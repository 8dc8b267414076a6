package ociregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/observed"
)

// Handler is the HTTP handler that serves a registry: one that the app
// declares, or one described here. Requests that aren't for the registry, by
// their path, go to the next handler.
type Handler struct {
	// Use is the name of a registry that the app oci_registry declares.
	// Default: empty, the other fields describe a registry.
	Use string `json:"registry,omitempty"`

	// Name is what the registry described here is called in logs and in the
	// admin API, and where its keys are in Caddy's storage. Default: inline.
	Name string `json:"name,omitempty"`

	Registry

	// Page answers GET / with a page for people, which says what this is.
	// Default: false; 'caddy oci-registry serve' sets it.
	Page bool `json:"page,omitempty"`

	registry *Registry
	log      *slog.Logger
	protocol *atomic.Pointer[protocol] // of the store that the last request found
}

// CaddyModule implements caddy.Module.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.oci_registry",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the registry, or has the app make it of the description.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = slog.New(requestLog{ctx.Slogger().Handler()})
	h.protocol = new(atomic.Pointer[protocol])
	if srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		makeRoomForRanges(srv)
		srv.RegisterConnContext(handler.ConnContext)
	}
	mod, err := ctx.App("oci_registry")
	if err != nil {
		return err
	}
	app, ok := mod.(*App)
	if !ok {
		return fmt.Errorf("app oci_registry is a %T", mod)
	}
	if h.Use == "" {
		h.registry, err = app.describe(ctx, h.Name, &h.Registry)
		return err
	}
	if h.registry, ok = app.registry(h.Use); !ok {
		return fmt.Errorf("registry %q isn't declared (declared: %s): declare it with the global option 'oci_registry { registry %[1]s { … } }'", h.Use, app.names())
	}
	return h.checkUse()
}

// maxHeaderBytes is what podman may need, which asks for the parts of a zstd:chunked
// layer with up to 22 KiB of ranges, and doesn't recover from a 431.
const maxHeaderBytes = 64 << 10

// makeRoomForRanges raises the limit of the server that this handler is in from
// Caddy's default. Another one was set by somebody who meant it.
func makeRoomForRanges(srv *caddyhttp.Server) {
	const caddysDefault = 16 << 10
	if srv.MaxHeaderBytes == caddysDefault {
		srv.MaxHeaderBytes = maxHeaderBytes
	}
}

// checkUse refuses a description beside the name of a registry that has one.
func (h *Handler) checkUse() error {
	if h.Name != "" {
		return fmt.Errorf("registry %q has another name, %q, where it's used: leave that out", h.Use, h.Name)
	}
	description, err := json.Marshal(h.Registry)
	if err != nil {
		return err
	}
	if !bytes.Equal(description, []byte("{}")) {
		return fmt.Errorf("registry %q is described where it's used, by %s: move that to where the app declares it", h.Use, description)
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler. Whatever it serves it
// answers itself, errors too, and returns nil.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.registry.lease.Stopped() && r.ProtoMajor == 2 {
		sendAway(w)
	}
	switch {
	case h.registry.isSignIn(r.URL.Path):
		h.serveSignIn(w, r)
	case r.URL.Path == tokenPath && h.registry.tokens != nil:
		h.serveToken(w, r)
	case isKeysPath(r.URL.Path) && h.registry.keys != nil:
		h.serveKeys(w, r)
	case isAPI(r.URL.Path):
		h.serveAPI(w, r)
	case h.registry.isHealth(r.URL.Path):
		h.serveHealth(w, r)
	case h.Page && r.URL.Path == "/":
		h.servePage(w, r)
	default:
		return next.ServeHTTP(w, r)
	}
	return nil
}

// sendAway has the connection closed once its requests are answered. net/http tells those
// of HTTP/2 to go when their server is shut down, but not one that is made in that
// moment (https://go.dev/issue/81153): it would stay with a configuration that's gone,
// and with what everybody might do then, for as long as the client sends requests.
func sendAway(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

func isAPI(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }

func (h *Handler) serveAPI(w http.ResponseWriter, r *http.Request) {
	traced := isTraced(r.Context())
	if traced {
		ctx, span := startSpan(r.Context(), "oci_registry") // until it's known what the request is
		defer span.End()
		r = r.WithContext(ctx)
	}
	if !h.registry.lease.Enter() {
		h.refuse(w, r, errReplaced)
		return
	}
	defer h.exit()
	p, err := h.protocolFor(r.Context())
	if err != nil {
		h.log.LogAttrs(r.Context(), slog.LevelError, "registry unavailable", slog.Any("error", err))
		h.refuse(w, r, err)
		return
	}
	defer sendInChunks(r)()
	r = h.registry.withRequest(r)
	h.registry.renew(w, r)
	p.count(1)
	defer p.count(-1)
	if traced {
		p.traced.ServeHTTP(w, r)
	} else {
		p.plain.ServeHTTP(w, r)
	}
}

// exit ends a request's share in the store, which closes it if this was the
// last request of a configuration that's gone.
func (h *Handler) exit() {
	if err := h.registry.lease.Exit(); err != nil {
		h.log.Error("closing the storage", slog.String("registry", h.registry.name), slog.Any("error", err))
	}
}

// unavailable is the operation of requests that refuse has answered: nobody has
// looked at what they wanted.
const unavailable = "unavailable"

// refuse sends the client away for a moment: the registry isn't in the
// configuration any more, or its store can't be opened now.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	e := &handler.Event{Operation: unavailable, Status: http.StatusServiceUnavailable, Err: err}
	if began, ok := caddyhttp.GetVar(r.Context(), "start_time").(time.Time); ok { // Caddy's
		e.Duration = time.Since(began)
	}
	if isTraced(r.Context()) {
		h.observeTraced(r, e)
	} else {
		h.observe(r, e)
	}
}

// observe is told of each request once it has been served.
func (h *Handler) observe(r *http.Request, e *handler.Event) {
	h.registry.meters.observe(r, e)
	h.registry.audit.observe(r, e)
	logEvent(r, e)
}

// protocol is the core handler for one store. There's another one for requests
// that are traced, so that the others pay nothing for it.
type protocol struct {
	store         storage.Store
	places        []*workplace // whose background work makes way for requests
	plain, traced *handler.Handler
}

// count counts requests that are being answered.
func (p *protocol) count(n int64) {
	for _, w := range p.places {
		w.requests.Add(n)
	}
}

// protocolFor returns the core handler of the store that's open now. The first
// request opens it: the server may be started before the app. The caller holds
// the lease.
func (h *Handler) protocolFor(ctx context.Context) (*protocol, error) {
	store, err := h.registry.open(ctx)
	if err != nil {
		return nil, err
	}
	if p := h.protocol.Load(); p != nil && p.store == store {
		return p, nil
	}
	opts := handler.Options{
		Store:           h.registry.guard(store),
		Authorizer:      h.registry.authorizer,
		Identity:        h.registry.identify,
		Challenge:       h.registry.challenge,
		ChallengeFirst:  h.registry.tokens != nil,
		Client:          clientaddr.Of,
		Observe:         h.observe,
		Log:             h.log,
		MaxManifestSize: h.registry.MaxManifestSize,
		MaxBlobSize:     h.registry.MaxBlobSize,
		Sparse:          h.registry.SparseManifests,
	}
	p := &protocol{store: store, plain: handler.New(opts)}
	if p.places, err = h.registry.lease.workplaces(ctx); err != nil {
		return nil, err
	}
	opts.Store, opts.Observe = observed.New(opts.Store, traceStore), h.observeTraced
	p.traced = handler.New(opts)
	h.protocol.Store(p)
	return p, nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
