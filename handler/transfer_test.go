package handler_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// noise is n bytes that look the same nowhere.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b) // never fails
	return b
}

func TestConditions(t *testing.T) {
	t.Parallel()
	tag, other := `"`+layerDigest.String()+`"`, `"`+missing.String()+`"`
	for _, tc := range []struct {
		name   string
		header []string
		status int
		is     string
	}{
		{"If-None-Match", []string{"If-None-Match", tag}, 304, ""},
		{"If-None-Match of a list", []string{"If-None-Match", other + ", W/" + tag}, 304, ""},
		{"If-None-Match in two lines", []string{"If-None-Match", other, "If-None-Match", tag}, 304, ""},
		{"If-None-Match *", []string{"If-None-Match", "*"}, 304, ""},
		{"If-None-Match of something else", []string{"If-None-Match", other}, 200, layer},
		{"If-Match", []string{"If-Match", tag}, 200, layer},
		{"If-Match *", []string{"If-Match", "*"}, 200, layer},
		{"If-Match of something else", []string{"If-Match", other}, 412, ""},
		{"If-Match is strong", []string{"If-Match", "W/" + tag}, 412, ""},
		{"If-Match comes first", []string{"If-Match", other, "If-None-Match", tag}, 412, ""},
		{"If-None-Match before Range", []string{"If-None-Match", tag, "Range", "bytes=0-0"}, 304, ""},
		{"If-Range", []string{"If-Range", tag, "Range", "bytes=0-4"}, 206, "Hello"},
		{"If-Range of something else", []string{"If-Range", other, "Range", "bytes=0-4"}, 200, layer},
		{"If-Range is strong", []string{"If-Range", "W/" + tag, "Range", "bytes=0-4"}, 200, layer},
		{"If-Range with a date", []string{"If-Range", "Wed, 21 Oct 2015 07:28:00 GMT", "Range", "bytes=0-4"}, 200, layer},
		{"If-Range before an unsatisfiable Range", []string{"If-Range", other, "Range", "bytes=99-"}, 200, layer},
		{"a tag without quotes", []string{"If-None-Match", layerDigest.String()}, 400, ""},
		{"a tag without an end", []string{"If-Match", `"sha256:`}, 400, ""},
		{"an empty list", []string{"If-Match", ","}, 400, ""},
		{"Range in another unit", []string{"Range", "lines=1-2"}, 200, layer},
		{"malformed Range", []string{"Range", "bytes=x-"}, 200, layer},
		{"Range to the end", []string{"Range", "bytes=7-"}, 206, "registry!"},
		{"last bytes", []string{"Range", "bytes=-9"}, 206, "registry!"},
		{"Range beyond the end", []string{"Range", "bytes=16-"}, 416, ""},
		{"too many ranges", []string{"Range", "bytes=" + strings.Repeat("0-0,", 1025)}, 400, ""},
		{"a Range too long to read", []string{"Range", "bytes=" + strings.Repeat(",", 65<<10)}, 431, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, handler.Options{})
			c.pushBlob("a/b", layer)
			got := c.send("GET", blobPath("a/b", layerDigest), "", tc.header...)
			if got.status != tc.status || tc.is != "" && got.body != tc.is {
				t.Fatalf("%d %q, want %d %q", got.status, got.body, tc.status, tc.is)
			}
			switch got.status {
			case 304:
				if got.body != "" || got.header.Get("Etag") != tag {
					t.Fatalf("304 with body %q and ETag %s", got.body, got.header.Get("Etag"))
				}
			case 416:
				if cr := got.header.Get("Content-Range"); cr != "bytes */16" {
					t.Fatalf("Content-Range %q", cr)
				}
			}
		})
	}
}

