package handler

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// retryAfter is when a client may come back to a store that can't serve it, in seconds.
const retryAfter = 10

// maxErrors is how many errors one response names: a manifest of 4 MiB may
// name 40,000 blobs that aren't there.
const maxErrors = 100

// writeError is the only function that turns an error into a response, and the
// only one that logs it. What went wrong on our side isn't the client's to
// know: 5xx has a status and no text.
func (h *Handler) writeError(w http.ResponseWriter, r *request, err error) {
	r.event.Err = err
	gone := r.Context().Err() != nil && !r.body.timedOut() // which on HTTP/1 ends the context too
	if gone || r.started {
		h.log(r, slog.LevelDebug, "response broken off", err)
		panic(http.ErrAbortHandler) // to return would be an answer, and a good one
	}
	e := h.clientError(w, r, err)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.leaveBody(header) {
		defer r.hearOut(w)
	}
	if e == nil {
		h.log(r, slog.LevelError, "request failed", err)
		header.Set("Content-Length", "0")
		r.respond(w, serverStatus(header, err))
		return
	}
	r.event.Code = e.Code
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if e.HTTPStatus() == http.StatusMethodNotAllowed {
		header.Set("Allow", r.resource.allow())
	}
	h.writeErrorBody(w, r, e)
}

// clientError returns what to tell the client, or nil if the fault is ours.
func (h *Handler) clientError(w http.ResponseWriter, r *request, err error) *oci.Error {
	if ours(err) {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok { // a limit that another handler has set
		return &oci.Error{Code: oci.SizeInvalid, Status: http.StatusRequestEntityTooLarge}
	}
	var e *oci.Error
	if !errors.As(err, &e) {
		if code := oci.Code(""); errors.As(err, &code) {
			return &oci.Error{Code: code}
		}
		return nil
	}
	if e.HTTPStatus() >= http.StatusInternalServerError {
		return nil
	}
	if e.HTTPStatus() == http.StatusUnauthorized {
		return h.challenge(w, r, e)
	}
	return e
}

// challenge adds the challenge to a 401, which is none without it (RFC 9110,
// section 11.6.1).
func (h *Handler) challenge(w http.ResponseWriter, r *request, e *oci.Error) *oci.Error {
	if h.opts.Challenge != nil {
		if c := h.opts.Challenge(r.Request, r.question); c != "" {
			w.Header().Set("Www-Authenticate", c)
			return e
		}
	}
	denied := &oci.Error{Code: oci.Denied}
	if cause := e.Unwrap(); cause != nil {
		errors.As(oci.Errorf(oci.Denied, "%w", cause), &denied)
	}
	return denied
}

// ours reports whether err is one of those that no client is to blame for,
// whatever else it wraps.
func ours(err error) bool {
	return errors.Is(err, storage.ErrFull) || errors.Is(err, storage.ErrStandby) ||
		errors.Is(err, storage.ErrBroken) || errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrClosed) ||
		errors.Is(err, errNobodyKnows)
}

func serverStatus(header http.Header, err error) int {
	switch {
	case errors.Is(err, storage.ErrFull):
		return http.StatusInsufficientStorage
	case ours(err):
		header.Set("Retry-After", strconv.Itoa(retryAfter))
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// wireErrors is the body of a 4xx (distribution-spec, "Error Codes").
type wireErrors struct {
	Errors []wireError `json:"errors"`
}

type wireError struct {
	Code    oci.Code `json:"code"`
	Message string   `json:"message"`
	Detail  any      `json:"detail,omitempty"`
}

func (h *Handler) writeErrorBody(w http.ResponseWriter, r *request, e *oci.Error) {
	if r.Method == http.MethodHead {
		r.respond(w, e.HTTPStatus())
		return
	}
	body, err := json.Marshal(wireErrors{listErrors(e)})
	if err != nil { // a Detail that isn't JSON
		h.log(r, slog.LevelError, "error detail", err)
		body, _ = json.Marshal(wireErrors{[]wireError{{Code: e.Code, Message: e.Error()}}})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	r.respond(w, e.HTTPStatus())
	_, _ = w.Write(body) // the client may be gone; there's nobody to tell
}

// listErrors makes one error of each element of a Detail that is a list: the
// spec has one MANIFEST_BLOB_UNKNOWN for each that is unknown.
func listErrors(e *oci.Error) []wireError {
	list := reflect.ValueOf(e.Detail)
	if list.Kind() != reflect.Slice || list.Len() == 0 {
		return []wireError{{Code: e.Code, Message: e.Error(), Detail: e.Detail}}
	}
	errs := make([]wireError, min(list.Len(), maxErrors))
	for i := range errs {
		errs[i] = wireError{Code: e.Code, Message: e.Error(), Detail: list.Index(i).Interface()}
	}
	return errs
}

func (h *Handler) log(r *request, level slog.Level, msg string, err error) {
	h.opts.Log.LogAttrs(r.Context(), level, msg,
		slog.String("operation", endpoints[r.kind].operation),
		slog.String("repository", r.name.String()),
		slog.Any("error", err))
}
