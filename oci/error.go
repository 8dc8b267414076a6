package oci

import (
	"fmt"
	"net/http"
)

// Code is an error code of the distribution spec (main, "Error Codes"). It is
// an error itself, so errors.Is(err, oci.BlobUnknown) asks for one.
type Code string

// The fourteen codes of the spec. There are no others.
const (
	BlobUnknown         Code = "BLOB_UNKNOWN"
	BlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       Code = "DIGEST_INVALID"
	ManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     Code = "MANIFEST_INVALID"
	ManifestUnknown     Code = "MANIFEST_UNKNOWN"
	NameInvalid         Code = "NAME_INVALID"
	NameUnknown         Code = "NAME_UNKNOWN"
	SizeInvalid         Code = "SIZE_INVALID"
	Unauthorized        Code = "UNAUTHORIZED"
	Denied              Code = "DENIED"
	Unsupported         Code = "UNSUPPORTED"
	TooManyRequests     Code = "TOOMANYREQUESTS"
)

// codes is the one place where a code meets its status and its text.
var codes = map[Code]struct {
	status int
	text   string
}{
	BlobUnknown:         {http.StatusNotFound, "blob unknown to registry"},
	BlobUploadInvalid:   {http.StatusBadRequest, "blob upload invalid"},
	BlobUploadUnknown:   {http.StatusNotFound, "blob upload unknown to registry"},
	DigestInvalid:       {http.StatusBadRequest, "provided digest did not match uploaded content"},
	ManifestBlobUnknown: {http.StatusNotFound, "manifest references a manifest or blob unknown to registry"},
	ManifestInvalid:     {http.StatusBadRequest, "manifest invalid"},
	ManifestUnknown:     {http.StatusNotFound, "manifest unknown to registry"},
	NameInvalid:         {http.StatusBadRequest, "invalid repository name"},
	NameUnknown:         {http.StatusNotFound, "repository name not known to registry"},
	SizeInvalid:         {http.StatusBadRequest, "provided length did not match content length"},
	Unauthorized:        {http.StatusUnauthorized, "authentication required"},
	Denied:              {http.StatusForbidden, "requested access to the resource is denied"},
	Unsupported:         {http.StatusMethodNotAllowed, "the operation is unsupported"},
	TooManyRequests:     {http.StatusTooManyRequests, "too many requests"},
}

// Error returns the spec's description of the code.
func (c Code) Error() string { return codes[c].text }

// Status returns the HTTP status that goes with the code unless an Error says otherwise.
func (c Code) Status() int { return codes[c].status }

// Error is a failure that a client is told about.
type Error struct {
	// Code is one of the fourteen.
	Code Code

	// Status overrides the code's own HTTP status if it isn't zero.
	Status int

	// Detail is put into the response as JSON if it isn't nil.
	Detail any

	// RetryAfter tells the client when to come back, in seconds. Default: not said.
	RetryAfter int

	err error // what happened; for 4xx its text is the message's second half
}

// Errorf returns an *Error with the code c. Its text goes to the client, so it
// may name what the client sent and nothing of ours; %w wraps.
func Errorf(c Code, format string, args ...any) error {
	return &Error{Code: c, err: fmt.Errorf(format, args...)}
}

// WithStatus is Errorf with a status other than the code's own.
func WithStatus(status int, c Code, format string, args ...any) error {
	return &Error{Code: c, Status: status, err: fmt.Errorf(format, args...)}
}

// RangeErrorf reports bytes sent for the wrong place of an upload session:
// BlobUploadInvalid with status 416 (distribution-spec, "Pushing a blob in chunks").
func RangeErrorf(format string, args ...any) error {
	return WithStatus(http.StatusRequestedRangeNotSatisfiable, BlobUploadInvalid, format, args...)
}

// Error returns the code's text and what Errorf was given.
func (e *Error) Error() string {
	if e.err == nil {
		return e.Code.Error()
	}
	return e.Code.Error() + ": " + e.err.Error()
}

// Unwrap returns the cause, if there's one.
func (e *Error) Unwrap() error { return e.err }

// Is makes errors.Is(err, code) true for the error's own code.
func (e *Error) Is(target error) bool { return target == error(e.Code) }

// HTTPStatus returns Status, or the code's own.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Code.Status()
}
