package handler_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

func TestManifest(t *testing.T) {
	t.Parallel()
	tag := func(raw string) string { return `"` + digest.FromString(raw).String() + `"` }
	other := imageOf(`"annotations":{"note":"other"}`)
	otherD := digest.FromString(other)
	put := func(ref, raw string, status int, code oci.Code, header ...string) exchange {
		return exchange{method: "PUT", target: manifestPath("a/b", ref), body: raw, header: append([]string{"Content-Type", img}, header...), status: status, code: code}
	}
	v1Is := func(raw string) exchange {
		return exchange{method: "GET", target: manifestPath("a/b", "v1"), status: 200, is: raw}
	}
	for _, tc := range []struct {
		name  string
		steps []exchange
	}{
		{"a retag keeps the old digest pullable", []exchange{
			put("v1", other, 201, ""),
			v1Is(other),
			{method: "GET", target: manifestPath("a/b", plainD.String()), status: 200, is: plain},
		}},
		{"If-Match that holds", []exchange{put("v1", other, 201, "", "If-Match", tag(plain)), v1Is(other)}},
		{"If-Match that doesn't", []exchange{put("v1", other, 412, oci.Denied, "If-Match", tag(other)), v1Is(plain)}},
		{"If-Match is strong", []exchange{put("v1", other, 412, oci.Denied, "If-Match", "W/"+tag(plain)), v1Is(plain)}},
		{"If-Match * of what isn't there", []exchange{put("v2", other, 412, oci.Denied, "If-Match", "*")}},
		{"If-None-Match * of what is there", []exchange{put("v1", other, 412, oci.Denied, "If-None-Match", "*"), v1Is(plain)}},
		{"If-None-Match * of what isn't", []exchange{put("v2", other, 201, "", "If-None-Match", "*")}},
		{"If-None-Match of a weak tag", []exchange{put("v1", other, 412, oci.Denied, "If-None-Match", "W/"+tag(plain)), v1Is(plain)}},
		{"a condition that can't be read", []exchange{put("v1", other, 400, oci.Unsupported, "If-Match", "latest"), v1Is(plain)}},
		{"an ETag to go on with", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v1"), body: other, header: ctImage, status: 201, want: []string{"Etag", tag(other)}},
		}},
		{"a condition on DELETE isn't ignored", []exchange{
			{method: "DELETE", target: manifestPath("a/b", "v1"), header: []string{"If-Match", tag(other)}, status: 400, code: oci.Unsupported},
			v1Is(plain),
		}},

		{"tags are all or none: one fails its condition", []exchange{
			put(otherD.String()+"?tag=v0&tag=v1", other, 412, oci.Denied, "If-None-Match", "*"),
			{method: "GET", target: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":["v1"]}`},
			v1Is(plain),
		}},
		{"tags are all or none: one isn't a tag", []exchange{
			put(otherD.String()+"?tag=v0&tag=.", other, 400, oci.ManifestInvalid),
			{method: "GET", target: "/v2/a/b/tags/list", status: 200, is: `{"name":"a/b","tags":["v1"]}`},
			{method: "GET", target: manifestPath("a/b", otherD.String()), status: 404, code: oci.ManifestUnknown},
		}},
		{"tags of a tag", []exchange{put("v2?tag=v3", other, 400, oci.Unsupported)}},

		{"not JSON", []exchange{put("v1", "{", 400, oci.ManifestInvalid), v1Is(plain)}},
		{"nothing", []exchange{put("v1", "", 400, oci.ManifestInvalid), v1Is(plain)}},
		{"not an object", []exchange{put("v1", `["a"]`, 400, oci.ManifestInvalid)}},
		{"nested too deep", []exchange{put("v1", strings.Repeat(`{"a":`, 100_000), 400, oci.ManifestInvalid)}},
		{"another media type than it says", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v1"), body: other, header: []string{"Content-Type", index}, status: 400, code: oci.ManifestInvalid},
		}},
		{"a malformed media type", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v1"), body: other, header: []string{"Content-Type", ";"}, status: 400, code: oci.ManifestInvalid},
		}},
		{"no media type but its own", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v2"), body: other, status: 201},
			{method: "GET", target: manifestPath("a/b", "v2"), status: 200, want: []string{"Content-Type", img}},
		}},
		{"no media type at all", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v2"), body: `{"layers":[]}`, status: 400, code: oci.ManifestInvalid},
		}},
		{"docker's types", []exchange{
			{
				method: "PUT", target: manifestPath("a/b", "docker"),
				body:   strings.Replace(other, img, oci.MediaTypeDockerManifest, 1),
				header: []string{"Content-Type", oci.MediaTypeDockerManifest}, status: 201,
			},
			{method: "HEAD", target: manifestPath("a/b", "docker"), status: 200, want: []string{"Content-Type", oci.MediaTypeDockerManifest}},
		}},
		{"layers that lie elsewhere need not be here", []exchange{
			put("v2", strings.Replace(imageOf(), `"layers":[`, `"layers":[`+descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "elsewhere")+`,`, 1), 201, ""),
		}},
		{"children of an index may be absent", []exchange{
			{method: "PUT", target: manifestPath("a/b", "v2"), body: indexOf([]string{"absent"}), header: []string{"Content-Type", index}, status: 201},
		}},
	} {
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

func TestSparse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		sparse       storage.Sparse
		image, index int
	}{
		{"", 404, 201},
		{storage.SparseNone, 404, 404},
		{storage.SparseIndexes, 404, 201},
		{storage.SparseAll, 201, 201},
	} {
		c := newClient(t, handler.Options{Sparse: tc.sparse})
		for raw, want := range map[string]int{imageOf(): tc.image, indexOf([]string{"absent"}): tc.index} {
			if got := c.send("PUT", manifestPath("a", "v1"), raw); got.status != want {
				t.Errorf("sparse %q: %d, want %d: %s", tc.sparse, got.status, want, got.body)
			}
		}
	}
}

func TestMaxManifestSize(t *testing.T) {
	t.Parallel()
	raw := `{"mediaType":"x/y"}`
	c := newClient(t, handler.Options{MaxManifestSize: int64(len(raw))})
	for _, header := range [][]string{nil, {"Transfer-Encoding", "chunked"}} {
		c.run(exchange{method: "PUT", target: manifestPath("a", "fits"), body: raw, header: header, status: 201})
		c.run(exchange{method: "PUT", target: manifestPath("a", "big"), body: raw + " ", header: header, status: 413, code: oci.SizeInvalid})
	}
	c.run(exchange{method: "GET", target: "/v2/a/tags/list", status: 200, is: `{"name":"a","tags":["fits"]}`})
}

// TestManifestWithoutBytes: a manifest that went between its name and its
// content isn't there.
func TestManifestWithoutBytes(t *testing.T) {
	t.Parallel()
	store := newHookedStore(t, func(r storage.Repository) storage.Repository {
		return blobs{r, func(d digest.Digest) (*storage.Blob, error) { return nil, oci.Errorf(oci.BlobUnknown, "%s", d) }}
	})
	c := newClient(t, handler.Options{Store: store})
	c.pushImage("a", "")
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), status: 404, code: oci.ManifestUnknown, want: []string{"Etag", ""}})
}
