package ociregistry

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/opencontainers/go-digest"
)

// serveOnce has h answer a request outside of a server.
func serveOnce(t *testing.T, h *Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), rec, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	if err := h.ServeHTTP(rec, r, next); err != nil {
		t.Fatal(err)
	}
	return rec
}

const inMemory = "\toci_registry {\n\t\tstorage memory\n\t\tanonymous all\n\t}\n"

func TestOnlyOurPaths(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "\toci_registry {\n\t\tstorage memory\n\t\thealth /health\n\t}\n\trespond website 418\n")
	for path, want := range map[string]int{
		"/v2/":           200,
		"/v2":            200,
		"/v2/a/x":        404,
		"/health/livez":  200,
		"/health/rumour": 404,
		"/":              418,
		"/v2x":           418,
		"/v1/_ping":      418,
		"/healthy":       418,
		"/index.html":    418,
		"/v":             418,
	} {
		w.want(t, want, http.MethodGet, path, "")
	}
}

// TestManyRanges: podman asks for a thousand parts in one header.
func TestManyRanges(t *testing.T) {
	w := newWeb(t)
	ranges := "bytes=0-0" + strings.Repeat(", 1000000000000-1000000000001", 800)
	for site, want := range map[string]int{
		inMemory: http.StatusPartialContent, "\trespond website 418\n": http.StatusRequestHeaderFieldsTooLarge,
	} {
		w.run(t, "", site)
		path := "/v2/"
		if want == http.StatusPartialContent {
			if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
				t.Fatal(err)
			}
			path = "/v2/a/blobs/" + digest.FromString("layer").String()
		}
		w.want(t, want, http.MethodGet, path, "", "Range", ranges)
	}
	w.run(t, "servers {\nmax_header_size 17KB\n}", inMemory)
	w.want(t, http.StatusRequestHeaderFieldsTooLarge, http.MethodGet, "/v2/", "", "Range", ranges)
}

func TestAnonymousMayPull(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "\toci_registry {\n\t\tstorage memory\n\t}\n")
	a := w.want(t, http.StatusForbidden, http.MethodPost, "/v2/a/blobs/uploads/", "")
	if !strings.Contains(a.body, `"DENIED"`) || !strings.Contains(a.body, "anonymous all") {
		t.Fatalf("the refusal doesn't name the option that would allow it: %s", a.body)
	}
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/tags/list", "")
}

func TestAnonymousMayDoNothing(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "\toci_registry {\n\t\tstorage memory\n\t\tanonymous none\n\t}\n")
	w.want(t, http.StatusForbidden, http.MethodGet, "/v2/a/tags/list", "")
}

// alice is how a user signs in, and aliceHash is of her password.
const (
	alice     = "Basic YWxpY2U6c2VjcmV0" // alice:secret
	aliceHash = "$2a$04$RmShXd8s2Lp8w5jz7ApfI.FFc3/Bqyh7HP.suzhD.PMKZYbOCvB6K"
)

func TestUserOfAnEarlierHandlerMayPush(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "\tbasic_auth {\n\t\talice "+aliceHash+"\n\t}\n\toci_registry {\n\t\tstorage memory\n\t\tanonymous none\n\t}\n")
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "")
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
}

func TestReadOnly(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", inMemory)
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.run(t, "", strings.Replace(inMemory, "anonymous", "read_only\n\t\tanonymous", 1))
	w.want(t, http.StatusOK, http.MethodGet, "/v2/a/manifests/v1", "") // memory survives a reload
	w.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/v2/a/blobs/uploads/", "")
	w.want(t, http.StatusMethodNotAllowed, http.MethodDelete, "/v2/a/manifests/v1", "")
}

func TestLimits(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "\toci_registry {\n\t\tstorage memory\n\t\tanonymous all\n\t\tmax_manifest_size 1KiB\n\t\tmax_blob_size 2KiB\n\t}\n")
	if err := w.push(t.Context(), "a", "v1", strings.Repeat("x", 2<<10)); err != nil {
		t.Fatal(err)
	}
	if err := w.push(t.Context(), "a", "v1", strings.Repeat("x", 2<<10+1)); err == nil || !strings.Contains(err.Error(), "413") {
		t.Fatalf("a blob above the limit: %v", err)
	}
	w.want(t, http.StatusRequestEntityTooLarge, http.MethodPut, "/v2/a/manifests/v2", strings.Repeat(" ", 1<<10+1),
		"Content-Type", "application/vnd.oci.image.manifest.v1+json")
}

