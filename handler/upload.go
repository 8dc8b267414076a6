package handler

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// startUpload also answers a mount that can't be: "it SHOULD return a 202"
// (distribution-spec, "Mounting a blob from another repository"). The session
// then hashes as the digest to mount does, since that is what comes next.
func (h *Handler) startUpload(w http.ResponseWriter, r *request) error {
	u, err := r.repo.NewUpload(r.Context(), storage.UploadOptions{
		By:        r.question.Who.ID,
		Algorithm: cmp.Or(r.algorithm, algorithmOf(r.digest)),
	})
	if err != nil {
		return err
	}
	// A session begins to outlive its handle here, and a full disk may be against it.
	if err := u.Close(); err != nil {
		return err
	}
	r.answerSession(w, u, http.StatusAccepted)
	return nil
}

// algorithmOf is the algorithm of d, or zero if there's no d.
func algorithmOf(d digest.Digest) digest.Algorithm {
	if d == "" {
		return ""
	}
	return d.Algorithm()
}

// putBlob takes a whole blob in one POST.
func (h *Handler) putBlob(w http.ResponseWriter, r *request) error {
	if err := h.limitBody(r, 0); err != nil {
		return err
	}
	_, err := storage.PutBlob(r.Context(), r.repo, r.digest, &r.body, storage.UploadOptions{
		By: r.question.Who.ID, Size: max(r.ContentLength, 0),
	})
	if err != nil {
		return r.body.failure(err)
	}
	r.answerCreated(w, route{kind: getBlob, name: r.name, digest: r.digest}, r.digest)
	return nil
}

func (h *Handler) getUpload(w http.ResponseWriter, r *request) error {
	u, err := r.repo.ResumeUpload(r.Context(), r.upload)
	if err != nil {
		return err
	}
	defer closeUpload(u)
	r.answerSession(w, u, http.StatusNoContent)
	return nil
}

func (h *Handler) patchUpload(w http.ResponseWriter, r *request) error {
	u, err := h.receive(w, r)
	if err != nil {
		return err
	}
	// Another process may be asked to go on from here.
	if err := u.Close(); err != nil {
		r.sayProgress(w, err)
		return err
	}
	r.answerSession(w, u, http.StatusAccepted)
	return nil
}

// finishUpload takes the last bytes, if there are any, and ends the session. A
// client that has sent everything needn't wait to see it committed.
func (h *Handler) finishUpload(w http.ResponseWriter, r *request) error {
	u, err := h.receive(w, r)
	if err != nil {
		return err
	}
	defer closeUpload(u)
	if _, err := u.Commit(context.WithoutCancel(r.Context()), r.digest); err != nil {
		return err
	}
	r.answerCreated(w, route{kind: getBlob, name: r.name, digest: r.digest}, r.digest)
	return nil
}

func (h *Handler) cancelUpload(w http.ResponseWriter, r *request) error {
	u, err := r.repo.ResumeUpload(r.Context(), r.upload)
	if err != nil {
		return err
	}
	defer closeUpload(u)
	if err := u.Cancel(r.Context()); err != nil {
		return err
	}
	r.respond(w, http.StatusNoContent)
	return nil
}

// receive adds the request's body to its session. The caller closes it.
func (h *Handler) receive(w http.ResponseWriter, r *request) (storage.Upload, error) {
	c, err := parseChunk(r.Request)
	if err != nil {
		return nil, err
	}
	u, err := r.repo.ResumeUpload(r.Context(), r.upload)
	if err != nil {
		return nil, err
	}
	if err := h.appendBody(r, u, c); err != nil {
		closeUpload(u)
		r.sayProgress(w, err)
		return nil, err
	}
	return u, nil
}

// appendBody doesn't touch a body of no bytes: the closing PUT mostly has none.
//
// The client's going away ends the body and nothing else, so that what came
// before is kept and the client can go on from there.
func (h *Handler) appendBody(r *request, u storage.Upload, c chunk) error {
	if r.body.ended() {
		return nil
	}
	if err := h.limitBody(r, u.Size()); err != nil {
		return err
	}
	if c.length >= 0 {
		r.body.atMost(c.length, oci.Errorf(oci.SizeInvalid, "more than the %d bytes of Content-Range", c.length))
	}
	ctx := context.WithoutCancel(r.Context())
	_, err := u.Append(ctx, c.offset, &r.body)
	switch {
	case err != nil && errors.Is(r.body.err, errBlobTooBig):
		return errors.Join(r.body.err, u.Cancel(ctx)) // it can't become a blob any more
	case err != nil:
		return r.body.failure(err)
	case r.body.n < c.length:
		return oci.Errorf(oci.SizeInvalid, "%d bytes came, Content-Range says %d", r.body.n, c.length)
	}
	return nil
}

// errBlobTooBig is what a body is refused with that would exceed MaxBlobSize.
var errBlobTooBig = oci.WithStatus(http.StatusRequestEntityTooLarge, oci.SizeInvalid, "blob too big")

// limitBody applies MaxBlobSize to a body that comes after have bytes. A length
// that is known is refused before the first byte is read.
func (h *Handler) limitBody(r *request, have int64) error {
	if h.opts.MaxBlobSize <= 0 {
		return nil
	}
	room := max(h.opts.MaxBlobSize-have, 0)
	if r.ContentLength > room {
		return errBlobTooBig
	}
	r.body.atMost(room, errBlobTooBig)
	return nil
}

// sayProgress adds to a 416 where the session stands, so that the client can go
// on without asking.
func (r *request) sayProgress(w http.ResponseWriter, err error) {
	var e *oci.Error
	if !errors.As(err, &e) || e.HTTPStatus() != http.StatusRequestedRangeNotSatisfiable {
		return
	}
	u, err := r.repo.ResumeUpload(r.Context(), r.upload) // the other handle may have seen less
	if err != nil {
		return
	}
	defer closeUpload(u)
	r.setSession(w.Header(), u)
}

// answerSession answers with where the session is and how far it has come.
func (r *request) answerSession(w http.ResponseWriter, u storage.Upload, status int) {
	r.event.Upload = u.ID()
	r.setSession(w.Header(), u)
	r.respond(w, status)
}

// setSession writes an empty session's Range as 0-0, like that of one byte:
// all registries do, and clients want an <end-of-range> to parse.
func (r *request) setSession(header http.Header, u storage.Upload) {
	at := route{kind: getUpload, name: r.name, upload: u.ID()}
	r.values.set(header, "Location", at.target())
	r.values.set(header, "Docker-Upload-Uuid", u.ID())
	r.values.set(header, "Range", "0-"+strconv.FormatInt(max(u.Size()-1, 0), 10))
}

// answerCreated answers 201 with where the new content is found.
func (r *request) answerCreated(w http.ResponseWriter, at route, d digest.Digest) {
	r.event.Digest = d
	header := w.Header()
	r.values.set(header, "Location", at.target())
	r.values.set(header, "Docker-Content-Digest", d.String())
	r.respond(w, http.StatusCreated)
}

// closeUpload releases a handle. Its error changes nothing: what a session
// holds was settled by Append or Commit.
func closeUpload(u io.Closer) { _ = u.Close() }