func TestContentHeaders(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	raw, d := c.pushImage("a/b", "")
	tag := `"` + d.String() + `"`
	forever := "private, max-age=31536000, immutable, no-transform"
	for _, method := range []string{"GET", "HEAD"} {
		protection, noSniffing := "default-src 'none'; sandbox", "nosniff"
		if method == "HEAD" {
			protection, noSniffing = "", "" // of nothing
		}
		c.run(exchange{method: method, target: manifestPath("a/b", d.String()), status: 200, want: []string{
			"Cache-Control", forever, "Etag", tag, "Accept-Ranges", "", "Docker-Distribution-Api-Version", "",
			"Content-Security-Policy", protection, "X-Content-Type-Options", noSniffing,
		}})
		c.run(exchange{method: method, target: manifestPath("a/b", "v1"), status: 200, want: []string{
			"Cache-Control", "private, no-cache, no-transform", "Etag", tag,
		}})
		c.run(exchange{method: method, target: blobPath("a/b", layerDigest), status: 200, want: []string{
			"Cache-Control", forever, "Accept-Ranges", "bytes", "X-Content-Type-Options", noSniffing,
		}})
		c.run(exchange{method: method, target: blobPath("a/b", d), status: 200, want: []string{
			"Content-Type", "application/octet-stream", "Content-Length", strconv.Itoa(len(raw)),
		}})
		c.run(exchange{method: method, target: manifestPath("a/b", "v1"), header: []string{"If-None-Match", tag}, status: 304, want: []string{
			"Etag", tag, "Docker-Content-Digest", d.String(), "Content-Length", "", "Content-Type", "", "Content-Security-Policy", "",
		}})
		c.run(exchange{method: method, target: manifestPath("a/b", "v2"), status: 404, code: oneIf(method == "GET", oci.ManifestUnknown), want: []string{
			"Cache-Control", "no-store", "Etag", "", "Docker-Distribution-Api-Version", "registry/2.0",
		}})
	}
	// Ranges are for GET only.
	c.run(exchange{method: "HEAD", target: blobPath("a/b", layerDigest), header: []string{"Range", "bytes=0-0"}, status: 200, want: []string{
		"Content-Length", "16", "Content-Range", "",
	}})
}

func oneIf(is bool, code oci.Code) oci.Code {
	if is {
		return code
	}
	return ""
}

// fromRecorder notes what its ReadFrom is given.
type fromRecorder struct {
	*httptest.ResponseRecorder

	from []string
}

func (r *fromRecorder) ReadFrom(src io.Reader) (int64, error) {
	r.from = append(r.from, fmt.Sprintf("%T", src))
	return io.Copy(r.ResponseRecorder, src)
}

// TestSendfile: the server gets the bare file where the kernel can send it, and
// nothing else to read from anywhere.
func TestSendfile(t *testing.T) {
	t.Parallel()
	content := noise(600 << 10)
	store, d := newFileStore(t, content)
	c := newClient(t, handler.Options{Store: store})
	for _, tc := range []struct {
		name string
		edit func(*http.Request)
		want []byte
		file bool
	}{
		{"whole", func(*http.Request) {}, content, true},
		{"to the end", func(r *http.Request) { r.Header.Set("Range", "bytes=1000-") }, content[1000:], true},
		{"a short end", func(r *http.Request) { r.Header.Set("Range", "bytes=-1000") }, content[599<<10+24:], false},
		{"the middle", func(r *http.Request) { r.Header.Set("Range", "bytes=1000-399999") }, content[1000:400000], false},
		{"HTTP/2", func(r *http.Request) { r.ProtoMajor = 2 }, content, false},
		{"TLS", func(r *http.Request) { r.TLS = &tls.ConnectionState{HandshakeComplete: true} }, content, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRequest(t, "GET", blobPath("a", d), nil, 0)
			tc.edit(r)
			w := &fromRecorder{ResponseRecorder: httptest.NewRecorder()}
			c.h.ServeHTTP(w, r)
			if !bytes.Equal(w.Body.Bytes(), tc.want) || w.Header().Get("Content-Length") != strconv.Itoa(len(tc.want)) {
				t.Fatalf("%d bytes of content, Content-Length %s; want %d", w.Body.Len(), w.Header().Get("Content-Length"), len(tc.want))
			}
			if got := strings.Join(w.from, " "); got != map[bool]string{true: "*os.File"}[tc.file] {
				t.Fatalf("reads from %q", got)
			}
		})
	}
}

