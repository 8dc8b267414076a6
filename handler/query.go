package handler

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// Limits of a query string: 414 beyond them.
const (
	maxQuery      = 16 << 10 // bytes; the most tags, each as long as may be, fit
	maxParameters = 128
	maxTags       = 100 // ?tag= of one push; the spec asks for 10
)

// page is the part of a list that a client wants. Where it begins depends on
// the list; a zero value is the list's beginning.
type page struct {
	n      int           // how many at most; negative if the client doesn't say
	tag    oci.Tag       // listTags: the one before the first
	name   oci.Name      // listRepositories
	digest digest.Digest // listReferrers
}

// parseQuery reads the parameters that r's endpoint has and ignores all others,
// the ns of proxying clients among them. It settles what a POST is for.
func (r *route) parseQuery(raw string) error {
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxParameters {
		return oci.WithStatus(http.StatusRequestURITooLong, oci.Unsupported,
			"more than %d bytes or %d parameters in the query", maxQuery, maxParameters)
	}
	if !r.kind.hasQuery() {
		return nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return badParameter("malformed query")
	}
	switch r.kind {
	case startUpload:
		return r.parsePost(q)
	case finishUpload:
		return r.parseDigest(q, "digest")
	case putManifest:
		return r.parseTags(q)
	case listTags:
		return r.parseTagPage(q)
	case listRepositories:
		return r.parseNamePage(q)
	default:
		return r.parseReferrersPage(q)
	}
}

// hasQuery reports whether any parameter means anything to k.
func (k kind) hasQuery() bool {
	switch k {
	case startUpload, finishUpload, putManifest, listTags, listRepositories, listReferrers:
		return true
	default:
		return false
	}
}

func (r *route) parsePost(q url.Values) error {
	algorithm, err := one(q, "digest-algorithm")
	if err != nil {
		return err
	}
	if algorithm != "" {
		if r.algorithm, err = oci.ParseAlgorithm(algorithm); err != nil {
			return err
		}
	}
	if q.Has("mount") {
		return r.parseMount(q)
	}
	if q.Has("digest") {
		r.kind = putBlob
		return r.parseDigest(q, "digest")
	}
	return nil
}

func (r *route) parseMount(q url.Values) error {
	r.kind = mountBlob
	if err := r.parseDigest(q, "mount"); err != nil {
		return err
	}
	from, err := one(q, "from")
	if err != nil || from == "" {
		return err
	}
	r.from, err = oci.ParseName(from)
	return err
}

func (r *route) parseDigest(q url.Values, key string) error {
	s, err := one(q, key)
	if err != nil {
		return err
	}
	if r.digest, err = oci.ParseDigest(s); err != nil {
		return err
	}
	if r.algorithm != "" && r.algorithm != r.digest.Algorithm() {
		return oci.Errorf(oci.DigestInvalid, "digest-algorithm is %s, %s a digest of %s", r.algorithm, key, r.digest.Algorithm())
	}
	return nil
}

func (r *route) parseTags(q url.Values) error {
	list := q["tag"]
	if len(list) == 0 {
		return nil
	}
	if _, ok := r.ref.Digest(); !ok {
		return badParameter("tag needs a push by digest")
	}
	if len(list) > maxTags {
		return oci.WithStatus(http.StatusRequestURITooLong, oci.Unsupported, "more than %d tags", maxTags)
	}
	for _, s := range list {
		t, err := oci.ParseTag(s)
		if err != nil {
			return err
		}
		if !slices.Contains(r.tags, t) {
			r.tags = append(r.tags, t)
		}
	}
	return nil
}

func (r *route) parseTagPage(q url.Values) error {
	last, err := r.parsePage(q)
	if err != nil || last == "" {
		return err
	}
	if r.page.tag, err = oci.ParseTag(last); err != nil {
		return badParameter("last isn't a tag")
	}
	return nil
}

func (r *route) parseNamePage(q url.Values) error {
	last, err := r.parsePage(q)
	if err != nil || last == "" {
		return err
	}
	if r.page.name, err = oci.ParseName(last); err != nil {
		return badParameter("last isn't a repository name")
	}
	return nil
}

func (r *route) parseReferrersPage(q url.Values) error {
	r.artifactTypes = q["artifactType"]
	last, err := r.parsePage(q)
	if err != nil || last == "" {
		return err
	}
	if r.page.digest, err = oci.ParseDigest(last); err != nil {
		return badParameter("last isn't a digest")
	}
	return nil
}

// parsePage reads n and returns last as the client wrote it.
func (r *route) parsePage(q url.Values) (last string, err error) {
	r.page.n = -1
	s, err := one(q, "n")
	if err != nil {
		return "", err
	}
	if s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return "", badParameter("n isn't a number from 0 to 2147483647")
		}
		r.page.n = int(n)
	}
	return one(q, "last")
}

// one returns the value of a parameter that may stand once at most; empty is
// as good as absent.
func one(q url.Values, key string) (string, error) {
	switch v := q[key]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", badParameter(key + " is given more than once")
}

// badParameter is UNSUPPORTED, which the spec's extensions define as "an
// invalid set of parameters" too: none of the other codes says that.
func badParameter(text string) error {
	return oci.WithStatus(http.StatusBadRequest, oci.Unsupported, "%s", text)
}

// query is the query string that parseQuery reads r from, with its question mark.
func (r *route) query() string {
	q := url.Values{}
	add := func(key, value string) {
		if value != "" {
			q.Add(key, value)
		}
	}
	switch r.kind {
	case startUpload, putBlob, finishUpload, mountBlob:
		add("digest-algorithm", r.algorithm.String())
		add("from", r.from.String())
		if r.kind == mountBlob {
			add("mount", r.digest.String())
		} else {
			add("digest", r.digest.String())
		}
	case putManifest:
		for _, t := range r.tags {
			add("tag", t.String())
		}
	case listTags, listRepositories, listReferrers:
		if r.page.n >= 0 {
			add("n", strconv.Itoa(r.page.n))
		}
		add("last", r.page.tag.String()+r.page.name.String()+r.page.digest.String())
		if len(r.artifactTypes) > 0 {
			q["artifactType"] = r.artifactTypes
		}
	default:
		return ""
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}
