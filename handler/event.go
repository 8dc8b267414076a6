package handler

import (
	"cmp"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// Event says what a request was and how it ended. Nothing in it is taken from a
// request without having been checked, so all of it may be logged, and
// Operation, Code and Status may be labels of metrics.
type Event struct {
	// Operation is the endpoint as a word, such as "get-manifest", or "invalid"
	// if the request was for none. A mount that can't be is a "start-upload".
	Operation string

	// Repository is zero for requests that span repositories.
	Repository oci.Name

	// Reference is the tag or digest of a manifest, as the client gave it.
	Reference oci.Reference

	// Digest is the content that the request was about: of a blob, of the manifest
	// found or pushed, or the subject of referrers. Zero if that isn't known.
	Digest digest.Digest

	// Upload is the ID of an upload session.
	Upload string

	// Who sent the request.
	Who authz.Identity

	// Status is what the client was answered, 0 if nothing.
	Status int

	// Code is the error code that the client was told.
	Code oci.Code

	// Err is what went wrong, on our side or the client's, for a log that the
	// client doesn't read.
	Err error

	// Received and Sent are how many bytes of content came or went.
	Received, Sent int64

	// Duration is how long it took: to receive what the client sent and to send
	// it the content, too.
	Duration time.Duration
}

// invalid is the Operation of a request that was for no endpoint.
const invalid = "invalid"

// Operations lists what the Operation of an Event can be.
func Operations() []string {
	all := make([]string, numKinds)
	for k, e := range endpoints {
		all[k] = e.operation
	}
	all[0] = invalid
	return all
}

// end is the last thing done for a request. It runs while ServeHTTP panics, too.
func (h *Handler) end(r *request) {
	if h.opts.Observe != nil {
		h.opts.Observe(r.Request, r.concluded())
	}
	r.release()
}

// concluded is the Event of a request that's been served.
func (r *request) concluded() *Event {
	e := &r.event
	e.Operation = invalid
	if r.kind != 0 {
		e.Operation = endpoints[r.kind].operation
	}
	e.Repository, e.Reference = r.name, r.ref
	e.Upload, e.Digest = cmp.Or(e.Upload, r.upload), cmp.Or(e.Digest, r.digest)
	e.Who = r.question.Who
	e.Received = r.body.n
	e.Duration = time.Since(r.began)
	return e
}