// TestOverTheNetwork: what the kernel sends ends where the response does, so
// that the connection goes on.
func TestOverTheNetwork(t *testing.T) {
	t.Parallel()
	content := noise(600 << 10)
	store, d := newFileStore(t, content)
	server := httptest.NewServer(newClient(t, handler.Options{Store: store}).h)
	t.Cleanup(server.Close)
	server.Client().Transport.(*http.Transport).MaxConnsPerHost = 1
	for header, want := range map[string][]byte{
		"":                   content,
		"bytes=1000-":        content[1000:],
		"bytes=1000-399999":  content[1000:400000],
		"bytes=0-0,599999-":  nil,
		"bytes=99999999999-": nil,
	} {
		r := newRequest(t, "GET", server.URL+blobPath("a", d), nil, 0)
		r.Header.Set("Range", header)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || want != nil && !bytes.Equal(got, want) {
			t.Fatalf("Range %q: %s, %d bytes, %v", header, resp.Status, len(got), err)
		}
	}
}

// TestMultipleRanges reads what a server sent with another reader than our own writer.
func TestMultipleRanges(t *testing.T) {
	t.Parallel()
	content := noise(1 << 20)
	store, d := newFileStore(t, content)
	server := httptest.NewServer(newClient(t, handler.Options{Store: store}).h)
	t.Cleanup(server.Close)

	manySmall := make([][2]int, 1024)
	for i := range manySmall {
		manySmall[i] = [2]int{i * 1000, i*1000 + 99}
	}
	for name, ranges := range map[string][][2]int{
		"two":                  {{0, 9}, {500000, 500009}},
		"backwards":            {{900000, 900099}, {0, 0}},
		"touching":             {{0, 99}, {100, 199}},
		"1024 of 100 bytes":    manySmall,
		"more than one buffer": {{0, 599999}, {600000, 1<<20 - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var header strings.Builder
			for _, r := range ranges {
				fmt.Fprintf(&header, ",%d-%d", r[0], r[1])
			}
			r := newRequest(t, "GET", server.URL+blobPath("a", d), nil, 0)
			r.Header.Set("Range", "bytes="+header.String()[1:])
			resp, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusPartialContent || resp.ContentLength != int64(len(body)) {
				t.Fatalf("%s, %d bytes of %d, %v", resp.Status, len(body), resp.ContentLength, err)
			}
			mediaType, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
			if err != nil || mediaType != "multipart/byteranges" {
				t.Fatalf("Content-Type %s, %v", resp.Header.Get("Content-Type"), err)
			}
			checkParts(t, multipart.NewReader(bytes.NewReader(body), params["boundary"]), content, ranges)
		})
	}
}

func checkParts(t *testing.T, parts *multipart.Reader, content []byte, ranges [][2]int) {
	t.Helper()
	for i, r := range ranges {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		got, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(got, content[r[0]:r[1]+1]) {
			t.Fatalf("part %d: %d bytes, %v; want %v", i, len(got), err, r)
		}
		if cr := p.Header.Get("Content-Range"); cr != fmt.Sprintf("bytes %d-%d/%d", r[0], r[1], len(content)) {
			t.Fatalf("part %d: Content-Range %s", i, cr)
		}
	}
	if p, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Fatalf("one part more: %v, %v", p, err)
	}
}

// short is a blob that has less than it says.
type short struct{ *bytes.Reader }

func (s short) Seek(offset int64, whence int) (int64, error) {
	n, err := s.Reader.Seek(offset, whence)
	if whence == io.SeekEnd {
		n += 100
	}
	return n, err
}

