package handler_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
)

// Attacks by the line, the headers and the parameters of a request.

// A request line in one of its rarer forms is read as another path than the one
// that somebody in front of us has checked.
func TestRequestLines(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushImage("secret", "")
	for line, status := range map[string]int{
		"GET http://public/v2/secret/manifests/v1":                        200, // the absolute form is the path in it (RFC 9112, section 3.2.2)
		"GET http://public/../v2/secret/manifests/v1":                     404,
		"GET http://public%2f..%2fv2/secret/manifests/v1":                 400, // refused before it comes here
		"GET http:/v2/secret/manifests/v1":                                200,
		"GET //public/v2/secret/manifests/v1":                             404,
		"GET /v2/secret/manifests/v1#fragment":                            400,
		"GET /v2/secret/manifests/v1;jsessionid=1":                        400,
		"GET /v2/secret/manifests/v1?/../../public/manifests/v1":          200,
		"GET /v2/secret\x00/manifests/v1":                                 400,
		"GET /v2/" + strings.Repeat("a/", 5000) + "b/manifests/v1":        400,
		"GET /v2/" + strings.Repeat("a", 100_000) + "/manifests/v1":       400,
		"GET /v2/a/manifests/" + strings.Repeat("v", 100_000):             400,
		"GET /v2/a/blobs/sha256:" + strings.Repeat("a", 100_000):          400,
		"GET " + strings.Repeat("/", 100_000):                             404,
		"OPTIONS *":                                                       200, // net/http's own
		"CONNECT secret:443":                                              404,
		"CONNECT /v2/secret/manifests/v1":                                 405,
		"TRACE /v2/secret/manifests/v1":                                   405,
		"get /v2/secret/manifests/v1":                                     405,
		"GET\t/v2/secret/manifests/v1":                                    400,
		"PROPFIND /v2/":                                                   405,
		"GETT /v2/":                                                       405,
		"HEAD /v2/secret/manifests/v1":                                    200,
		"DELETE\u00a0/v2/secret/manifests/v1 GET /v2/secret/manifests/v1": 400,
	} {
		resp, err := http.ReadResponse(dial(t, c.h, line+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), &http.Request{Method: strings.Fields(line)[0]})
		if err != nil {
			t.Fatalf("%.80q: %v", line, err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != status {
			t.Errorf("%.80q: %s, want %d", line, resp.Status, status)
		}
	}
	c.run(exchange{method: "GET", target: manifestPath("secret", "v1"), status: 200})
}

// A method that isn't one of the protocol's gets by what guards the others: it
// is told what there is instead, and neither asked nor answered more.
func TestMethods(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushImage("a", "")
	for _, method := range []string{"TRACE", "OPTIONS", "PROPFIND", "get", "Get", "delete", "PUT\x00", strings.Repeat("X", 5000)} {
		r := newRequest(t, "GET", manifestPath("a", "v1"), http.NoBody, 0)
		r.Method = method
		r.Header.Set("X-Http-Method-Override", "DELETE")
		r.Header.Set("X-Secret", "do not echo")
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD, PUT, DELETE" {
			t.Errorf("%.20q: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
		if strings.Contains(w.Body.String(), "echo") || w.Body.Len() > 1000 {
			t.Errorf("%.20q: %s", method, w.Body.String())
		}
	}
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), header: []string{"X-Http-Method-Override", "DELETE", "X-Http-Method", "DELETE"}, status: 200})
}

