//go:build real

package clients

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
)

// TestRanges asks for as many parts of a layer as podman asks for at most, over
// both versions of HTTP, and compares each one.
func TestRanges(t *testing.T) {
	t.Parallel()
	for proto, start := range map[string]func(*testing.T) *registry.Server{
		"HTTP/1.1": func(t *testing.T) *registry.Server { return registry.Start(t) },
		"HTTP/2.0": func(t *testing.T) *registry.Server { return registry.HTTPS(t, "127.0.0.1", everybody) },
	} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			testRanges(t, start(t), proto)
		})
	}
}

func testRanges(t *testing.T, srv *registry.Server, proto string) {
	img := image.Random(1, 1, 4<<20)
	srv.Push(img, "app", "v1")
	layer := img.Blobs[0]
	const parts, every = 1024, 4000 // each is larger than the one before
	var ranges []string
	for i := range parts {
		ranges = append(ranges, fmt.Sprintf("%d-%d", i*every, i*every+i))
	}
	resp, err := srv.Do(t.Context(), http.MethodGet, "/v2/app/blobs/"+layer.Digest.String(), nil, "Range", "bytes="+strings.Join(ranges, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || resp.StatusCode != http.StatusPartialContent || resp.Proto != proto {
		t.Fatalf("%s %d %s (%v), want parts by %s", resp.Proto, resp.StatusCode, kind, err, proto)
	}
	body := multipart.NewReader(resp.Body, params["boundary"])
	for i := range parts {
		part, err := body.NextPart()
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		got, err := io.ReadAll(part)
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		want := fmt.Sprintf("bytes %s/%d", ranges[i], layer.Size)
		if said := part.Header.Get("Content-Range"); said != want || !bytes.Equal(got, layer.Bytes[i*every:i*every+i+1]) {
			t.Fatalf("part %d is %d bytes that are said to be %s, want %s", i, len(got), said, want)
		}
	}
	if _, err := body.NextPart(); err != io.EOF {
		t.Fatalf("after the last part: %v", err)
	}
}
