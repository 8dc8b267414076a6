package handler_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
)

// Content of the spec's table of requests.
var (
	index   = oci.MediaTypeImageIndex
	img     = oci.MediaTypeImageManifest
	plain   = imageOf()
	plainD  = digest.FromString(plain)
	sha512D = digest.SHA512.FromString(layer)
	missing = digest.FromString("missing")
	uploads = "/v2/a/b/blobs/uploads/"
	ctImage = []string{"Content-Type", img}
)

// specCase is one sentence of distribution-spec main, and requests that show it
// is kept. They run against a registry whose repository a/b has an image: the
// blobs config and layer, and the manifest plain, tagged v1.
type specCase struct {
	name  string // the endpoint's ID, then the sentence
	steps []exchange
}

var specCases = []specCase{
	// Determining support.
	{"end-1: if the response is 200 OK, then the registry implements this specification", []exchange{
		{method: "GET", target: "/v2/", status: 200, is: `{"distSpecVersion":"1.1.1"}`, want: []string{"Docker-Distribution-Api-Version", "registry/2.0", "Content-Type", "application/json"}},
		{method: "GET", target: "/v2", status: 200},
		{method: "HEAD", target: "/v2/", status: 200, want: []string{"Content-Length", "27"}},
	}},

	// Pulling.
	{"end-3: a GET to an existing manifest URL MUST provide the expected manifest, with 200", []exchange{
		{method: "GET", target: manifestPath("a/b", "v1"), status: 200, is: plain, want: []string{"Docker-Content-Digest", plainD.String(), "Content-Type", img, "Content-Length", fmt.Sprint(len(plain))}},
		{method: "GET", target: manifestPath("a/b", plainD.String()), status: 200, is: plain, want: []string{"Docker-Content-Digest", plainD.String(), "Content-Type", img}},
	}},
	{"end-3: the tag-or-digest MUST NOT be in any other format", []exchange{
		{method: "GET", target: manifestPath("a/b", ".v1"), status: 400, code: oci.ManifestInvalid},
		{method: "GET", target: manifestPath("a/b", "sha256:short"), status: 400, code: oci.DigestInvalid},
		{method: "GET", target: manifestPath("a/b", "md5:d41d8cd98f00b204e9800998ecf8427e"), status: 400, code: oci.DigestInvalid},
	}},
	{"end-3: a tag MUST be at most 128 characters in length", []exchange{
		{method: "PUT", target: manifestPath("a/b", strings.Repeat("t", 128)), body: plain, header: ctImage, status: 201},
		{method: "PUT", target: manifestPath("a/b", strings.Repeat("t", 129)), body: plain, header: ctImage, status: 400, code: oci.ManifestInvalid},
	}},
	{"end-3: the name MUST match the regular expression", []exchange{
		{method: "GET", target: manifestPath("A/b", "v1"), status: 400, code: oci.NameInvalid},
		{method: "GET", target: manifestPath("a__b/c-d.e", "v1"), status: 404, code: oci.NameUnknown},
	}},
	{"end-3: if the manifest is not found in the repository, the response code MUST be 404", []exchange{
		{method: "GET", target: manifestPath("a/b", "v2"), status: 404, code: oci.ManifestUnknown},
		{method: "GET", target: manifestPath("a/b", missing.String()), status: 404, code: oci.ManifestUnknown},
		{method: "GET", target: manifestPath("a/b", layerDigest.String()), status: 404, code: oci.ManifestUnknown},
	}},
	{"end-3: an attempt to pull a nonexistent repository MUST return 404", []exchange{
		{method: "GET", target: manifestPath("none", "v1"), status: 404, code: oci.NameUnknown},
		{method: "GET", target: blobPath("none", layerDigest), status: 404, code: oci.BlobUnknown},
		{method: "GET", target: "/v2/none/tags/list", status: 404, code: oci.NameUnknown},
	}},
	{"end-2: a GET to an existing blob URL MUST provide the expected blob, with 200", []exchange{
		{method: "GET", target: blobPath("a/b", layerDigest), status: 200, is: layer, want: []string{"Docker-Content-Digest", layerDigest.String(), "Content-Length", "16", "Content-Type", "application/octet-stream"}},
	}},
	{"end-2: if the blob is not found in the repository, the response code MUST be 404", []exchange{
		{method: "GET", target: blobPath("a/b", missing), status: 404, code: oci.BlobUnknown},
		{method: "GET", target: blobPath("a/c", layerDigest), status: 404, code: oci.BlobUnknown},
	}},
	{"end-2: a registry SHOULD support the Range request header", []exchange{
		{method: "GET", target: blobPath("a/b", layerDigest), header: []string{"Range", "bytes=7-14"}, status: 206, is: "registry", want: []string{"Content-Range", "bytes 7-14/16", "Content-Length", "8"}},
	}},
	{"end-2, end-3: a HEAD to an existing blob or manifest URL MUST return 200, digest and size", []exchange{
		{method: "HEAD", target: blobPath("a/b", layerDigest), status: 200, want: []string{"Docker-Content-Digest", layerDigest.String(), "Content-Length", "16"}},
		{method: "HEAD", target: manifestPath("a/b", "v1"), status: 200, want: []string{"Docker-Content-Digest", plainD.String(), "Content-Length", fmt.Sprint(len(plain)), "Content-Type", img}},
		{method: "HEAD", target: manifestPath("a/b", plainD.String()), status: 200, want: []string{"Docker-Content-Digest", plainD.String(), "Content-Length", fmt.Sprint(len(plain))}},
	}},
	{"end-2, end-3: a HEAD of what is not found MUST be 404", []exchange{
		{method: "HEAD", target: blobPath("a/b", missing), status: 404},
		{method: "HEAD", target: manifestPath("a/b", "v2"), status: 404},
	}},

	// Pushing blobs.
	{"end-4a: upon success, the response MUST have a code of 202 and a Location", []exchange{
		{method: "POST", target: uploads, status: 202, want: []string{"Location", "*", "Docker-Upload-Uuid", "*", "Range", "0-0"}},
	}},
	{"end-4a: the registry's failure is 404", []exchange{
		{method: "POST", target: "/v2/a/b/upload/", status: 404, code: oci.NameUnknown},
	}},
	{"end-6: PUT after POST MUST be 201 with a pullable blob URL", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PUT", target: "$?digest=" + digest.FromString("new").String(), body: "new", status: 201, want: []string{"Location", blobPath("a/b", digest.FromString("new"))}},
		{method: "GET", target: "$", status: 200, is: "new"},
	}},
	{"end-4b: a single POST MUST return 201 and MUST include a Location", []exchange{
		{method: "POST", target: uploads + "?digest=" + digest.FromString("new").String(), body: "new", status: 201, want: []string{"Location", blobPath("a/b", digest.FromString("new"))}},
		{method: "GET", target: "$", status: 200, is: "new"},
	}},
	{"end-4b: the digest MUST match the blob's digest", []exchange{
		{method: "POST", target: uploads + "?digest=" + missing.String(), body: "new", status: 400, code: oci.DigestInvalid},
		{method: "HEAD", target: blobPath("a/b", missing), status: 404},
		{method: "HEAD", target: blobPath("a/b", digest.FromString("new")), status: 404},
	}},
	{"end-4b, end-6: a digest that is invalid or uses an unsupported algorithm SHOULD be 400", []exchange{
		{method: "POST", target: uploads + "?digest=sha256:0", body: "new", status: 400, code: oci.DigestInvalid},
		{method: "POST", target: uploads + "?digest=md5:d41d8cd98f00b204e9800998ecf8427e", status: 400, code: oci.DigestInvalid},
		{method: "POST", target: uploads, status: 202},
		{method: "PUT", target: "$?digest=nonsense", body: "new", status: 400, code: oci.DigestInvalid},
	}},
	{"end-4c: the algorithm the registry should use for the blob", []exchange{
		{method: "POST", target: uploads + "?digest-algorithm=sha512", status: 202},
		{method: "PUT", target: "$?digest=" + sha512D.String(), body: layer, status: 201, want: []string{"Docker-Content-Digest", sha512D.String()}},
		{method: "GET", target: blobPath("a/b", sha512D), status: 200, is: layer},
		{method: "POST", target: uploads + "?digest-algorithm=md5", status: 400, code: oci.DigestInvalid},
	}},
	{"end-5: each successful chunk MUST be 202 with Location and Range", []exchange{
		{method: "POST", target: uploads, header: []string{"Content-Length", "0"}, status: 202},
		{method: "PATCH", target: "$", body: "Hello, ", header: []string{"Content-Range", "0-6"}, status: 202, want: []string{"Location", "*", "Range", "0-6"}},
		{method: "PATCH", target: "$", body: "registry!", header: []string{"Content-Range", "7-15"}, status: 202, want: []string{"Range", "0-15"}},
		{method: "PUT", target: "$?digest=" + layerDigest.String(), status: 201, want: []string{"Location", blobPath("a/b", layerDigest)}},
	}},
	{"end-5: the first chunk's range MUST begin with 0", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "5-9"}, status: 416, code: oci.BlobUploadInvalid, want: []string{"Range", "0-0", "Location", "*"}},
	}},
	{"end-5: Content-Range MUST match ^[0-9]+-[0-9]+$", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "0-4 "}, status: 400, code: oci.BlobUploadInvalid},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "4-0"}, status: 400, code: oci.BlobUploadInvalid},
		{method: "GET", target: "$", status: 204, want: []string{"Range", "0-0"}},
	}},
	{"end-5: if a chunk is uploaded out of order, the registry MUST respond with 416", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "0-4"}, status: 202},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "0-4"}, status: 416, code: oci.BlobUploadInvalid, want: []string{"Range", "0-4", "Location", "*"}},
		{method: "PATCH", target: "$", body: "Hello", header: []string{"Content-Range", "6-10"}, status: 416, code: oci.BlobUploadInvalid, want: []string{"Range", "0-4", "Location", "*"}},
	}},
	{"end-6: the final chunk MAY be uploaded in the closing PUT", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello, ", header: []string{"Content-Range", "0-6"}, status: 202},
		{method: "PUT", target: "$?digest=" + layerDigest.String(), body: "registry!", header: []string{"Content-Range", "7-15"}, status: 201},
	}},
	{"end-6: the closing PUT MUST include the digest", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PUT", target: "$", body: layer, status: 400, code: oci.DigestInvalid},
	}},
	{"end-6: if the final chunk is uploaded out of order, the registry MUST respond with 416", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello, ", header: []string{"Content-Range", "0-6"}, status: 202},
		{method: "PUT", target: "$?digest=" + layerDigest.String(), body: "registry!", header: []string{"Content-Range", "8-16"}, status: 416, code: oci.BlobUploadInvalid, want: []string{"Range", "0-6"}},
		{method: "PUT", target: "$?digest=" + layerDigest.String(), body: "registry!", header: []string{"Content-Range", "7-15"}, status: 201},
	}},
	{"end-13: the response to an active upload MUST be 204 with Location and Range", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "PATCH", target: "$", body: "Hello", status: 202},
		{method: "GET", target: "$", status: 204, want: []string{"Location", "*", "Range", "0-4"}},
	}},
	{"end-5, end-6, end-13, end-14: an unknown session is 404", []exchange{
		{method: "GET", target: uploads + "unknown", status: 404, code: oci.BlobUploadUnknown},
		{method: "PATCH", target: uploads + "unknown", body: "x", status: 404, code: oci.BlobUploadUnknown},
		{method: "PUT", target: uploads + "unknown?digest=" + layerDigest.String(), body: layer, status: 404, code: oci.BlobUploadUnknown},
		{method: "DELETE", target: uploads + "unknown", status: 404, code: oci.BlobUploadUnknown},
	}},
	{"end-14: if successful, the response to a cancellation SHOULD be 204", []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "DELETE", target: "$", status: 204},
		{method: "GET", target: "$", status: 404, code: oci.BlobUploadUnknown},
	}},
	{"end-11: the response to a successful mount MUST be 201 with a Location", []exchange{
		{method: "POST", target: "/v2/c/blobs/uploads/?mount=" + layerDigest.String() + "&from=a/b", status: 201, want: []string{"Location", blobPath("c", layerDigest), "Docker-Content-Digest", layerDigest.String()}},
		{method: "GET", target: "$", status: 200, is: layer},
	}},
	{"end-11: the registry MAY treat from as optional", []exchange{
		{method: "POST", target: "/v2/c/blobs/uploads/?mount=" + layerDigest.String(), status: 201, want: []string{"Location", blobPath("c", layerDigest)}},
		{method: "GET", target: "$", status: 200, is: layer},
	}},
	{"end-11: if a registry is unable to mount the requested blob, it SHOULD return a 202", []exchange{
		{method: "POST", target: "/v2/c/blobs/uploads/?mount=" + missing.String() + "&from=a/b", status: 202, want: []string{"Location", "*"}},
		{method: "PUT", target: "$?digest=" + missing.String(), body: "missing", status: 201},
		{method: "POST", target: "/v2/c/blobs/uploads/?mount=" + layerDigest.String() + "&from=none", status: 202},
	}},

	// Pushing manifests.
	{"end-7a: the registry MUST store the manifest in the exact byte representation", []exchange{
		{method: "PUT", target: manifestPath("a/b", "spaces"), body: " \n" + plain + "\t\n", header: ctImage, status: 201},
		{method: "GET", target: manifestPath("a/b", "spaces"), status: 200, is: " \n" + plain + "\t\n"},
	}},
	{"end-7a: a successful push MUST be 201 with a pullable Location", []exchange{
		{method: "PUT", target: manifestPath("a/b", "v2"), body: plain, header: ctImage, status: 201, want: []string{"Location", manifestPath("a/b", plainD.String()), "Docker-Content-Digest", plainD.String()}},
		{method: "GET", target: "$", status: 200, is: plain},
	}},
	{"end-7a: Docker-Content-Digest MUST be equal to the client provided digest", []exchange{
		{method: "PUT", target: manifestPath("a/b", digest.SHA512.FromString(plain).String()), body: plain, header: ctImage, status: 201, want: []string{"Docker-Content-Digest", digest.SHA512.FromString(plain).String()}},
		{method: "PUT", target: manifestPath("a/b", missing.String()), body: plain, header: ctImage, status: 400, code: oci.DigestInvalid},
	}},
	{"end-7a: the registry SHOULD ignore parameters on the Content-Type header", []exchange{
		{method: "PUT", target: manifestPath("a/b", "v2"), body: plain, header: []string{"Content-Type", img + "; charset=utf-8"}, status: 201},
		{method: "GET", target: manifestPath("a/b", "v2"), status: 200, want: []string{"Content-Type", img}},
	}},
	{"end-7a: the Content-Type SHOULD match what the client pushed", []exchange{
		{method: "PUT", target: manifestPath("a/b", "own"), body: `{"a":1}`, header: []string{"Content-Type", "application/vnd.example+json"}, status: 201},
		{method: "GET", target: manifestPath("a/b", "own"), status: 200, is: `{"a":1}`, want: []string{"Content-Type", "application/vnd.example+json"}},
	}},
	{"end-7a: the list of blobs MAY be empty", []exchange{
		{method: "PUT", target: manifestPath("a/b", "none"), body: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[]}`, header: []string{"Content-Type", index}, status: 201},
	}},
	{"end-7a: a manifest over the limit SHOULD be 413, of at least 4 megabytes SHOULD be supported", []exchange{
		{method: "PUT", target: manifestPath("a/b", "big"), body: padded(4 << 20), header: ctImage, status: 201},
		{method: "PUT", target: manifestPath("a/b", "bigger"), body: padded(4<<20 + 1), header: ctImage, status: 413, code: oci.SizeInvalid},
		{method: "PUT", target: manifestPath("a/b", "bigger"), body: padded(4<<20 + 1), header: append([]string{"Transfer-Encoding", "chunked"}, ctImage...), status: 413, code: oci.SizeInvalid},
		{method: "HEAD", target: manifestPath("a/b", "bigger"), status: 404},
	}},
	{"end-7a: a manifest rejected for what it references MUST result in MANIFEST_BLOB_UNKNOWN", []exchange{
		{method: "PUT", target: manifestPath("new", "v1"), body: plain, header: ctImage, status: 404, code: oci.ManifestBlobUnknown},
		{method: "GET", target: manifestPath("new", "v1"), status: 404, code: oci.NameUnknown},
	}},
	{"end-7a: a registry MUST initially accept a manifest whose subject does not exist", []exchange{
		{method: "PUT", target: manifestPath("a/b", "early"), body: imageOf(subject("later")), header: ctImage, status: 201, want: []string{"Oci-Subject", digest.FromString("later").String()}},
	}},
	{"end-7a: a push with a subject MUST respond with OCI-Subject", []exchange{
		{method: "PUT", target: manifestPath("a/b", "sig"), body: imageOf(subject(plain)), header: ctImage, status: 201, want: []string{"Oci-Subject", plainD.String()}},
	}},
	{"end-7b: MUST include an OCI-Tag for each accepted tag", []exchange{
		{method: "PUT", target: manifestPath("a/b", plainD.String()) + "?tag=1.2.3&tag=1.2&tag=1&tag=latest", body: plain, header: ctImage, status: 201, want: []string{"Oci-Tag", "1.2.3, 1.2, 1, latest"}},
		{method: "GET", target: manifestPath("a/b", "1.2"), status: 200, is: plain},
		{method: "GET", target: manifestPath("a/b", "latest"), status: 200, is: plain},
	}},
	{"end-7b: MAY return 414 if too many tags are included", []exchange{
		{method: "PUT", target: manifestPath("a/b", plainD.String()) + tagQuery(100), body: plain, header: ctImage, status: 201},
		{method: "PUT", target: manifestPath("a/c", plainD.String()) + tagQuery(101), body: plain, header: ctImage, status: 414, code: oci.Unsupported},
	}},

	// Content discovery.
	{"end-8a: assuming a repository is found, listing tags MUST return 200", []exchange{
		{method: "GET", target: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":["v1"]}`, want: []string{"Content-Type", "application/json"}},
		{method: "DELETE", target: manifestPath("a/b", "v1"), status: 202},
		{method: "GET", target: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":[]}`},
	}},
	{"end-8a: the tags MUST be in lexical order", []exchange{
		{method: "PUT", target: manifestPath("a/b", plainD.String()) + "?tag=v10&tag=v2&tag=V3&tag=_", body: plain, header: ctImage, status: 201},
		{method: "GET", target: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":["V3","_","v1","v10","v2"]}`},
	}},
	{"end-8b: the response MUST include n results, and Link is set with rel=next", []exchange{
		{method: "PUT", target: manifestPath("a/b", plainD.String()) + "?tag=v2&tag=v3", body: plain, header: ctImage, status: 201},
		{method: "GET", target: "/v2/a/b/tags/list?n=2", status: 200, is: `{"name":"a/b","tags":["v1","v2"]}`, want: []string{"Link", `</v2/a/b/tags/list?last=v2&n=2>; rel="next"`}},
		{method: "GET", target: "/v2/a/b/tags/list?last=v2&n=2", status: 200, is: `{"name":"a/b","tags":["v3"]}`, want: []string{"Link", ""}},
		{method: "GET", target: "/v2/a/b/tags/list?n=3", status: 200, is: `{"name":"a/b","tags":["v1","v2","v3"]}`, want: []string{"Link", ""}},
	}},
	{"end-8b: when n is zero, this endpoint MUST return an empty list and MUST NOT include a Link", []exchange{
		{method: "GET", target: "/v2/a/b/tags/list?n=0", status: 200, is: `{"name":"a/b","tags":[]}`, want: []string{"Link", ""}},
	}},
	{"end-8b: last will not be included, and n is OPTIONAL with it", []exchange{
		{method: "PUT", target: manifestPath("a/b", plainD.String()) + "?tag=v2", body: plain, header: ctImage, status: 201},
		{method: "GET", target: "/v2/a/b/tags/list?last=v1", status: 200, is: `{"name":"a/b","tags":["v2"]}`},
		{method: "GET", target: "/v2/a/b/tags/list?last=v11", status: 200, is: `{"name":"a/b","tags":["v2"]}`},
		{method: "GET", target: "/v2/a/b/tags/list?last=zzz", status: 200, is: `{"name":"a/b","tags":[]}`},
	}},
	{"end-8b: last MUST be a proper tag", []exchange{
		{method: "GET", target: "/v2/a/b/tags/list?last=..", status: 400, code: oci.Unsupported},
		{method: "GET", target: "/v2/a/b/tags/list?n=-1", status: 400, code: oci.Unsupported},
	}},
	{"end-12a: a registry with the referrers API MUST NOT return 404", []exchange{
		{method: "GET", target: "/v2/none/referrers/" + missing.String(), status: 200, want: []string{"Content-Type", index}, is: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[]}`},
		{method: "GET", target: "/v2/a/b/referrers/" + missing.String(), status: 200, want: []string{"Content-Type", index}},
	}},
	{"end-12a: if the request is invalid, such as a digest with an invalid syntax, 400 MUST be returned", []exchange{
		{method: "GET", target: "/v2/a/b/referrers/sha256:x", status: 400, code: oci.DigestInvalid},
		{method: "GET", target: "/v2/a/b/referrers/v1", status: 400, code: oci.DigestInvalid},
	}},
	{"end-12a: descriptors MUST have artifactType, or the config's media type, and annotations", []exchange{
		{method: "PUT", target: manifestPath("a/b", "s"), body: imageOf(subject(plain), `"annotations":{"k":"v"}`), header: ctImage, status: 201},
		{
			method: "GET", target: "/v2/a/b/referrers/" + plainD.String(), status: 200,
			is: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[` +
				referrer(img, imageOf(subject(plain), `"annotations":{"k":"v"}`), `"annotations":{"k":"v"},"artifactType":"application/vnd.oci.image.config.v1+json"`) + `]}`,
		},
	}},
	{"end-12a: if artifactType is missing in an index, it MUST be omitted", []exchange{
		{method: "PUT", target: manifestPath("a/b", "s"), body: indexOf(nil, subject(plain)), header: []string{"Content-Type", index}, status: 201, want: []string{"Oci-Subject", plainD.String()}},
		{
			method: "GET", target: "/v2/a/b/referrers/" + plainD.String(), status: 200,
			is: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[` + referrer(index, indexOf(nil, subject(plain)), "") + `]}`,
		},
	}},
	{"end-12b: if filtering is requested and applied, OCI-Filters-Applied MUST be included", []exchange{
		{method: "PUT", target: manifestPath("a/b", "s"), body: imageOf(subject(plain), `"artifactType":"a/1"`), header: ctImage, status: 201},
		{method: "GET", target: "/v2/a/b/referrers/" + plainD.String() + "?artifactType=a/1", status: 200, want: []string{"Oci-Filters-Applied", "artifactType"}, is: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[` + referrer(img, imageOf(subject(plain), `"artifactType":"a/1"`), `"artifactType":"a/1"`) + `]}`},
		{method: "GET", target: "/v2/a/b/referrers/" + plainD.String() + "?artifactType=a/2", status: 200, want: []string{"Oci-Filters-Applied", "artifactType"}, is: `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[]}`},
		{method: "GET", target: "/v2/a/b/referrers/" + plainD.String(), status: 200, want: []string{"Oci-Filters-Applied", ""}},
	}},

	// Content management.
	{"end-9: deleting a tag MUST be 202, and a GET will return a 404", []exchange{
		{method: "DELETE", target: manifestPath("a/b", "v1"), status: 202},
		{method: "GET", target: manifestPath("a/b", "v1"), status: 404, code: oci.ManifestUnknown},
		{method: "GET", target: manifestPath("a/b", plainD.String()), status: 200},
	}},
	{"end-9: deleting a manifest MUST be 202, and a GET of it and any tag will return a 404", []exchange{
		{method: "DELETE", target: manifestPath("a/b", plainD.String()), status: 202},
		{method: "GET", target: manifestPath("a/b", plainD.String()), status: 404, code: oci.ManifestUnknown},
		{method: "GET", target: manifestPath("a/b", "v1"), status: 404, code: oci.ManifestUnknown},
	}},
	{"end-9: if the repository does not exist, the response MUST return 404", []exchange{
		{method: "DELETE", target: manifestPath("none", "v1"), status: 404, code: oci.ManifestUnknown},
		{method: "DELETE", target: manifestPath("none", missing.String()), status: 404, code: oci.ManifestUnknown},
	}},
	{"end-10: deleting a blob MUST be 202", []exchange{
		{method: "POST", target: uploads + "?digest=" + digest.FromString("new").String(), body: "new", status: 201},
		{method: "DELETE", target: blobPath("a/b", digest.FromString("new")), status: 202},
		{method: "GET", target: blobPath("a/b", digest.FromString("new")), status: 404, code: oci.BlobUnknown},
	}},
	{"end-10: if the blob is not found, a 404 code MUST be returned", []exchange{
		{method: "DELETE", target: blobPath("a/b", missing), status: 404, code: oci.BlobUnknown},
		{method: "DELETE", target: blobPath("none", missing), status: 404, code: oci.BlobUnknown},
	}},
	{"end-9, end-10: what is needed isn't deleted, with 405", []exchange{
		{method: "DELETE", target: blobPath("a/b", layerDigest), status: 405, code: oci.Denied, want: []string{"Allow", "GET, HEAD, DELETE"}},
		{method: "PUT", target: manifestPath("a/b", "idx"), body: indexOf([]string{plain}), header: []string{"Content-Type", index}, status: 201},
		{method: "DELETE", target: manifestPath("a/b", plainD.String()), status: 405, code: oci.Denied, want: []string{"Allow", "GET, HEAD, PUT, DELETE"}},
	}},

	// Beside the spec.
	{"_catalog: lists repositories as tags are listed", []exchange{
		{method: "POST", target: "/v2/a-b/blobs/uploads/?mount=" + layerDigest.String() + "&from=a/b", status: 201},
		{method: "GET", target: "/v2/_catalog", status: 200, is: `{"repositories":["a-b","a/b"]}`, want: []string{"Link", ""}},
		{method: "GET", target: "/v2/_catalog?n=1", status: 200, is: `{"repositories":["a-b"]}`, want: []string{"Link", `</v2/_catalog?last=a-b&n=1>; rel="next"`}},
		{method: "GET", target: "/v2/_catalog?n=1&last=a-b", status: 200, is: `{"repositories":["a/b"]}`, want: []string{"Link", ""}},
		{method: "GET", target: "/v2/_catalog?last=a-a", status: 200, is: `{"repositories":["a-b","a/b"]}`},
		{method: "GET", target: "/v2/_catalog?n=0", status: 200, is: `{"repositories":[]}`, want: []string{"Link", ""}},
		{method: "GET", target: "/v2/_catalog?n=x", status: 400, code: oci.Unsupported},
		{method: "GET", target: "/v2/_catalog?last=A", status: 400, code: oci.Unsupported},
	}},
	{"_oci/ext/discover: the base extension returns an array of supported extensions", []exchange{
		{method: "GET", target: "/v2/_oci/ext/discover", status: 200, is: `{"extensions":[]}`, want: []string{"Content-Type", "application/json"}},
	}},
}

