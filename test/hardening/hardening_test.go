//go:build real

// Package hardening attacks the real program where net/http, Caddy and the
// registry each see a part of a request: what one of them leaves to another must
// be left to nobody.
package hardening

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
)

// guarded is a Caddyfile in which somebody keeps others from one repository, by
// what Caddy has for that, and from much patience.
const guarded = `{
	admin ADMIN
	persist_config off
	servers {
		timeouts {
			read_header 2s
			read_body_idle 2s
		}
	}
}
http://HOST {
	bind 127.0.0.1
	route {
		@secret path /v2/secret/*
		respond @secret "not for you" 403
		oci_registry {
			root %q
			anonymous all
			health /health
		}
	}
}`

// start starts the program with an image in the repository public and, put there
// while nobody kept them from it, one in secret.
func start(t *testing.T) (srv *registry.Server, secret *image.Content) {
	t.Helper()
	root := t.TempDir()
	open := registry.Config(t, fmt.Sprintf(strings.Replace(guarded, "/v2/secret/*", "/nowhere/*", 1), root))
	secret = image.Random(1, 2, 4<<10)
	open.Push(secret, "secret/app", "v1")
	open.Push(image.Random(2, 2, 4<<10), "public/app", "v1")
	open.Stop()
	return registry.Config(t, fmt.Sprintf(guarded, root)), secret
}

// raw sends what no client would, and returns all answers until the connection
// is closed, which has to be within a minute.
func raw(t *testing.T, srv *registry.Server, request string) []answer {
	t.Helper()
	conn := dial(t, srv)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return answers(t, conn)
}

func dial(t *testing.T, srv *registry.Server) *net.TCPConn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test may have closed it
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// answers reads responses until there are no more.
func answers(t *testing.T, conn net.Conn) (all []answer) {
	t.Helper()
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if isEnd(err) {
			return all
		}
		if err != nil {
			t.Fatalf("after %d answers: %v", len(all), err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil && !isEnd(err) {
			t.Fatal(err)
		}
		all = append(all, answer{resp.StatusCode, resp.Header, string(body)})
	}
}

// isEnd reports whether there's no more of an answer, or none in HTTP/1.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) ||
		err != nil && strings.Contains(err.Error(), "malformed HTTP response")
}

// isReset reports whether the other side has gone away without a word.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}

func statuses(all []answer) (s []int) {
	for _, a := range all {
		s = append(s, a.status)
	}
	return s
}

// memory is the resident memory of the program, in bytes.
func memory(t *testing.T, srv *registry.Server) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srv.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+([0-9]+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in\n%s", status)
	}
	kilobytes, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// A path is read by Caddy's matchers in one way and by the registry in another,
// so that what Caddy keeps others from is served.
func TestPathsAroundAMatcher(t *testing.T) {
	t.Parallel()
	srv, secret := start(t)
	for _, path := range []string{
		"/v2/secret/app/manifests/v1", "/v2/SECRET/app/manifests/v1", "/v2/public/../secret/app/manifests/v1", "/v2/./secret/app/manifests/v1",
		"/v2//secret/app/manifests/v1", "//v2/secret/app/manifests/v1", "/v2/secret%2Fapp/manifests/v1", "/v2/%73ecret/app/manifests/v1",
		"/v2%2Fsecret/app/manifests/v1", "/v2/public/%2e%2e/secret/app/manifests/v1", "/v2/public/..%2Fsecret/app/manifests/v1",
		"/v2/public%5c..%5csecret/app/manifests/v1", `/v2/public\..\secret/app/manifests/v1`, "/v2/secret;x/app/manifests/v1",
		"/v2/secret%00/app/manifests/v1", "/%76%32/secret/app/manifests/v1", "/V2/secret/app/manifests/v1", "/v2/secret/app/manifests/v1/",
		"/v2/secret/app//manifests/v1", "/v2/%2573ecret/app/manifests/v1", "/x/../v2/secret/app/manifests/v1", "/v2/secret/app/manifests/v1%20",
		"/v2/secret/./app/manifests/v1", "/v2/secret/app/manifests/v1?/../../public", "/v2/secret/app/manifests/v1#x", "/v2/ſecret/app/manifests/v1",
		"http://HOST/v2/secret/app/manifests/v1", "http://evil/v2/secret/app/manifests/v1", "http:///v2/secret/app/manifests/v1",
		"/" + strings.Repeat("v2/../", 1000) + "v2/secret/app/manifests/v1", "/v2/" + strings.Repeat("a/../", 1000) + "secret/app/manifests/v1",
	} {
		path = strings.Replace(path, "HOST", srv.Host, 1)
		for _, a := range raw(t, srv, "GET "+path+" HTTP/1.1\r\nHost: "+srv.Host+"\r\nAccept: */*\r\nConnection: close\r\n\r\n") {
			if a.status < 300 && strings.Contains(a.body, secret.Blobs[0].Digest.String()) {
				t.Errorf("%.60s: the secret, %d", path, a.status)
			}
		}
	}
	// It's what is asked for that isn't served, and nothing else is wrong with it.
	for path, want := range map[string]int{"/v2/secret/app/manifests/v1": http.StatusForbidden, "/v2/public/app/manifests/v1": http.StatusOK} {
		for _, a := range raw(t, srv, "GET "+path+" HTTP/1.1\r\nHost: "+srv.Host+"\r\nConnection: close\r\n\r\n") {
			if a.status != want {
				t.Errorf("%s: %d, want %d", path, a.status, want)
			}
		}
	}
}

