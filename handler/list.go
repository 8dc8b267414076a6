package handler

import (
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"sync"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Sizes of a page of the catalog. A list of tags is whole unless a client
// wants less of it.
const (
	defaultCatalogPage = 1000
	maxCatalogPage     = 10_000
)

// ping isn't told who asks by more than whether credentials came along: a token for
// nobody is one, and right.
func (h *Handler) ping(w http.ResponseWriter, r *request) error {
	if h.opts.ChallengeFirst && r.question.Who.IsAnonymous() && r.Header.Get("Authorization") == "" {
		return oci.Errorf(oci.Unauthorized, "sign in, or get a token for nobody")
	}
	return r.answerJSON(w, "application/json", []byte(`{"distSpecVersion":"1.1.1"}`))
}

// Extension is an API beside the spec's, as its _oci/ext/discover lists it.
type Extension struct {
	Name        string   `json:"name"` // as in the path, such as "_oci"
	URL         string   `json:"url"`  // of what defines it
	Description string   `json:"description,omitempty"`
	Endpoints   []string `json:"endpoints"`
}

func (h *Handler) listExtensions(w http.ResponseWriter, r *request) error {
	body, err := json.Marshal(struct {
		Extensions []Extension `json:"extensions"`
	}{h.opts.Extensions})
	if err != nil {
		return err
	}
	return r.answerJSON(w, "application/json", body)
}

func (h *Handler) listTags(w http.ResponseWriter, r *request) error {
	index, err := r.repo.Index(r.Context())
	if err != nil {
		return err
	}
	body := append(takeBody(), `{"name":"`+r.name.String()+`","tags":[`...)
	defer func() { giveBack(body) }()
	n, last := 0, oci.Tag{}
	for t := range index.Tags(r.page.tag) {
		if n == r.page.n {
			next := route{kind: listTags, name: r.name, page: page{n: n, tag: last}}
			setNext(w.Header(), n, next)
			break
		}
		body = appendName(body, n, t.String())
		n, last = n+1, t
	}
	body = append(body, `]}`...)
	return r.answerJSON(w, "application/json", body)
}

// listRepositories lists the repositories that the caller may know of.
func (h *Handler) listRepositories(w http.ResponseWriter, r *request) error {
	limit := defaultCatalogPage
	if r.page.n >= 0 {
		limit = min(r.page.n, maxCatalogPage)
	}
	q := r.question
	q.Want = []authz.Access{{Action: authz.List}}
	var failed error
	all := untilError(h.opts.Store.Repositories(r.Context(), r.page.name), &failed)

	body := append(takeBody(), `{"repositories":[`...)
	defer func() { giveBack(body) }()
	n, last := 0, oci.Name{}
	for name := range h.opts.Authorizer.Filter(r.Context(), q, all) {
		if n == limit {
			next := route{kind: listRepositories, page: page{n: limit, name: last}}
			setNext(w.Header(), n, next)
			break
		}
		body = appendName(body, n, name.String())
		n, last = n+1, name
	}
	if failed != nil {
		w.Header().Del("Link")
		return failed
	}
	body = append(body, `]}`...)
	return r.answerJSON(w, "application/json", body)
}

// bodies are what lists were written into. A page of referrers is a megabyte, and
// would be twice that again in garbage by growing to it.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

func takeBody() []byte {
	b, _ := bodies.Get().(*[]byte)
	return (*b)[:0]
}

func giveBack(body []byte) { bodies.Put(&body) }

// untilError yields what seq does without its error, which it puts into err.
func untilError[T any](seq iter.Seq2[T, error], err *error) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v, e := range seq {
			if e != nil {
				*err = e
				return
			}
			if !yield(v) {
				return
			}
		}
	}
}

// appendName adds the nth element of a JSON list of names or tags. Their
// grammars have nothing that JSON would escape.
func appendName(body []byte, n int, s string) []byte {
	if n > 0 {
		body = append(body, ',')
	}
	body = append(body, '"')
	body = append(body, s...)
	return append(body, '"')
}

// setNext links to the next page. An empty page has none: a client that asked
// for nothing isn't to be sent on (distribution-spec, "Listing Tags").
func setNext(header http.Header, n int, next route) {
	if n > 0 {
		header.Set("Link", "<"+next.target()+`>; rel="next"`)
	}
}

// maxReferrersPage is where a list of referrers is cut, in bytes of JSON: what
// clients accept as a manifest they accept as a list of them.
const maxReferrersPage = 4<<20 - 256 // room for what surrounds the list

// listReferrers answers 200 even for a repository that doesn't exist: a
// registry with a referrers API MUST NOT answer 404 (distribution-spec,
// "Listing Referrers").
func (h *Handler) listReferrers(w http.ResponseWriter, r *request) error {
	referrers, err := r.repo.Referrers(r.Context(), r.digest, r.page.digest)
	if errors.Is(err, oci.NameUnknown) {
		referrers = func(func(storage.Referrer) bool) {}
	} else if err != nil {
		return err
	}
	body := append(takeBody(), `{"schemaVersion":2,"mediaType":"`+oci.MediaTypeImageIndex+`","manifests":[`...)
	defer func() { giveBack(body) }()
	n, next := 0, r.route
	for referrer := range referrers {
		if !wantsType(r.artifactTypes, referrer.ArtifactType) {
			continue
		}
		if n == r.page.n || n > 0 && len(body)+1+len(referrer.JSON) > maxReferrersPage {
			setNext(w.Header(), n, next)
			break
		}
		if n > 0 {
			body = append(body, ',')
		}
		body = append(body, referrer.JSON...)
		n, next.page.digest = n+1, referrer.Digest
	}
	if r.artifactTypes != nil {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	body = append(body, `]}`...)
	return r.answerJSON(w, oci.MediaTypeImageIndex, body)
}

func wantsType(wanted []string, artifactType string) bool {
	return wanted == nil || slices.Contains(wanted, artifactType)
}

// answerJSON answers 200 with a body that is complete.
func (r *request) answerJSON(w http.ResponseWriter, mediaType string, body []byte) error {
	header := w.Header()
	r.values.set(header, "Content-Type", mediaType)
	r.values.setInt(header, "Content-Length", int64(len(body)))
	r.values.set(header, "Cache-Control", cacheList)
	r.respond(w, http.StatusOK)
	defer letGo(r.gather(int64(len(body))))
	n, err := w.Write(body)
	r.event.Sent += int64(n)
	return err
}
