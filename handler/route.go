package handler

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// kind is an endpoint of the distribution spec. The zero kind is none.
type kind uint8

const (
	ping             kind = iota + 1 // end-1
	getBlob                          // end-2, HEAD too
	getManifest                      // end-3, HEAD too
	startUpload                      // end-4a, end-4c
	putBlob                          // end-4b
	patchUpload                      // end-5
	finishUpload                     // end-6
	putManifest                      // end-7a, end-7b
	listTags                         // end-8a, end-8b
	deleteManifest                   // end-9
	deleteBlob                       // end-10
	mountBlob                        // end-11
	listReferrers                    // end-12a, end-12b
	getUpload                        // end-13
	cancelUpload                     // end-14
	listRepositories                 // _catalog, which the spec leaves out
	listExtensions                   // _oci/ext/discover, of the spec's extensions
	numKinds
)

// route is a parsed request line: which endpoint, and on what. Which fields
// count depends on kind. All of it has been checked, so any of it may be logged.
type route struct {
	kind     kind
	resource methods       // what the path answers to; set as soon as the path is known
	name     oci.Name      // zero for ping and the lists that span repositories
	ref      oci.Reference // of a manifest
	digest   digest.Digest // of a blob, or the subject of referrers
	upload   string        // the session's ID

	algorithm     digest.Algorithm // startUpload, mountBlob; zero if the client doesn't say
	from          oci.Name         // mountBlob; zero if the client leaves it to us
	tags          []oci.Tag        // putManifest by digest
	page          page             // lists
	artifactTypes []string         // listReferrers; nil is no filter
}

// methods are the endpoints at one path. HEAD goes where GET does.
type methods struct{ get, post, patch, put, delete kind }

// The paths of the spec.
var (
	pingMethods      = methods{get: ping}
	catalogMethods   = methods{get: listRepositories}
	extensionMethods = methods{get: listExtensions}
	manifestMethods  = methods{get: getManifest, put: putManifest, delete: deleteManifest}
	blobMethods      = methods{get: getBlob, delete: deleteBlob}
	uploadsMethods   = methods{post: startUpload} // or putBlob, or mountBlob: the query says
	uploadMethods    = methods{get: getUpload, patch: patchUpload, put: finishUpload, delete: cancelUpload}
	tagsMethods      = methods{get: listTags}
	referrersMethods = methods{get: listReferrers}
)

// parse finds the endpoint that a request is for and checks all that its URL
// says. It reads into a zero route, whose resource is set even if the method is
// the wrong one.
func (r *route) parse(method string, u *url.URL) error {
	if err := checkPath(u.EscapedPath()); err != nil {
		return err
	}
	if err := r.parsePath(u.Path); err != nil {
		return err
	}
	if r.kind = r.resource.kind(method); r.kind == 0 {
		return oci.Errorf(oci.Unsupported, "method %q", clip(method))
	}
	return r.parseQuery(u.RawQuery)
}

// checkPath refuses percent-encoding. Nothing in the spec's paths needs it, and
// %2f or %2e mean one thing to a proxy and another behind it. Some clients
// encode the colon of a digest, which can't be mistaken.
func checkPath(escaped string) error {
	for i := 0; ; i++ {
		next := strings.IndexByte(escaped[i:], '%')
		if next < 0 {
			return nil
		}
		i += next
		if !strings.EqualFold(escaped[i:min(i+3, len(escaped))], "%3a") {
			return oci.Errorf(oci.NameInvalid, "percent-encoding in the path")
		}
	}
}

// parsePath reads what a path says into r. Names of repositories contain slashes, so what
// follows the name is cut off from the end.
func (r *route) parsePath(path string) error {
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return errNoEndpoint
	case rest == "" || rest == "/":
		r.resource = pingMethods
		return nil
	case rest == "/_catalog":
		r.resource = catalogMethods
		return nil
	case rest == "/_oci/ext/discover":
		r.resource = extensionMethods
		return nil
	case rest[0] != '/':
		return errNoEndpoint
	}
	head, last := cutLast(rest[1:])
	name, noun := cutLast(head)
	if noun == "uploads" {
		return r.parseUploads(name, last)
	}
	if noun == "blobs" && last == "uploads" { // without the slash that the spec ends it with
		return r.parseUploads(head, "")
	}
	return r.parseNoun(name, noun, last)
}

// errNoEndpoint is the answer to a path that the spec doesn't have.
var errNoEndpoint = oci.Errorf(oci.NameUnknown, "no such endpoint")

func (r *route) parseNoun(name, noun, last string) (err error) {
	switch {
	case noun == "manifests":
		r.resource = manifestMethods
		r.ref, err = oci.ParseReference(last)
	case noun == "blobs":
		r.resource = blobMethods
		r.digest, err = oci.ParseDigest(last)
	case noun == "tags" && last == "list":
		r.resource = tagsMethods
	case noun == "referrers":
		r.resource = referrersMethods
		r.digest, err = oci.ParseDigest(last)
	default:
		return errNoEndpoint
	}
	if err != nil {
		return err
	}
	r.name, err = oci.ParseName(name)
	return err
}

// parseUploads reads a path below blobs/uploads/; an empty id is that path itself.
func (r *route) parseUploads(head, id string) (err error) {
	name, noun := cutLast(head)
	if noun != "blobs" {
		return errNoEndpoint
	}
	r.resource = uploadsMethods
	if id != "" {
		r.resource, r.upload = uploadMethods, id
		if !isUploadID(id) {
			return oci.Errorf(oci.BlobUploadUnknown, "malformed ID")
		}
	}
	r.name, err = oci.ParseName(name)
	return err
}

// isUploadID reports whether a store can have made id: letters, digits and the
// other unreserved characters of URLs, but never a dot segment.
func isUploadID(id string) bool {
	const longest = 128
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case (c == '.' || c == '~') && i > 0:
		default:
			return false
		}
	}
	return len(id) <= longest
}

// kind returns the endpoint for a method, or zero.
func (m methods) kind(method string) kind {
	switch method {
	case http.MethodGet, http.MethodHead:
		return m.get
	case http.MethodPost:
		return m.post
	case http.MethodPatch:
		return m.patch
	case http.MethodPut:
		return m.put
	case http.MethodDelete:
		return m.delete
	}
	return 0
}

// allow lists the methods as the header Allow wants them.
func (m methods) allow() string {
	var list []string
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete,
	} {
		if m.kind(method) != 0 {
			list = append(list, method)
		}
	}
	return strings.Join(list, ", ")
}

// target is the path and query that parse reads r from: what Location and Link
// point to. It holds nothing that needs quoting.
func (r *route) target() string {
	base := "/v2/" + r.name.String()
	switch r.kind {
	case ping:
		return "/v2/"
	case listRepositories:
		return "/v2/_catalog" + r.query()
	case listExtensions:
		return "/v2/_oci/ext/discover"
	case getManifest, putManifest, deleteManifest:
		return base + "/manifests/" + r.ref.String() + r.query()
	case getBlob, deleteBlob:
		return base + "/blobs/" + r.digest.String()
	case listTags:
		return base + "/tags/list" + r.query()
	case listReferrers:
		return base + "/referrers/" + r.digest.String() + r.query()
	default:
		return base + "/blobs/uploads/" + r.upload + r.query()
	}
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// clip keeps what a client sent from filling a log line or a response.
func clip(s string) string {
	const longest = 128
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}
