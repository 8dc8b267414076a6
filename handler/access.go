package handler

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// authorize asks once for everything that the route needs.
//
// A mount whose source the caller may not read goes on as the start of an
// upload, the same as if the source hadn't got the blob: an answer of its own
// would say which repositories exist.
func (h *Handler) authorize(r *request) error {
	q := &r.question
	q.Client, q.Want = h.opts.Client(r.Request), r.accesses()
	if err := h.identify(r); err != nil {
		return err
	}
	answer, err := h.opts.Authorizer.Authorize(r.Context(), *q)
	if r.kind == mountBlob && len(q.Want) > 1 && isRefusal(err) {
		r.kind = startUpload
		q.Want = q.Want[:1]
		answer, err = h.opts.Authorizer.Authorize(r.Context(), *q)
	}
	r.answer = answer
	return r.askForMore(err)
}

// askForMore makes a refusal for the sake of a token's scopes one that asks for
// another token, as clients expect it: they get one for each thing they do.
func (r *request) askForMore(err error) error {
	if err == nil {
		return nil
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	refused, ok := errors.AsType[*oci.Error](err)
	if !ok || !errors.Is(err, authz.ErrLimit) || !strings.EqualFold(scheme, "Bearer") {
		return err
	}
	return oci.Errorf(oci.Unauthorized, "%w", refused.Unwrap())
}

// identify finds out who sent the request.
func (h *Handler) identify(r *request) (err error) {
	r.question.Who, err = h.opts.Identity(r.Request)
	if err == nil {
		return nil
	}
	r.question.Who = authz.Identity{}
	if errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.TooManyRequests) {
		return err
	}
	return fmt.Errorf("%w: %w", errNobodyKnows, err)
}

// errNobodyKnows is why a request isn't served whose sender couldn't be found out.
var errNobodyKnows = errors.New("who sent it couldn't be found out")

// accesses lists what the route needs: a mount its source, too, and a push of
// several tags each of them.
func (r *request) accesses() []authz.Access {
	r.want[0] = authz.Access{Action: endpoints[r.kind].action, Repository: r.name, Reference: r.ref}
	want := r.want[:1]
	if r.kind == mountBlob && !r.from.IsZero() {
		want = append(want, authz.Access{Action: authz.Pull, Repository: r.from})
	}
	for _, t := range r.tags {
		want = append(want, authz.Access{Action: authz.Push, Repository: r.name, Reference: oci.TagRef(t)})
	}
	return want
}

func isRefusal(err error) bool {
	return errors.Is(err, oci.Denied) || errors.Is(err, oci.Unauthorized)
}