// A digest says little of an algorithm that is broken, and of one that isn't
// its own nothing.
func TestDigestsOfOtherAlgorithms(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("a", layer)
	encoded := layerDigest.Encoded()
	for _, d := range []string{
		"md5:" + encoded[:32], "sha1:" + encoded[:40], "sha224:" + encoded[:56], "blake3:" + encoded, "sha256+b64u:" + encoded, "SHA256:" + encoded,
		"sha512:" + encoded, "sha384:" + encoded, "sha256:" + encoded + encoded, "sha256:" + strings.ToUpper(encoded), ":" + encoded, encoded, "sha256:",
		"sha256:" + encoded[:63] + "g", "sha256:" + encoded[:63],
	} {
		for _, method := range []string{"GET", "DELETE"} {
			c.run(exchange{method: method, target: blobPath("a", digest.Digest(d)), status: 400, code: oci.DigestInvalid})
		}
		c.run(exchange{method: "POST", target: "/v2/a/blobs/uploads/?digest=" + strings.ReplaceAll(d, "+", "%2B"), body: layer, status: 400, code: oci.DigestInvalid})
		c.run(exchange{method: "POST", target: "/v2/a/blobs/uploads/?mount=" + strings.ReplaceAll(d, "+", "%2B"), status: 400, code: oci.DigestInvalid})
	}
	// Of the right length and the wrong content.
	for _, a := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
		fake := digest.NewDigestFromEncoded(a, strings.Repeat(encoded, 2)[:2*a.Size()])
		c.run(exchange{method: "POST", target: "/v2/a/blobs/uploads/?digest=" + fake.String(), body: layer, status: 400, code: oci.DigestInvalid})
		c.run(exchange{method: "GET", target: blobPath("a", fake), status: 404, code: oci.BlobUnknown})
		own := a.FromString(layer) // the same content, which nobody has pushed by this name
		c.run(exchange{method: "GET", target: blobPath("a", own), status: 404, code: oci.BlobUnknown})
		raw := strings.ReplaceAll(indexOf([]string{"x"}), digest.FromString("x").String(), own.String())
		raw = strings.ReplaceAll(raw, img, "application/vnd.example.blob")
		c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: raw, header: []string{"Content-Type", index}, status: 404, code: oci.ManifestBlobUnknown})
	}
	// A manifest under the digest of another algorithm is hashed by that.
	raw := indexOf(nil)
	wrong := "sha512:" + hex.EncodeToString([]byte(strings.Repeat("x", 64)))
	c.run(exchange{method: "PUT", target: manifestPath("a", wrong), body: raw, header: []string{"Content-Type", index}, status: 400, code: oci.DigestInvalid})
	c.run(exchange{method: "PUT", target: manifestPath("a", digest.SHA512.FromString(raw).String()), body: raw, header: []string{"Content-Type", index}, status: 201})
	c.run(exchange{method: "GET", target: manifestPath("a", digest.FromString(raw).String()), status: 404, code: oci.ManifestUnknown})
}

// A condition or range of a megabyte is compared with everything there is.
func TestHeaderFloods(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	raw, d := c.pushImage("a", "")
	etag := `"` + d.String() + `"`
	fits, great := strings.Repeat(`"x",`, 16_000), strings.Repeat(`"x",`, 250_000)
	for _, tc := range []struct {
		method string
		header []string
		status int
	}{
		{"GET", []string{"If-None-Match", fits + etag}, 304},
		{"GET", []string{"If-None-Match", fits}, 200},
		{"GET", []string{"If-Match", fits + etag}, 200},
		{"GET", []string{"If-Match", fits}, 412},
		{"GET", []string{"If-None-Match", great}, 431},
		{"GET", []string{"If-Match", great}, 431},
		{"PUT", []string{"If-None-Match", great}, 431},
		{"PUT", []string{"If-Match", great}, 431},
		{"GET", []string{"Range", "bytes=" + strings.Repeat("0-0,", 15_000)}, 400},
		{"GET", []string{"Range", "bytes=" + strings.Repeat(",", 60_000)}, 200},
		{"GET", []string{"Range", "bytes=" + strings.Repeat("0-0,", 250_000)}, 431},
		{"GET", []string{"Range", "bytes=" + strings.Repeat("9", 60_000) + "-"}, 416},
		{"GET", []string{"If-Range", great, "Range", "bytes=0-1"}, 200},
		{"PUT", []string{"Content-Type", img + ";" + strings.Repeat(" a=b;", 10_000)}, 201},
		{"PUT", []string{"Content-Type", strings.Repeat("x", 1<<20) + "/y"}, 400},
	} {
		header, body := tc.header, ""
		if tc.method == "PUT" {
			body = raw
		}
		if header[0] != "Content-Type" {
			header = append(header, ctImage...)
		}
		if got := c.send(tc.method, manifestPath("a", "v1"), body, header...); got.status != tc.status || len(got.body) > 2000 {
			t.Errorf("%s with %.40q: %d, %d bytes; want %d", tc.method, header, got.status, len(got.body), tc.status)
		}
	}
	var lines []string // a hundred lines of one header are as long as one of a hundred
	for range 100 {
		lines = append(lines, "If-None-Match", strings.Repeat(`"x",`, 1000))
	}
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), header: lines, status: 431, code: oci.Unsupported})
}

