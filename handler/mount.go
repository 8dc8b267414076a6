package handler

import (
	"context"
	"errors"
	"iter"
	"net/http"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// maxMountSources is how many repositories a mount without a source looks at
// for the blob: the target, then others in the order of the catalog.
const maxMountSources = 1000

// mountBlob answers 202 with an upload session whenever it can't mount, for
// whatever reason the client might like to know.
func (h *Handler) mountBlob(w http.ResponseWriter, r *request) error {
	for from := range h.mountSources(r) {
		_, err := r.repo.MountBlob(r.Context(), r.digest, from)
		switch {
		case err == nil:
			r.answerCreated(w, route{kind: getBlob, name: r.name, digest: r.digest}, r.digest)
			return nil
		case !isAbsent(err):
			return err
		}
	}
	r.kind = startUpload
	return h.startUpload(w, r)
}

// isAbsent reports whether err says that there's no such content.
func isAbsent(err error) bool {
	return errors.Is(err, oci.BlobUnknown) || errors.Is(err, oci.NameUnknown)
}

// mountSources yields the repositories to mount from. That the caller may read
// them is settled: for one it has named by authorize, for all others here.
func (h *Handler) mountSources(r *request) iter.Seq[oci.Name] {
	if !r.from.IsZero() {
		return func(yield func(oci.Name) bool) { yield(r.from) }
	}
	q := r.question
	q.Want = []authz.Access{{Action: authz.Pull}}
	readable := h.opts.Authorizer.Filter(r.Context(), q, h.mountCandidates(r.Context(), r.name))
	return func(yield func(oci.Name) bool) {
		for n := range readable {
			if _, err := h.opts.Store.Repository(n).StatBlob(r.Context(), r.digest); err == nil && !yield(n) {
				return
			}
		}
	}
}

// mountCandidates yields target and then others, maxMountSources in all. A store
// that can't list them has no others.
func (h *Handler) mountCandidates(ctx context.Context, target oci.Name) iter.Seq[oci.Name] {
	return func(yield func(oci.Name) bool) {
		if !yield(target) {
			return
		}
		seen := 1
		for n, err := range h.opts.Store.Repositories(ctx, oci.Name{}) {
			if n == target {
				continue
			}
			if err != nil || seen == maxMountSources || !yield(n) {
				return
			}
			seen++
		}
	}
}
