package ociregistry

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oci/oci-registry/handler"
)

// requestLog is a slog.Handler that adds the id of the request, if the context
// is that of one, so that a line about an error meets its line in the access log.
type requestLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (l requestLog) Handle(ctx context.Context, rec slog.Record) error {
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if id, ok := repl.GetString("http.request.uuid"); ok {
			rec.AddAttrs(slog.String("uuid", id))
		}
	}
	// For a request with extra fields Caddy has another handler, which adds them
	// and 4 KB of stack to every error.
	return l.Handler.Handle(context.WithValue(ctx, caddyhttp.ExtraLogFieldsCtxKey, nil), rec)
}

// WithAttrs implements slog.Handler.
func (l requestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestLog{l.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l requestLog) WithGroup(name string) slog.Handler {
	return requestLog{l.Handler.WithGroup(name)}
}

// field is something that a request was about.
type field struct{ name, value string }

// fieldsOf is what a request was about, by the names that logs and traces have
// for it. What doesn't apply is empty.
func fieldsOf(e *handler.Event) [7]field {
	return [...]field{
		{"operation", e.Operation},
		{"repository", e.Repository.String()},
		{"reference", e.Reference.String()},
		{"digest", e.Digest.String()},
		{"upload", e.Upload},
		{"user", e.Who.ID},
		{"error", string(e.Code)},
	}
}

// logEvent puts what a request was about into its access log, as the object
// "oci", and into the placeholders {http.oci_registry.*}.
func logEvent(r *http.Request, e *handler.Event) {
	said := (*eventLog)(e)
	ctx := r.Context()
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(said.placeholder)
	}
	if srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && srv.Logs == nil {
		return // nobody reads the extra fields
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("oci", said))
	}
}

// eventLog is an Event as log lines and placeholders have it. Most requests are
// neither logged nor asked for, so nothing is made of it before.
type eventLog handler.Event

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *eventLog) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for _, f := range fieldsOf((*handler.Event)(e)) {
		if f.value != "" {
			enc.AddString(f.name, f.value)
		}
	}
	return nil
}

// placeholder is a caddy.ReplacerFunc.
func (e *eventLog) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, "http.oci_registry.")
	if !ours {
		return nil, false
	}
	for _, f := range fieldsOf((*handler.Event)(e)) {
		if f.name == name && f.value != "" {
			return f.value, true
		}
	}
	return nil, false
}

var _ zapcore.ObjectMarshaler = (*eventLog)(nil)