// The Host that a client makes up gets into a redirect, and sends the next one,
// with credentials, elsewhere: what we point to is always a path.
func TestLocationsArePaths(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for i := range 3 {
		c.pushManifest("a", fmt.Sprint("v", i), index, indexOf(nil, fmt.Sprintf(`"annotations":{"i":"%d"}`, i), subject(plain)))
	}
	for _, x := range []exchange{
		{method: "POST", target: uploads, status: 202},
		{method: "POST", target: uploads + "?digest=" + layerDigest.String(), body: layer, status: 201},
		{method: "POST", target: uploads + "?mount=" + layerDigest.String() + "&from=a%2Fb", status: 201},
		{method: "PUT", target: manifestPath("a", "v1"), body: indexOf(nil), header: []string{"Content-Type", index}, status: 201},
		{method: "GET", target: "/v2/a/tags/list?n=1", status: 200},
		{method: "GET", target: "/v2/_catalog?n=1", status: 200},
		{method: "GET", target: "/v2/a/referrers/" + plainD.String() + "?n=1", status: 200},
	} {
		r := httptest.NewRequestWithContext(t.Context(), x.method, x.target, io.NopCloser(strings.NewReader(x.body)))
		r.ContentLength = int64(len(x.body))
		r.Host = "evil.example"
		for _, key := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded", "X-Original-Url", "X-Rewrite-Url", "X-Host"} {
			r.Header.Set(key, "https://evil.example/")
		}
		if x.header != nil {
			r.Header.Set(x.header[0], x.header[1])
		}
		w := httptest.NewRecorder()
		if c.h.ServeHTTP(w, r); w.Code != x.status {
			t.Errorf("%s %s: %d", x.method, x.target, w.Code)
		}
		if l := w.Header().Get("Location"); l != "" && !strings.HasPrefix(l, "/v2/") {
			t.Errorf("%s %s: Location %q", x.method, x.target, l)
		}
		if l := w.Header().Get("Link"); l != "" && !strings.HasPrefix(l, "</v2/") {
			t.Errorf("%s %s: Link %q", x.method, x.target, l)
		}
		if strings.Contains(fmt.Sprint(w.Header())+w.Body.String(), "evil") {
			t.Errorf("%s %s: %v %s", x.method, x.target, w.Header(), w.Body)
		}
	}
}

// What a client sends comes back in an error, and is a page, a header or a
// control sequence in somebody's terminal.
func TestErrorsEchoNothingRaw(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	const evil = "<script>&'\u2028\x1b[2J\x07\xff"
	quoted := "%3Cscript%3E%26%27%E2%80%A8%1B%5B2J%07%FF"
	for _, x := range []exchange{
		{method: "GET", target: "/v2/a/tags/list?last=" + quoted},
		{method: "GET", target: "/v2/_catalog?last=" + quoted},
		{method: "GET", target: "/v2/_catalog?n=" + quoted},
		{method: "POST", target: uploads + "?digest=" + quoted},
		{method: "POST", target: uploads + "?mount=" + plainD.String() + "&from=" + quoted},
		{method: "POST", target: uploads + "?digest-algorithm=" + quoted},
		{method: "PUT", target: manifestPath("a", plainD.String()) + "?tag=" + quoted},
		{method: "PUT", target: manifestPath("a", "v1"), body: `{}`, header: []string{"Content-Type", evil}},
		{method: "PUT", target: manifestPath("a", "v1"), body: `{"mediaType":"<script>\u001b[2J"}`},
		{method: "PUT", target: manifestPath("a", "v1"), body: evil, header: ctImage},
		{method: "PUT", target: manifestPath("a", "v1"), body: `{"<script>\u001b":1,"<script>\u001b":1}`, header: ctImage},
		{method: "PUT", target: manifestPath("a", "v1"), body: `{"layers":[{"digest":"<script>\u001b"}]}`, header: ctImage},
		{method: "PUT", target: manifestPath("a", "v1"), body: `{"schemaVersion":"<script>"}`, header: ctImage},
		{method: "PATCH", target: uploads + "x", body: "x", header: []string{"Content-Range", evil}},
		{method: "GET", target: manifestPath("a", "v1"), header: []string{"If-Match", evil}},
	} {
		got := c.send(x.method, x.target, x.body, x.header...)
		if got.status < 400 || got.status > 499 {
			t.Errorf("%s %s: %d", x.method, x.target, got.status)
		}
		_ = got.code(t) // it's JSON, and says so
		if i := strings.IndexFunc(got.body, func(r rune) bool { return r < ' ' || r > '~' && r != '…' || strings.ContainsRune("<>&", r) }); i >= 0 {
			t.Errorf("%s %s: %q", x.method, x.target, got.body[i:])
		}
		for key, values := range got.header {
			if strings.ContainsAny(strings.Join(values, ""), "<\x1b\r\n") {
				t.Errorf("%s %s: %s: %q", x.method, x.target, key, values)
			}
		}
	}
}