// smuggling is a request with another one in it, and how many answers there may be.
type smuggling struct {
	request string
	most    int
}

// smuggled are requests that hide the deletion of an image; host is a header's line.
func smuggled(host string) map[string]smuggling {
	hidden := "DELETE /v2/public/app/manifests/v1 HTTP/1.1\r\n" + host + "\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	next := "GET /v2/ HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
	post := "POST /v2/public/app/blobs/uploads/?digest=sha256:" + strings.Repeat("0", 64) + " HTTP/1.1\r\n" + host
	return map[string]smuggling{
		"a body that is a request":                      {post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + next, 2},
		"a chunked body that is a request":              {post + "Transfer-Encoding: chunked\r\n\r\n" + chunk(hidden) + "0\r\n\r\n" + next, 2},
		"a refused body that is a request":              {"POST /v2/UPPER/blobs/uploads/ HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + next, 2},
		"a refused chunked body that is one":            {"POST /v2/UPPER/blobs/uploads/ HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + chunk(hidden) + "0\r\n\r\n" + next, 2},
		"a body of a GET":                               {"GET /v2/public/app/tags/list HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + next, 2},
		"a body of a forbidden request":                 {"PUT /v2/secret/app/manifests/v1 HTTP/1.1\r\n" + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + next, 2},
		"length and chunks: the length ends first":      {post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(hidden) + "0\r\n\r\n" + next, 2},
		"length and chunks: the chunks end first":       {post + fmt.Sprintf("Content-Length: %d\r\n", 5+len(hidden)) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 1},
		"two lengths":                                   {post + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(hidden)) + hidden, 1},
		"a list of lengths":                             {post + fmt.Sprintf("Content-Length: 0, %d\r\n\r\n", len(hidden)) + hidden, 1},
		"a length with a sign":                          {post + "Content-Length: +0\r\n\r\n" + hidden, 1},
		"a negative length":                             {post + "Content-Length: -1\r\n\r\n" + hidden, 1},
		"a length in hexadecimal":                       {post + "Content-Length: 0x0\r\n\r\n" + hidden, 1},
		"another encoding":                              {post + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, 1},
		"an encoding twice":                             {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden, 1},
		"an encoding and another":                       {post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden, 1},
		"an encoding before its colon":                  {post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden, 1},
		"an encoding on a second line":                  {post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + next, 2},
		"an encoding behind a tab":                      {post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + next, 2},
		"an encoding in HTTP/1.0":                       {strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, 1},
		"a chunk's size with a sign":                    {post + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + hidden, 1},
		"a chunk's size too large":                      {post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + hidden, 1},
		"a chunk longer than its size":                  {post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + hidden, 1},
		"a chunk's extension with a line feed":          {post + "Transfer-Encoding: chunked\r\n\r\n0;\nx\r\n\r\n" + hidden, 1},
		"a trailer that is a request":                   {post + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n" + hidden, 1},
		"a header with a carriage return":               {post + "X: a\rTransfer-Encoding: chunked\r\n\r\n" + hidden, 1},
		"a header with a zero":                          {post + "X: a\x00\r\nContent-Length: 0\r\n\r\n" + hidden, 1},
		"a header without a colon":                      {post + "X\r\n\r\n" + hidden, 1},
		"no host":                                       {"GET /v2/ HTTP/1.1\r\n\r\n" + hidden, 1},
		"two hosts":                                     {"GET /v2/ HTTP/1.1\r\n" + host + "Host: evil\r\n\r\n" + hidden, 1},
		"an upgrade":                                    {"GET /v2/ HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + next, 2},
		"a continuation that nobody waits for":          {post + fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(hidden)) + hidden + next, 3},
		"an expectation that nobody meets":              {post + fmt.Sprintf("Expect: 200-ok\r\nContent-Length: %d\r\n\r\n", len(hidden)) + hidden, 1},
		"HTTP/0.9":                                      {"GET /v2/\r\n" + hidden, 1},
		"HTTP/2 without being asked":                    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, 1},
		"a line feed instead of a carriage return, too": {"GET /v2/ HTTP/1.1\n" + strings.ReplaceAll(host, "\r", "") + "\n" + next, 2},
	}
}

// A request is hidden in the body of another one, where two readers differ
// about where that ends. Whatever is sent, there is one answer for each request
// that was meant, and what was hidden isn't done.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	srv, _ := start(t)
	for name, tc := range smuggled("Host: " + srv.Host + "\r\n") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, srv)
			if _, err := io.WriteString(conn, tc.request); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil && !isReset(err) {
				t.Fatal(err)
			}
			if all := answers(t, conn); len(all) > tc.most {
				t.Errorf("%d answers: %v", len(all), statuses(all))
			}
			if _, err := srv.Repository("public/app").Resolve(t.Context(), "v1"); err != nil {
				t.Errorf("the image: %v", err)
			}
		})
	}
}

