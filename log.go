package ociregistry

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

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

// observe puts what a request was about into its access log, as the object
// "oci", and into the placeholders {http.oci_registry.*}.
func observe(r *http.Request, e handler.Event) {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	var fields []zap.Field
	for _, f := range [...]struct{ name, value string }{
		{"operation", e.Operation},
		{"repository", e.Repository.String()},
		{"reference", e.Reference.String()},
		{"digest", e.Digest.String()},
		{"upload", e.Upload},
		{"user", e.Who.ID},
		{"error", string(e.Code)},
	} {
		if f.value == "" {
			continue
		}
		fields = append(fields, zap.String(f.name, f.value))
		if repl != nil {
			repl.Set("http.oci_registry."+f.name, f.value)
		}
	}
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if ok && len(fields) > 0 {
		extra.Set(zap.Dict("oci", fields...))
	}
}
