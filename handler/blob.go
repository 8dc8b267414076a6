package handler

import (
	"net/http"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Cache-Control of content. Only the client itself may keep it: whether another
// one may have it is decided anew each time, by more than the credentials that
// a shared cache looks at. no-transform keeps compressing middleware away from
// bytes that have a digest.
const (
	cacheForever    = "private, max-age=31536000, immutable, no-transform" // by digest
	cacheRevalidate = "private, no-cache, no-transform"                    // by tag
	cacheList       = "private, no-cache"                                  // who else asks may see less
)

func (h *Handler) getBlob(w http.ResponseWriter, r *request) error {
	if r.Method == http.MethodHead {
		desc, err := r.repo.StatBlob(r.Context(), r.digest)
		if err != nil {
			return err
		}
		return r.serveContent(w, asBlob(desc), nil, cacheForever)
	}
	b, err := r.repo.OpenBlob(r.Context(), r.digest)
	if err != nil {
		return err
	}
	defer closeBlob(b)
	location, err := r.elsewhere(b)
	if err != nil { // it's here too
		h.opts.Log.WarnContext(r.Context(), "a blob is served from here, since its store gives no URL", "digest", r.digest, "error", err)
	} else if location != "" {
		return r.redirect(w, b.Descriptor, location)
	}
	return r.serveContent(w, asBlob(b.Descriptor), b, cacheForever)
}

// asBlob gives every blob one media type, that no browser acts upon.
func asBlob(desc oci.Descriptor) oci.Descriptor {
	desc.MediaType = oci.MediaTypeBlob
	return desc
}

func (h *Handler) deleteBlob(w http.ResponseWriter, r *request) error {
	if err := refuseConditions(r.Header); err != nil {
		return err
	}
	if err := storage.DeleteBlob(r.Context(), r.repo, r.digest, r.question.Who.ID); err != nil {
		return err
	}
	r.respond(w, http.StatusAccepted)
	return nil
}

// closeBlob releases what was only read.
func closeBlob(b *storage.Blob) { _ = b.Close() }
