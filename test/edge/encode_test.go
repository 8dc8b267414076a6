//go:build real

package edge

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
)

// TestEncode puts a registry into sites that compress. What has a digest comes as
// it is, even where everything is to be compressed; lists may be compressed.
func TestEncode(t *testing.T) {
	t.Parallel()
	for name, encode := range map[string]string{
		"default":    "encode",
		"everything": "encode gzip zstd {\nminimum_length 1\nmatch {\nstatus 2xx\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := registry.Config(t, fmt.Sprintf(`{
				admin ADMIN
				persist_config off
			}
			http://HOST {
				bind 127.0.0.1
				%s
				header X-Site yes
				oci_registry {
					root %q
					anonymous all
				}
			}`, encode, t.TempDir()))
			text := bytes.Repeat([]byte("a line that compresses well\n"), 10_000)
			blob := image.Part{Descriptor: ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(text), Size: int64(len(text))}, Bytes: text}
			if err := srv.Repository("app").PushBlob(t.Context(), blob); err != nil {
				t.Fatal(err)
			}
			c := image.Random(1, 20, 1000)
			srv.Push(c, "app", "v1")
			manifest := c.Manifests[0]
			for _, accept := range []string{"gzip", "zstd", "br;q=1.0, gzip;q=0.8, zstd, *;q=0.1"} {
				unchanged(t, srv, "/v2/app/blobs/"+blob.Digest.String(), accept, blob)
				unchanged(t, srv, "/v2/app/manifests/v1", accept, manifest)
				unchanged(t, srv, "/v2/app/manifests/"+manifest.Digest.String(), accept, manifest)
			}

			small := image.Random(2, 1, 100)
			for i := range tags {
				srv.Push(small, "many", fmt.Sprintf("%d-of-many-tags-with-long-names", i))
			}
			compressed(t, srv)
		})
	}
}

const tags = 30

// unchanged fails the test unless content comes as it was pushed, all of it and a
// part, to a client that could have it compressed.
func unchanged(t *testing.T, srv *registry.Server, path, accept string, want image.Part) {
	t.Helper()
	for _, tc := range []struct {
		method, ranges string
		status         int
		body           []byte
		header         []string
	}{
		{http.MethodHead, "", http.StatusOK, nil, []string{"Content-Length", fmt.Sprint(want.Size)}},
		{http.MethodGet, "", http.StatusOK, want.Bytes, []string{"Content-Length", fmt.Sprint(want.Size)}},
		{http.MethodGet, "bytes=100-1099", http.StatusPartialContent, want.Bytes[100:1100], []string{"Content-Length", "1000", "Content-Range", fmt.Sprintf("bytes 100-1099/%d", want.Size)}},
	} {
		a, err := ask(t.Context(), &srv.Registry, tc.method, path, "Accept-Encoding", accept, "Range", tc.ranges)
		if err != nil {
			t.Fatal(err)
		}
		resumable := "bytes"
		if strings.Contains(path, "/manifests/") {
			resumable = ""
		}
		if err := a.check(tc.status, append(tc.header, "Content-Encoding", "", "Content-Type", want.MediaType, "X-Site", "yes",
			"Docker-Content-Digest", want.Digest.String(), "Etag", `"`+want.Digest.String()+`"`, "Accept-Ranges", resumable)...); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(a.body, tc.body) {
			t.Errorf("%s %s %s, with Accept-Encoding %s: got %d bytes that aren't those that were pushed", tc.method, path, tc.ranges, accept, len(a.body))
		}
	}
	a, err := ask(t.Context(), &srv.Registry, http.MethodGet, path, "Accept-Encoding", accept, "If-None-Match", `"`+want.Digest.String()+`"`)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.check(http.StatusNotModified); err != nil {
		t.Error(err)
	}
}

// compressed fails the test unless a list of tags comes compressed, and is the
// one that comes to who can't have it so.
func compressed(t *testing.T, srv *registry.Server) {
	t.Helper()
	const path = "/v2/many/tags/list"
	plain, err := ask(t.Context(), &srv.Registry, http.MethodGet, path, "Accept-Encoding", "identity")
	if err != nil {
		t.Fatal(err)
	}
	small, err := ask(t.Context(), &srv.Registry, http.MethodGet, path, "Accept-Encoding", "gzip")
	if err != nil {
		t.Fatal(err)
	}
	if err := small.check(http.StatusOK, "Content-Encoding", "gzip", "Vary", "Accept-Encoding"); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(small.body))
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Tags []string }
	if err := json.NewDecoder(z).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if len(list.Tags) != tags || strings.Count(string(plain.body), "-of-many-tags") != tags {
		t.Fatalf("%d tags are listed, want %d; plain: %s", len(list.Tags), tags, plain.body)
	}
}