// Methods that only a proxy or a debugger has a use for show what others sent,
// or open a way to other machines.
func TestMethods(t *testing.T) {
	t.Parallel()
	srv, _ := start(t)
	for line, want := range map[string]int{
		"TRACE /v2/ HTTP/1.1": http.StatusMethodNotAllowed, "CONNECT " + srv.Host + " HTTP/1.1": 0, "CONNECT evil:443 HTTP/1.1": 0,
		"get /v2/ HTTP/1.1": http.StatusMethodNotAllowed, "PROPFIND /v2/ HTTP/1.1": http.StatusMethodNotAllowed, "OPTIONS * HTTP/1.1": 0,
		strings.Repeat("X", 10_000) + " /v2/ HTTP/1.1": http.StatusMethodNotAllowed, "GET /v2/ HTTP/3.0": 0, "GET /v2/ HTTP/1.9": 0,
	} {
		for _, a := range raw(t, srv, line+"\r\nHost: "+srv.Host+"\r\nAuthorization: Bearer hunter2\r\nConnection: close\r\n\r\n") {
			if want != 0 && a.status != want || strings.Contains(a.body+fmt.Sprint(a.header), "hunter2") || a.status == http.StatusSwitchingProtocols {
				t.Errorf("%.40s: %d %s", line, a.status, a.body)
			}
		}
	}
}

// A header that has no end fills the memory.
func TestGreatHeaders(t *testing.T) {
	t.Parallel()
	srv, _ := start(t)
	before := memory(t, srv)
	for name, header := range map[string]string{
		"one":       "X: " + strings.Repeat("a", 8<<20) + "\r\n",
		"many":      strings.Repeat("X: a\r\n", 1<<20),
		"a cookie":  "Cookie: " + strings.Repeat("a=b; ", 1<<20) + "\r\n",
		"no colon":  strings.Repeat("a", 8<<20),
		"a range":   "Range: bytes=" + strings.Repeat("0-0,", 200_000) + "\r\n",
		"a tag":     "If-None-Match: " + strings.Repeat(`"a",`, 200_000) + "\r\n",
		"forwarded": "X-Forwarded-For: " + strings.Repeat("192.0.2.1,", 90_000) + "\r\n",
	} {
		conn := dial(t, srv)
		_, err := io.WriteString(conn, "GET /v2/public/app/manifests/v1 HTTP/1.1\r\nHost: "+srv.Host+"\r\nConnection: close\r\n"+header+"\r\n")
		if err != nil && !isReset(err) {
			t.Fatal(err)
		}
		for _, a := range answers(t, conn) {
			if a.status != http.StatusRequestHeaderFieldsTooLarge && a.status != http.StatusOK && a.status != http.StatusBadRequest {
				t.Errorf("%s: %d", name, a.status)
			}
		}
	}
	if grown := memory(t, srv) - before; grown > 128<<20 {
		t.Errorf("%d MB more than before", grown>>20)
	}
}

// The Host of a request, or what claims to be that of a proxy, gets into a
// Location, and the client's next request, with its credentials, goes there.
func TestHostsInLocations(t *testing.T) {
	t.Parallel()
	srv, _ := start(t)
	headers := "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil.example\r\nX-Forwarded-Prefix: //evil.example\r\nX-Original-URL: //evil.example/\r\n"
	for _, request := range []string{
		"POST /v2/public/app/blobs/uploads/ HTTP/1.1\r\nHost: " + srv.Host + "\r\nContent-Length: 0\r\n",
		"GET /v2/public/app/tags/list?n=1 HTTP/1.1\r\nHost: " + srv.Host + "\r\n",
		"GET /v2/_catalog?n=1 HTTP/1.1\r\nHost: " + srv.Host + "\r\n",
		"POST http://" + srv.Host + "/v2/public/app/blobs/uploads/ HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n",
		"POST http://evil.example/v2/public/app/blobs/uploads/ HTTP/1.1\r\nHost: " + srv.Host + "\r\nContent-Length: 0\r\n",
		"GET //evil.example/v2/ HTTP/1.1\r\nHost: " + srv.Host + "\r\n",
		"GET /v2 HTTP/1.1\r\nHost: " + srv.Host + "\r\n",
		"GET / HTTP/1.1\r\nHost: " + srv.Host + "\r\n",
	} {
		for _, a := range raw(t, srv, request+headers+"Connection: close\r\n\r\n") {
			if strings.Contains(fmt.Sprint(a.header)+a.body, "evil") {
				t.Errorf("%.60s: %d %v %s", request, a.status, a.header, a.body)
			}
			if l := a.header.Get("Location"); l != "" && !strings.HasPrefix(l, "/v2/") {
				t.Errorf("%.60s: Location %s", request, l)
			}
		}
	}
}