// TestShortContent: content that ends early isn't mistaken for whole.
func TestShortContent(t *testing.T) {
	t.Parallel()
	content := noise(1000)
	open := func() io.ReadSeeker { return short{bytes.NewReader(content)} }
	store := newHookedStore(t, func(r storage.Repository) storage.Repository {
		return oneBlob{r, oci.Descriptor{Digest: missing, Size: 1100}, open}
	})
	var events []handler.Event
	c := newClient(t, handler.Options{Store: store, Observe: func(_ *http.Request, e *handler.Event) { events = append(events, *e) }})
	for _, ranges := range []string{"", "bytes=500-", "bytes=0-9,990-1099"} {
		func() {
			defer func() {
				if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // a panic's value, not an error
					t.Errorf("Range %q: panic %v, want ErrAbortHandler", ranges, r)
				}
			}()
			c.send("GET", blobPath("a", missing), "", "Range", ranges)
		}()
	}
	if len(events) != 3 || events[0].Err == nil || events[0].Status != 200 {
		t.Fatalf("events %+v", events)
	}
}

// TestWrongSize: a file that isn't as long as its descriptor says is an error
// before anything is sent.
func TestWrongSize(t *testing.T) {
	t.Parallel()
	for _, says := range []int64{999, 1001} {
		open := func() io.ReadSeeker { return bytes.NewReader(noise(1000)) }
		store := newHookedStore(t, func(r storage.Repository) storage.Repository {
			return oneBlob{r, oci.Descriptor{Digest: missing, Size: says}, open}
		})
		c := newClient(t, handler.Options{Store: store})
		c.run(exchange{method: "GET", target: blobPath("a", missing), status: 500, want: []string{"Etag", "", "Cache-Control", "no-store"}})
	}
}

// TestHeadOpensNothing: a HEAD and a 304 of a manifest need no content.
func TestHeadOpensNothing(t *testing.T) {
	t.Parallel()
	opened := 0
	store := newHookedStore(t, func(r storage.Repository) storage.Repository {
		return blobs{r, func(d digest.Digest) (*storage.Blob, error) {
			opened++
			return r.OpenBlob(t.Context(), d)
		}}
	})
	c := newClient(t, handler.Options{Store: store})
	_, d := c.pushImage("a/b", "")
	opened = 0
	c.run(exchange{method: "HEAD", target: manifestPath("a/b", "v1"), status: 200})
	c.run(exchange{method: "HEAD", target: blobPath("a/b", layerDigest), status: 200})
	c.run(exchange{method: "GET", target: manifestPath("a/b", "v1"), header: []string{"If-None-Match", `"` + d.String() + `"`}, status: 304})
	if opened != 0 {
		t.Fatalf("opened %d times", opened)
	}
	c.run(exchange{method: "GET", target: manifestPath("a/b", "v1"), status: 200})
	if opened != 1 {
		t.Fatalf("opened %d times, want once", opened)
	}
}

// sink is a http.ResponseWriter that keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkHeadManifest(b *testing.B) { benchmark(b, "HEAD", manifestPath("a/b", "v1")) }
func BenchmarkGetManifest(b *testing.B)  { benchmark(b, "GET", manifestPath("a/b", "v1")) }
func BenchmarkHeadBlob(b *testing.B)     { benchmark(b, "HEAD", blobPath("a/b", layerDigest)) }

func benchmark(b *testing.B, method, target string) {
	c := newClient(b, handler.Options{})
	c.pushImage("a/b", "")
	r := newRequest(b, method, target, nil, 0)
	w := &sink{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		c.h.ServeHTTP(w, r)
	}
}

// TestAllocations holds what a HEAD of a manifest allocates: the request, and a
// value for each header.
func TestAllocations(t *testing.T) {
	c := newClient(t, handler.Options{})
	c.pushImage("a/b", "")
	r := newRequest(t, "HEAD", manifestPath("a/b", "v1"), nil, 0)
	w := &sink{http.Header{}}
	got := testing.AllocsPerRun(100, func() {
		clear(w.header)
		c.h.ServeHTTP(w, r)
	})
	if most := 5.0; got > most {
		t.Fatalf("%v allocations, want %v at most", got, most)
	}
}
