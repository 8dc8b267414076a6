package handler

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

const aDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// methodOf is the method of each endpoint.
var methodOf = [numKinds]string{
	ping: "GET", getBlob: "GET", getManifest: "GET", startUpload: "POST", putBlob: "POST", patchUpload: "PATCH",
	finishUpload: "PUT", putManifest: "PUT", listTags: "GET", deleteManifest: "DELETE", deleteBlob: "DELETE",
	mountBlob: "POST", listReferrers: "GET", getUpload: "GET", cancelUpload: "DELETE", listRepositories: "GET",
	listExtensions: "GET",
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for k := ping; k < numKinds; k++ {
		e := endpoints[k]
		if e.operation == "" || e.action == "" || e.serve == nil || methodOf[k] == "" {
			t.Errorf("kind %d: incomplete endpoint %q", k, e.operation)
		}
		if seen[e.operation] {
			t.Errorf("two endpoints are called %q", e.operation)
		}
		seen[e.operation] = true
	}
}

// routes are requests that are for an endpoint.
var routes = []struct {
	method, target string
	kind           kind
	canonical      string // how target gives it back; empty is the same
}{
	{"GET", "/v2/", ping, ""},
	{"HEAD", "/v2", ping, "/v2/"},
	{"GET", "/v2/_catalog", listRepositories, ""},
	{"GET", "/v2/_catalog?last=a%2Fb&n=0", listRepositories, ""},
	{"GET", "/v2/_oci/ext/discover", listExtensions, ""},
	{"GET", "/v2/a/blobs/" + aDigest, getBlob, ""},
	{"HEAD", "/v2/a/b/c/blobs/" + aDigest, getBlob, ""},
	{"GET", "/v2/a/blobs/sha256%3A" + aDigest[7:], getBlob, "/v2/a/blobs/" + aDigest},
	{"GET", "/v2/a/blobs/sha256%3a" + aDigest[7:], getBlob, "/v2/a/blobs/" + aDigest},
	{"DELETE", "/v2/a/blobs/" + aDigest, deleteBlob, ""},
	{"GET", "/v2/a/manifests/v1", getManifest, ""},
	{"GET", "/v2/a/manifests/v1?ns=docker.io", getManifest, "/v2/a/manifests/v1"},
	{"PUT", "/v2/a/manifests/" + aDigest + "?tag=1&tag=2&tag=1", putManifest, "/v2/a/manifests/" + aDigest + "?tag=1&tag=2"},
	{"DELETE", "/v2/a/manifests/v1", deleteManifest, ""},
	{"GET", "/v2/a/tags/list?last=v1&n=10", listTags, ""},
	{"GET", "/v2/a/referrers/" + aDigest, listReferrers, ""},
	{"GET", "/v2/a/referrers/" + aDigest + "?artifactType=x&artifactType=%22", listReferrers, ""},
	{"GET", "/v2/a/referrers/" + aDigest + "?artifactType=", listReferrers, ""},
	{"POST", "/v2/a/blobs/uploads/", startUpload, ""},
	{"POST", "/v2/a/blobs/uploads", startUpload, "/v2/a/blobs/uploads/"},
	{"POST", "/v2/a/blobs/uploads/?from=b", startUpload, "/v2/a/blobs/uploads/"},
	{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", startUpload, ""},
	{"POST", "/v2/a/blobs/uploads/?digest=" + aDigest, putBlob, "/v2/a/blobs/uploads/?digest=sha256%3A" + aDigest[7:]},
	{"POST", "/v2/a/blobs/uploads/?mount=" + aDigest, mountBlob, "/v2/a/blobs/uploads/?mount=sha256%3A" + aDigest[7:]},
	{"POST", "/v2/a/blobs/uploads/?from=b%2Fc&mount=sha256%3A" + aDigest[7:], mountBlob, ""},
	{"GET", "/v2/a/blobs/uploads/X-_~1", getUpload, ""},
	{"PATCH", "/v2/a/blobs/uploads/1", patchUpload, ""},
	{"PUT", "/v2/a/blobs/uploads/1?digest=sha256%3A" + aDigest[7:], finishUpload, ""},
	{"DELETE", "/v2/a/blobs/uploads/1", cancelUpload, ""},

	// Names that hold the spec's own words.
	{"GET", "/v2/blobs/blobs/" + aDigest, getBlob, ""},
	{"GET", "/v2/manifests/manifests/manifests", getManifest, ""},
	{"GET", "/v2/x/tags/tags/list", listTags, ""},
	{"GET", "/v2/x/uploads/manifests/v1", getManifest, ""},
	{"POST", "/v2/uploads/blobs/uploads/", startUpload, ""},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range routes {
		u, err := url.Parse(tc.target)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parsed(tc.method, u)
		if err != nil || r.kind != tc.kind {
			t.Errorf("%s %s: kind %d, %v; want kind %d", tc.method, tc.target, r.kind, err, tc.kind)
			continue
		}
		want := tc.canonical
		if want == "" {
			want = tc.target
		}
		if got := r.target(); got != want {
			t.Errorf("%s %s: comes back as %s, want %s", tc.method, tc.target, got, want)
		}
	}
}

// noRoutes are requests that are for none, or ask for what it hasn't got; a status of 0 is one that is fine.
var noRoutes = []struct {
	method, target string
	code           oci.Code
	status         int
}{
	{"GET", "/", oci.NameUnknown, 404},
	{"GET", "/v1/", oci.NameUnknown, 404},
	{"GET", "/v2a", oci.NameUnknown, 404},
	{"GET", "/v2x/_catalog", oci.NameUnknown, 404},
	{"GET", "/v2/a", oci.NameUnknown, 404},
	{"GET", "/v2/a/b/c", oci.NameUnknown, 404},
	{"GET", "/v2/a/tags/all", oci.NameUnknown, 404},
	{"GET", "/v2/a/tags/list/", oci.NameUnknown, 404},
	{"GET", "/v2/_catalog/", oci.NameUnknown, 404},
	{"GET", "/v2/a/uploads/x", oci.NameUnknown, 404},
	{"GET", "/v2/a/_oci/ext/discover", oci.NameUnknown, 404},

	{"GET", "/v2//manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a//b/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/../manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a/./b/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a%2fb/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a%2Fb/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a%5cb/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/%61/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a/manifests/v1%00", oci.NameInvalid, 400},
	{"GET", "/v2/a/%2e%2e/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a%25/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/ä/manifests/v1", oci.NameInvalid, 400},
	{"GET", "/v2/a/blobs/manifests/v1", oci.NameInvalid, 400}, // on disk it would lie in the layout of a
	{"GET", "/v2/" + strings.Repeat("a", 256) + "/manifests/v1", oci.NameInvalid, 400},

	{"GET", "/v2/a/manifests/", oci.ManifestInvalid, 400},
	{"GET", "/v2/a/blobs/", oci.DigestInvalid, 400},
	{"GET", "/v2/a/blobs/v1", oci.DigestInvalid, 400},
	{"GET", "/v2/a/blobs/sha256:AAAA", oci.DigestInvalid, 400},
	{"GET", "/v2/a/blobs/uploads/..", oci.BlobUploadUnknown, 404},
	{"GET", "/v2/a/blobs/uploads/x:y", oci.BlobUploadUnknown, 404},
	{"GET", "/v2/a/blobs/uploads/" + strings.Repeat("x", 129), oci.BlobUploadUnknown, 404},

	{"POST", "/v2/", oci.Unsupported, 405},
	{"OPTIONS", "/v2/", oci.Unsupported, 405},
	{"get", "/v2/", oci.Unsupported, 405},
	{"PUT", "/v2/a/blobs/" + aDigest, oci.Unsupported, 405},
	{"GET", "/v2/a/blobs/uploads/", oci.Unsupported, 405},
	{"POST", "/v2/a/manifests/v1", oci.Unsupported, 405},

	{"PUT", "/v2/a/blobs/uploads/1", oci.DigestInvalid, 400},
	{"PUT", "/v2/a/blobs/uploads/1?digest=" + aDigest + "&digest=" + aDigest, oci.Unsupported, 400},
	{"POST", "/v2/a/blobs/uploads/?mount=x", oci.DigestInvalid, 400},
	{"POST", "/v2/a/blobs/uploads/?from=A&mount=" + aDigest, oci.NameInvalid, 400},
	{"POST", "/v2/a/blobs/uploads/?digest-algorithm=", "", 0}, // as good as absent: no error
	{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha1", oci.DigestInvalid, 400},
	{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512&digest=" + aDigest, oci.DigestInvalid, 400},
	{"POST", "/v2/a/blobs/uploads/?digest=%zz", oci.Unsupported, 400},
	{"PUT", "/v2/a/manifests/v1?tag=v2", oci.Unsupported, 400},
	{"PUT", "/v2/a/manifests/" + aDigest + "?tag=.v2", oci.ManifestInvalid, 400},
	{"PUT", "/v2/a/manifests/" + aDigest + "?tag=", oci.ManifestInvalid, 400},
	{"PUT", "/v2/a/manifests/" + aDigest + "?" + strings.Repeat("tag=a&", 101), oci.Unsupported, 414},
	{"GET", "/v2/a/manifests/v1?" + strings.Repeat("&", 200), oci.Unsupported, 414},
	{"GET", "/v2/a/manifests/v1?" + strings.Repeat("x", maxQuery+1), oci.Unsupported, 414},
	{"GET", "/v2/a/tags/list?n=", "", 0},
	{"GET", "/v2/a/tags/list?n=1.5", oci.Unsupported, 400},
	{"GET", "/v2/a/tags/list?n=+5", oci.Unsupported, 400},
	{"GET", "/v2/a/tags/list?n=99999999999999999999", oci.Unsupported, 400},
	{"GET", "/v2/a/tags/list?n=1&n=2", oci.Unsupported, 400},
	{"GET", "/v2/a/referrers/" + aDigest + "?last=v1", oci.Unsupported, 400},
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range noRoutes {
		u, err := url.Parse(tc.target)
		if err != nil {
			u = &url.URL{Path: strings.TrimSuffix(tc.target, "%00") + "\x00"}
		}
		_, err = parsed(tc.method, u)
		if tc.status == 0 {
			if err != nil {
				t.Errorf("%s %s: %v, want none", tc.method, clip(tc.target), err)
			}
			continue
		}
		var e *oci.Error
		if !errors.As(err, &e) || e.Code != tc.code || e.HTTPStatus() != tc.status {
			t.Errorf("%s %s: %v, want %s with %d", tc.method, clip(tc.target), err, tc.code, tc.status)
		}
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		resource methods
		want     string
	}{
		{pingMethods, "GET, HEAD"},
		{manifestMethods, "GET, HEAD, PUT, DELETE"},
		{uploadsMethods, "POST"},
		{uploadMethods, "GET, HEAD, PATCH, PUT, DELETE"},
		{methods{}, ""},
	} {
		if got := tc.resource.allow(); got != tc.want {
			t.Errorf("allow %q, want %q", got, tc.want)
		}
	}
}

// FuzzParseRoute: what parse accepts, target writes so that parse reads the
// same again, under the path that it came with; and nothing in it can be
// mistaken for a path elsewhere.
func FuzzParseRoute(f *testing.F) {
	for _, target := range []string{
		"/v2/", "/v2/_catalog?n=1&last=a", "/v2/a/b/manifests/v1", "/v2/a/manifests/" + aDigest + "?tag=1&tag=2",
		"/v2/a/blobs/sha256%3A" + aDigest[7:], "/v2/a/blobs/uploads/?from=b&mount=" + aDigest,
		"/v2/a/blobs/uploads/?digest=" + aDigest, "/v2/a/blobs/uploads/x?digest=" + aDigest,
		"/v2/a/referrers/" + aDigest + "?artifactType=%22a&artifactType", "/v2/a/../b/tags/list", "/v2/a%2fb/tags/list",
		"/v2/a/blobs/uploads/?digest-algorithm=sha512", "/v2/a/tags/list?n=0&last=v1", "/v2/a/uploads/x", "/v2/a/blobs/uploads",
		"/v2", "http://host/v2/a/manifests/v1", "/v2/uploads/blobs/uploads/blobs/uploads/", "/v2/_oci/ext/discover", "/v2/a/blobs/uploads/x?digest=&digest=",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "TRACE"} {
			f.Add(method, target)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.Parse(target)
		if err != nil {
			return // net/http has refused it
		}
		r, err := parsed(method, u)
		if err != nil {
			var e *oci.Error
			if !errors.As(err, &e) || e.HTTPStatus() < 400 || e.HTTPStatus() > 499 {
				t.Fatalf("%v isn't the client's", err)
			}
			return
		}
		again := r.target()
		for _, bad := range []string{"..", "//", "\\", " ", "<", ">", "\"", "\n"} {
			if strings.Contains(again, bad) {
				t.Fatalf("%q in target %q", bad, again)
			}
		}
		v, err := url.ParseRequestURI(again)
		if err != nil {
			t.Fatalf("target %q: %v", again, err)
		}
		if want := canonical(u.Path); v.Path != want {
			t.Fatalf("%s %q came back as %q, want the path %q", method, target, again, want)
		}
		same, err := parsed(methodOf[r.kind], v)
		if err != nil {
			t.Fatalf("%s %q came back as %q: %v", method, target, again, err)
		}
		if !reflect.DeepEqual(same, r) {
			t.Fatalf("%s %q came back as %q:\n%+v, want\n%+v", method, target, again, same, r)
		}
	})
}

func parsed(method string, u *url.URL) (route, error) {
	var r route
	err := r.parse(method, u)
	return r, err
}

// canonical is a path as the spec has it, of which clients leave out a last slash.
func canonical(path string) string {
	if path == "/v2" || strings.HasSuffix(path, "/blobs/uploads") {
		return path + "/"
	}
	return path
}

func BenchmarkParse(b *testing.B) {
	u := &url.URL{Path: "/v2/library/alpine/manifests/" + digest.FromString("x").String()}
	b.ReportAllocs()
	for b.Loop() {
		var r route
		if err := r.parse(http.MethodGet, u); err != nil {
			b.Fatal(err)
		}
	}
}
