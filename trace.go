package ociregistry

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
)

// tracerName says whose spans these are.
const tracerName = "github.com/caddy-oci/oci-registry"

// isTraced reports whether what is done in ctx is to be told: Caddy's directive
// tracing has begun a span that's going to be sent somewhere.
func isTraced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// startSpan begins a span in that of ctx, with the provider that one has: the
// directive's is known to nobody else. The caller ends it.
func startSpan(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(tracerName).Start(ctx, name)
}

// observeTraced is observe for a request that has a span.
func (h *Handler) observeTraced(r *http.Request, e *handler.Event) {
	h.observe(r, e)
	span := trace.SpanFromContext(r.Context())
	span.SetName(e.Operation)
	span.SetAttributes(
		attribute.String("oci.registry", h.registry.name),
		attribute.Int64("oci.received", e.Received),
		attribute.Int64("oci.sent", e.Sent),
		attribute.Int("http.response.status_code", e.Status), // 0 if the client was answered nothing
	)
	for _, f := range fieldsOf(e) {
		if f.value != "" && f.name != "user" { // traces go to others than the log does
			span.SetAttributes(attribute.String("oci."+f.name, f.value))
		}
	}
	endWith(span, e.Err, failed(r, e))
}

// traceStore is an observed.Begin.
func traceStore(ctx context.Context, method string) (context.Context, func(error)) {
	ctx, span := startSpan(ctx, "storage."+method)
	return ctx, func(err error) {
		endWith(span, err, err != nil && !isForClient(err))
		span.End()
	}
}

// endWith puts how something ended into its span. That a client asks for what
// isn't there is no failure.
func endWith(span trace.Span, err error, failed bool) {
	if err != nil {
		span.RecordError(err)
	}
	if failed {
		span.SetStatus(codes.Error, readiness(err))
	}
}

// isForClient reports whether err is one that a client is told.
func isForClient(err error) bool {
	var e *oci.Error
	var code oci.Code
	return errors.As(err, &e) || errors.As(err, &code)
}