func TestFilesystem(t *testing.T) {
	w := newWeb(t)
	root := filepath.Join(t.TempDir(), "new", "registry")
	site := "\toci_registry {\n\t\troot " + root + "\n\t\tanonymous all\n\t}\n"
	w.run(t, "", site)
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.run(t, "", strings.Replace(site, "anonymous", "sync off\n\t\tanonymous", 1))
	if err := w.push(t.Context(), "a", "v2", "other layer"); err != nil {
		t.Fatal(err)
	}
	stop(t)
	w.run(t, "", site)
	if a := w.want(t, http.StatusOK, http.MethodGet, "/v2/a/tags/list", ""); !strings.Contains(a.body, `["v1","v2"]`) {
		t.Fatalf("after a restart the tags are %s", a.body)
	}
}

// Who is refused goes on sending until it sees the answer. It sees it each time:
// Caddy alone would reset the connection.
func TestRefusalReachesASendingClient(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", inMemory)
	for range 50 {
		a, err := w.do(t.Context(), http.MethodPatch, "/v2/a/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAAAAAA", endless{}, "Content-Type", "application/octet-stream")
		if err != nil || a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "BLOB_UPLOAD_UNKNOWN") {
			t.Fatalf("%v: %s", err, a.body)
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What docs/operations.md says keeps signed URLs out of the access log does, and
// without it they're there.
func TestAccessLogWithoutSignedURLs(t *testing.T) {
	for filter, want := range map[string]bool{"": true, "format filter {\nresp_headers>Location delete\n}\n": false} {
		w, access := newWeb(t), filepath.Join(t.TempDir(), "access.log")
		w.run(t, "", "log {\noutput file "+access+"\n"+filter+"}\nheader Location https://s3.example.com/data/X?X-Amz-Signature=secret\nrespond hello")
		w.want(t, http.StatusOK, http.MethodGet, "/v2/a/blobs/b", "")
		if err := caddy.Stop(); err != nil { // which closes the log
			t.Fatal(err)
		}
		line, err := os.ReadFile(access)
		if err != nil || !strings.Contains(string(line), "/v2/a/blobs/b") {
			t.Fatalf("the log has %s, %v", line, err)
		}
		if has := strings.Contains(string(line), "secret"); has != want {
			t.Errorf("with %q: the log has %s", filter, line)
		}
	}
}

// One line of the access log says what the request was about.
func TestAccessLog(t *testing.T) {
	w := newWeb(t)
	access := filepath.Join(t.TempDir(), "access.log")
	w.run(t, "", "\tlog {\n\t\toutput file "+access+"\n\t\tformat json\n\t}\n"+
		"\tlog_append tag {http.oci_registry.reference}\n"+inMemory)
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/some/image/manifests/v1", "")
	stop(t)
	line := only(t, readLog(t, access), "http.log.access")
	var got struct {
		OCI map[string]string
		Tag string
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"operation": "get-manifest", "repository": "some/image", "reference": "v1", "error": "NAME_UNKNOWN"}
	for k, v := range want {
		if got.OCI[k] != v {
			t.Errorf("oci.%s is %q, want %q", k, got.OCI[k], v)
		}
	}
	if got.Tag != "v1" {
		t.Errorf("{http.oci_registry.reference} is %q, want v1", got.Tag)
	}
	if t.Failed() {
		t.Log(line)
	}
}

// A fault of ours is told to the log, once, with the id that its request has
// there, and not to the client.
func TestServerErrorIsLoggedOnce(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "caddy.log")
	config := w.countedConfig(t, countedStorage{ID: rand.Text(), Broken: true})
	config = withJSON(t, config, fmt.Sprintf(`{"logs":{"default":{"writer":{"output":"file","filename":%q},"encoder":{"format":"json"}}}}`, file), "logging")
	config = withJSON(t, config, `{}`, "apps", "http", "servers", "srv0", "logs")
	load(t, config)
	a := w.want(t, http.StatusInternalServerError, http.MethodGet, "/v2/a/tags/list", "")
	if strings.Contains(a.body, "secret") {
		t.Fatalf("the client was told %s", a.body)
	}
	stop(t)
	lines := readLog(t, file)
	var ours, access struct{ UUID, Error string }
	for line, into := range map[string]*struct{ UUID, Error string }{
		only(t, lines, `"http.handlers.oci_registry"`): &ours,
		only(t, lines, "http.log.access"):              &access,
	} {
		if err := json.Unmarshal([]byte(line), into); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(strings.Join(lines, ""), "stacktrace") {
		t.Errorf("a stack was logged: %s", lines)
	}
	if ours.UUID == "" || ours.UUID != access.UUID || !strings.Contains(ours.Error, "secret detail") {
		t.Fatalf("logged %+v, the access log has %+v", ours, access)
	}
}

func readLog(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// only returns the one line with a word in it.
func only(t *testing.T, lines []string, word string) string {
	t.Helper()
	var found []string
	for _, line := range lines {
		if strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines with %s, want 1, in\n%s", len(found), word, strings.Join(lines, "\n"))
	}
	return found[0]
}
