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

// logEvent puts what a request was about into its access log, as the object
// "oci", and into the placeholders {http.oci_registry.*}.
func logEvent(r *http.Request, e handler.Event) {
	said := &eventFields{e}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(said.placeholder)
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("oci", said))
	}
}

// eventFields is an Event as log lines and placeholders have it. Most requests
// are neither logged nor asked for, so nothing is made of it before.
type eventFields struct{ handler.Event }

// each calls fn for what is known of the event.
func (e *eventFields) each(fn func(name, value string)) {
	for _, f := range [...]struct{ name, value string }{
		{"operation", e.Operation},
		{"repository", e.Repository.String()},
		{"reference", e.Reference.String()},
		{"digest", e.Digest.String()},
		{"upload", e.Upload},
		{"user", e.Who.ID},
		{"error", string(e.Code)},
	} {
		if f.value != "" {
			fn(f.name, f.value)
		}
	}
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *eventFields) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	e.each(enc.AddString)
	return nil
}

// placeholder is a caddy.ReplacerFunc.
func (e *eventFields) placeholder(key string) (value any, ok bool) {
	name, ours := strings.CutPrefix(key, "http.oci_registry.")
	if ours {
		e.each(func(n, v string) {
			if n == name {
				value, ok = v, true
			}
		})
	}
	return value, ok
}

var _ zapcore.ObjectMarshaler = (*eventFields)(nil)
