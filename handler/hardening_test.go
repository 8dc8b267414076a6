package handler_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Each test here, and in the other hardening_… files, is one attack.

// dial connects to a server of h and sends what no http.Client would.
func dial(t *testing.T, h http.Handler, request string) *bufio.Reader {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(conn)
}

// A path that a proxy and we would read differently reaches another
// repository than the one the proxy allowed.
func TestAmbiguousPaths(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushImage("secret", "")
	for _, path := range []string{
		"/v2/public/../secret/manifests/v1",
		"/v2/public/%2e%2e/secret/manifests/v1",
		"/v2/public/%2E./secret/manifests/v1",
		"/v2/public%2f..%2fsecret/manifests/v1",
		"/v2/public\\..\\secret/manifests/v1",
		"/v2/public/%5c../secret/manifests/v1",
		"/v2/./secret/manifests/v1",
		"/v2//secret/manifests/v1",
		"//v2/secret/manifests/v1",
		"/v2/%73ecret/manifests/v1",
		"/v2/secret%00/manifests/v1",
		"/v2/SECRET/manifests/v1",
		"/v2/secret/manifests/v1/",
		"/v2/secret/manifests//v1",
		"/V2/secret/manifests/v1",
		"/x/../v2/secret/manifests/v1",
	} {
		resp, err := http.ReadResponse(dial(t, c.h, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
		_ = resp.Body.Close()
	}
}

// An upload's ID that is a path leads out of the folder of sessions.
func TestUploadIDIsNoPath(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for _, id := range []string{"..", ".", "..%2f..%2fetc", "a%2Fb", "a:b", "a\\b", "a%00", strings.Repeat("a", 200), "*", "a'b"} {
		u := &url.URL{Path: uploads + id}
		r := newRequest(t, "DELETE", "/", nil, 0)
		r.URL = u
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != 404 && w.Code != 400 {
			t.Errorf("%s: %d", id, w.Code)
		}
	}
}

// A session of one repository is used by someone who may push to another.
func TestSessionBelongsToItsRepository(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.run(exchange{method: "POST", target: uploads, status: 202})
	id := c.location[strings.LastIndexByte(c.location, '/')+1:]
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		c.run(exchange{method: method, target: "/v2/other/blobs/uploads/" + id + "?digest=" + layerDigest.String(), body: layer, status: 404, code: oci.BlobUploadUnknown})
	}
	c.run(exchange{method: "GET", target: uploads + id, status: 204})
}

// A blob is read through a repository that hasn't got it.
func TestBlobBelongsToItsRepository(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("secret", layer)
	c.pushBlob("public", config)
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		c.run(exchange{method: method, target: blobPath("public", layerDigest), header: []string{"Range", "bytes=0-1"}, status: 404, code: oneIf(method != "HEAD", oci.BlobUnknown)})
	}
}

// A line break in a parameter adds headers to the response.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for i := range 2 {
		c.pushManifest("a", "", index, indexOf(nil, subject(plain), fmt.Sprintf(`"artifactType":"x>\r\nSet-Cookie: a=b","annotations":{"i":"%d"}`, i)))
	}
	evil := url.QueryEscape("x>\r\nSet-Cookie: a=b")
	store := newHookedStore(t, func(r storage.Repository) storage.Repository {
		return oneBlob{r, oci.Descriptor{MediaType: "text/html", Digest: missing, Size: 6}, func() io.ReadSeeker { return strings.NewReader("<html>") }}
	})
	newClient(t, handler.Options{Store: store}).run(exchange{
		method: "GET", target: blobPath("a", missing), status: 200, want: []string{"Content-Type", "application/octet-stream"},
	})
	got := c.run(exchange{method: "GET", target: "/v2/a/referrers/" + plainD.String() + "?n=1&artifactType=" + evil, status: 200, want: []string{"Set-Cookie", ""}})
	if link := got.header.Get("Link"); link == "" || strings.ContainsAny(link, "\r\n") || strings.Count(link, ">") != 1 {
		t.Fatalf("Link %q", link)
	}
}

// A manifest is pushed as a web page, and runs on our origin.
func TestManifestOfAnyTypeRunsNowhere(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	page := `{"x":"<script>alert(1)</script>"}`
	c.run(exchange{method: "PUT", target: "/v2/a/manifests/v1", body: page, header: []string{"Content-Type", "text/html"}, status: 201})
	c.run(exchange{method: "GET", target: "/v2/a/manifests/v1", status: 200, is: page, want: []string{
		"Content-Type", "text/html", "X-Content-Type-Options", "nosniff",
		"Content-Security-Policy", "default-src 'none'; sandbox",
	}})
}

// A page of another site sends a browser here, with what the browser may do.
func TestOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for _, from := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
	} {
		c.run(exchange{method: "POST", target: uploads, header: from, status: 403, code: oci.Denied})
		c.run(exchange{method: "GET", target: "/v2/", header: from, status: 200})
	}
	c.run(exchange{method: "POST", target: uploads, header: []string{"Sec-Fetch-Site", "same-origin"}, status: 202})
}

