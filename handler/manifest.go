package handler

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// getManifest resolves before it opens: a HEAD, or a client that has the
// manifest already, costs no I/O. A GET is a pull, also if the client has it:
// it asks because it's going to use it.
func (h *Handler) getManifest(w http.ResponseWriter, r *request) error {
	desc, err := r.repo.Resolve(r.Context(), r.ref)
	if err != nil {
		return err
	}
	r.event.Digest = desc.Digest
	cache := cacheForever
	if _, ok := r.ref.Tag(); ok {
		cache = cacheRevalidate
	}
	err = r.serveContent(w, desc, nil, cache)
	if errors.Is(err, oci.BlobUnknown) {
		return oci.Errorf(oci.ManifestUnknown, "%s", r.ref)
	}
	if err == nil && r.Method == http.MethodGet {
		storage.RecordPull(r.Context(), r.repo, desc.Digest)
	}
	return err
}

func (h *Handler) putManifest(w http.ResponseWriter, r *request) error {
	opts, err := h.putOptions(r)
	if err != nil {
		return err
	}
	raw, err := h.readManifest(r)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(r.Header.Get("Content-Type"), raw, r.manifestAlgorithm())
	if err != nil {
		return err
	}
	if d, ok := r.ref.Digest(); ok && d != m.Digest {
		return oci.Errorf(oci.DigestInvalid, "content is %s", m.Digest)
	}
	if err := m.CheckImage(); err != nil {
		return err
	}
	if err := storage.PutManifest(r.Context(), r.repo, m, opts); err != nil {
		return err
	}
	header := w.Header()
	if m.Subject != "" {
		header.Set("Oci-Subject", m.Subject.String())
	}
	for _, t := range r.tags {
		header.Add("Oci-Tag", t.String())
	}
	header.Set("Etag", entityTag(m.Digest))
	r.answerCreated(w, route{kind: getManifest, name: r.name, ref: oci.DigestRef(m.Digest)}, m.Digest)
	return nil
}

// putOptions are the conditions of the request and those of its authorization.
func (h *Handler) putOptions(r *request) (storage.PutOptions, error) {
	opts := storage.PutOptions{
		Tags: r.tags, By: r.question.Who.ID, Sparse: h.opts.Sparse, NoOverwrite: !r.answer.Overwrite,
	}
	if t, ok := r.ref.Tag(); ok {
		opts.Tags = []oci.Tag{t}
	}
	var err error
	if opts.IfMatch, err = strongTags(r.Header, "If-Match"); err != nil {
		return opts, err
	}
	opts.IfNoneMatch, err = weakTags(r.Header, "If-None-Match")
	return opts, err
}

// readManifest reads the body, which MaxManifestSize limits. One that is too big
// is 413 SIZE_INVALID: of the spec's codes it's the one about lengths.
func (h *Handler) readManifest(r *request) ([]byte, error) {
	tooBig := oci.WithStatus(http.StatusRequestEntityTooLarge, oci.SizeInvalid,
		"a manifest may have %d bytes", h.opts.MaxManifestSize)
	if r.ContentLength > h.opts.MaxManifestSize {
		return nil, tooBig
	}
	r.body.atMost(h.opts.MaxManifestSize, tooBig)
	const usual = 64 << 10 // more is made room for when it comes, not when it's announced
	buf := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), usual)+bytes.MinRead))
	if _, err := buf.ReadFrom(&r.body); err != nil {
		return nil, r.body.failure(err)
	}
	return buf.Bytes(), nil
}

// manifestAlgorithm is the one that a pushed manifest is addressed by.
func (r *request) manifestAlgorithm() digest.Algorithm {
	if d, ok := r.ref.Digest(); ok {
		return d.Algorithm()
	}
	return digest.Canonical
}

func (h *Handler) deleteManifest(w http.ResponseWriter, r *request) error {
	if err := refuseConditions(r.Header); err != nil {
		return err
	}
	if err := storage.DeleteManifest(r.Context(), r.repo, r.ref, r.question.Who.ID); err != nil {
		return err
	}
	r.respond(w, http.StatusAccepted)
	return nil
}