func TestSpec(t *testing.T) {
	t.Parallel()
	for _, tc := range specCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, handler.Options{})
			c.pushBlob("a/b", config)
			c.pushBlob("a/b", layer)
			c.pushManifest("a/b", "v1", img, plain)
			for _, x := range tc.steps {
				c.run(x)
			}
		})
	}
}

// TestSpecEndpoints checks that the table above leaves out no endpoint of the spec.
func TestSpecEndpoints(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, tc := range specCases {
		ids, _, _ := strings.Cut(tc.name, ":")
		all.WriteString(ids + ", ")
	}
	for id := range strings.FieldsSeq("end-1 end-2 end-3 end-4a end-4b end-4c end-5 end-6 end-7a end-7b " +
		"end-8a end-8b end-9 end-10 end-11 end-12a end-12b end-13 end-14") {
		if !strings.Contains(all.String(), id+",") {
			t.Errorf("no case for %s", id)
		}
	}
}

// padded is an image manifest of size bytes.
func padded(size int) string {
	m := imageOf(`"annotations":{"padding":""}`)
	return strings.Replace(m, `""`, `"`+strings.Repeat("x", size-len(m))+`"`, 1)
}

// tagQuery is a query with n tags.
func tagQuery(n int) string {
	var q strings.Builder
	for i := range n {
		fmt.Fprintf(&q, "&tag=t%d", i)
	}
	return "?" + q.String()[1:]
}

// referrer is a descriptor as lists of referrers have it.
func referrer(mediaType, raw, fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d%s}`, mediaType, digest.FromString(raw), len(raw), fields)
}