// A blob or an error message is taken for a web page of our origin.
func TestNothingIsAPage(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	page := "<html><script>alert(1)</script>"
	c.pushBlob("a", page)
	c.run(exchange{method: "GET", target: blobPath("a", digest.FromString(page)), status: 200, is: page, want: []string{
		"Content-Type", "application/octet-stream", "X-Content-Type-Options", "nosniff",
	}})
	got := c.run(exchange{method: "GET", target: "/v2/a/referrers/" + plainD.String() + "?last=%3Cscript%3E", status: 400, code: oci.Unsupported, want: []string{"X-Content-Type-Options", "nosniff"}})
	more := c.run(exchange{method: "POST", target: uploads + "?mount=%3Cscript%3E", status: 400, code: oci.DigestInvalid})
	if strings.Contains(got.body+more.body, "<script>") {
		t.Fatalf("body %s", got.body)
	}
}

// A short request asks for the same gigabyte a thousand times.
func TestRangeAmplification(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	content := strings.Repeat("x", 100_000)
	d := c.pushBlob("a", content)
	got := c.run(exchange{method: "GET", target: blobPath("a", d), status: 206, header: []string{
		"Range", "bytes=" + strings.TrimSuffix(strings.Repeat("0-,", 1024), ","),
	}})
	if len(got.body) != len(content) {
		t.Fatalf("%d bytes", len(got.body))
	}
}

// A request recorded in TLS early data is sent again.
func TestEarlyData(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushImage("a", "")
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "PUT": 425, "DELETE": 425} {
		r := newRequest(t, method, manifestPath("a", "v1"), http.NoBody, 0)
		r.TLS = &tls.ConnectionState{}
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", method, w.Code, want)
		}
	}
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), status: 200})
}

// A client that is refused goes on sending, and never gets to see why: the
// answer is there although the body never ends, and the connection is closed.
func TestRefusalReachesASendingClient(t *testing.T) {
	t.Parallel()
	denied := authorizer(func(authz.Question) (authz.Answer, error) { return authz.Answer{}, oci.Denied })
	for name, tc := range map[string]struct {
		opts    handler.Options
		request string
		status  int
	}{
		"forbidden, of known length":   {handler.Options{Authorizer: denied}, "Content-Length: 1099511627776\r\n\r\nabc", 403},
		"forbidden, of unknown length": {handler.Options{Authorizer: denied}, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 403},
		"too big, of known length":     {handler.Options{MaxBlobSize: 2}, "Content-Length: 1099511627776\r\n\r\nabc", 413},
		"too big, of unknown length":   {handler.Options{MaxBlobSize: 2}, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, tc.opts)
			answer := dial(t, c.h, "POST "+uploads+"?digest="+layerDigest.String()+" HTTP/1.1\r\nHost: x\r\n"+tc.request)
			resp, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tc.status || !resp.Close || !strings.Contains(string(body), `"errors"`) {
				t.Fatalf("%s, close %v, body %q, %v", resp.Status, resp.Close, body, err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A client that is refused and goes on for ever isn't heard out for ever.
func TestSendingForEver(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{MaxBlobSize: 2})
	server := httptest.NewServer(c.h)
	t.Cleanup(server.Close)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for more := "POST " + uploads + "?digest=" + layerDigest.String() + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"; err == nil; {
		_, err = io.WriteString(conn, more)
		more = "3\r\nabc\r\n"
	}
}

// A query of a hundred thousand parameters is parsed.
func TestGreatQuery(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for _, q := range []string{strings.Repeat("&", 100_000), "last=" + strings.Repeat("a", 100_000), strings.Repeat("a=b&", 200)} {
		c.run(exchange{method: "GET", target: "/v2/_catalog?" + q, status: 414, code: oci.Unsupported})
	}
}

// A response larger than what it answers to: the text of errors doesn't repeat
// all that was sent.
func TestErrorsAreShort(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	long := strings.Repeat("x", 8000)
	for _, x := range []exchange{
		{method: "GET", target: manifestPath("a", long), status: 400, code: oci.ManifestInvalid},
		{method: "GET", target: blobPath("a", digest.Digest(long)), status: 400, code: oci.DigestInvalid},
		{method: "GET", target: manifestPath(long, "v1"), status: 400, code: oci.NameInvalid},
		{method: long, target: "/v2/", status: 405, code: oci.Unsupported},
		{method: "PUT", target: manifestPath("a", "v1"), body: imageOf(), header: []string{"Content-Type", "a/" + long}, status: 400, code: oci.ManifestInvalid},
		{method: "PATCH", target: uploads + "x", body: "x", header: []string{"Content-Range", long}, status: 400, code: oci.BlobUploadInvalid},
	} {
		if got := c.run(x); len(got.body) > 1000 {
			t.Errorf("%s %.40s: %d bytes", x.method, x.target, len(got.body))
		}
	}
}
