package cel

import (
	"context"
	"time"
)

// Request is what conditions may ask of the request and an authz.Question doesn't
// say. Who serves the request puts it into the context.
type Request struct {
	// Method is the HTTP method.
	Method string

	// UserAgent is the header User-Agent.
	UserAgent string

	// ForwardedFor are the addresses of the headers X-Forwarded-For, from left to
	// right, as the client or a proxy wrote them.
	ForwardedFor []string

	// TLSVersion is the version of TLS that the request came in by, such as "1.3".
	// Default: empty, no TLS.
	TLSVersion string

	// Time is when the request came. Default: when the condition is asked.
	Time time.Time
}

type requestKey struct{}

// WithRequest returns a context that has a request for conditions to ask. r must
// not change any more. Without one what a condition asks of it is an error.
func WithRequest(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}
