package handler_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
)

// Attacks by what is in a manifest.

// A manifest names a layer that isn't there in a key that one client reads and
// the registry doesn't: pulls of it fail, or get what was never checked.
func TestKeysThatHideContent(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("a", config)
	c.pushBlob("a", layer)
	there := descriptor("application/vnd.oci.image.layer.v1.tar", layer)
	gone := descriptor("application/vnd.oci.image.layer.v1.tar", "nobody pushed this")
	cfg := descriptor("application/vnd.oci.image.config.v1+json", config)
	for _, fields := range []string{
		`"config":` + cfg + `,"layers":[` + gone + `],"layers":[` + there + `]`,
		`"config":` + cfg + `,"layers":[` + gone + `],"Layers":[` + there + `]`,
		`"config":` + cfg + `,"layers":[` + there + `],"LAYERS":[` + gone + `]`,
		`"config":` + gone + `,"config":` + cfg + `,"layers":[]`,
		`"config":` + cfg + `,"layers":[` + strings.Replace(gone, `"digest"`, `"Digest":"`+layerDigest.String()+`","digest"`, 1) + `]`,
		`"config":` + cfg + `,"layers":[` + strings.Replace(gone, `{`, `{"digest":"`+layerDigest.String()+`",`, 1) + `]`,
	} {
		raw := `{"schemaVersion":2,"mediaType":"` + img + `",` + fields + `}`
		for _, ref := range []string{"v1", digest.FromString(raw).String()} {
			c.run(exchange{method: "PUT", target: manifestPath("a", ref), body: raw, header: ctImage, status: 400, code: oci.ManifestInvalid})
		}
	}
	c.run(exchange{method: "GET", target: "/v2/a/tags/list", status: 200, is: `{"name":"a","tags":[]}`})
}

// A manifest is an image to one client and an image index, or something old, to
// another (CVE-2021-41190).
func TestManifestOfTwoTypes(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("a", config)
	c.pushBlob("a", layer)
	for _, extra := range []string{`"manifests":[]`, `"fsLayers":[{"blobSum":"` + layerDigest.String() + `"}]`} {
		c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: imageOf(extra), header: ctImage, status: 400, code: oci.ManifestInvalid})
	}
	for _, extra := range []string{`"layers":[]`, `"config":` + descriptor("x/y", config)} {
		c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: indexOf(nil, extra), header: []string{"Content-Type", index}, status: 400, code: oci.ManifestInvalid})
	}
	for _, as := range []string{index, "application/vnd.docker.distribution.manifest.v2+json"} {
		c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: imageOf(), header: []string{"Content-Type", as}, status: 400, code: oci.ManifestInvalid})
	}
	old := strings.Replace(imageOf(), `"schemaVersion":2`, `"schemaVersion":1`, 1)
	c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: old, header: ctImage, status: 400, code: oci.ManifestInvalid})
}

// An image that no client can run fails whoever pulls it, and not who pushed it.
func TestImageWithoutConfig(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for _, mediaType := range []string{img, "application/vnd.docker.distribution.manifest.v2+json"} {
		for _, field := range []string{``, `,"config":null`} {
			c.run(exchange{
				method: "PUT", target: manifestPath("a", "v1"), header: []string{"Content-Type", mediaType}, status: 400, code: oci.ManifestInvalid,
				body: `{"schemaVersion":2,"mediaType":"` + mediaType + `","layers":[]` + field + `}`,
			})
		}
	}
}

// A descriptor carries other content than its digest is of, and a client that
// finds it there doesn't look at the digest.
func TestDataOfAnotherDigest(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("a", config)
	for data, status := range map[string]int{"e30=": 201, "e10=": 400, "e30K": 400} {
		raw := `{"schemaVersion":2,"mediaType":"` + img + `","layers":[],"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` +
			configDigest.String() + `","size":2,"data":"` + data + `"}}`
		c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: raw, header: ctImage, status: status, code: oneIf(status == 400, oci.ManifestInvalid)})
	}
}

// What real clients push that looks odd is none of these attacks.
func TestOddManifestsAreKept(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	c.pushBlob("a", config)
	c.pushBlob("a", layer)
	for _, m := range []struct{ mediaType, raw string }{
		{img, imageOf(`"subject":null`, `"annotations":null`, `"manifests":null`)},
		{img, strings.Replace(imageOf(), `"schemaVersion":2,`, ``, 1)},
		{img, `{"schemaVersion":2,"config":` + descriptor("application/vnd.oci.empty.v1+json", config) + `,"layers":null}`},
		{index, indexOf(nil, `"layers":null`, `"config":null`)},
		{index, `{"schemaVersion":2,"manifests":[` + descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer) + `,` + descriptor("application/vnd.buildkit.cacheconfig.v0", config) + `]}`},
		{"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}],"history":[{"v1Compatibility":"{}"}]}`},
		{"application/vnd.in-toto+json", `{"_type":"x","subject":[{"name":"a","digest":{"sha256":"b"}}],"predicate":{"Config":{},"config":{}}}`},
		{"application/vnd.x.pascal+json", `{"MediaType":"application/vnd.x.pascal+json","Subject":"x","Annotations":[1]}`},
	} {
		d := c.pushManifest("a", "v1", m.mediaType, m.raw)
		c.run(exchange{method: "GET", target: manifestPath("a", d.String()), status: 200, is: m.raw, want: []string{"Content-Type", m.mediaType}})
	}
}

// A manifest of the allowed size, but as deep or as wide as JSON can be, takes
// the server's memory.
func TestManifestBombs(t *testing.T) { //nolint:paralleltest // it measures the heap
	c := newClient(t, handler.Options{})
	c.pushBlob("a", config)
	c.pushBlob("a", layer)
	const most, times = 4 << 20, 64 // bytes; how many are allocated for one that is sent
	one := descriptor("", layer) + ","
	for _, tc := range []struct {
		name, field string
		status      int
	}{
		{"layers", `"x":[],"blobs":[` + strings.Repeat(one, most/len(one)-10) + descriptor("", layer) + `]`, 201},
		{"layers that aren't there", `"blobs":[` + strings.Repeat(descriptor("", "gone")+",", most/len(one)-10) + descriptor("", layer) + `]`, 404},
		{"annotations", `"annotations":{` + pairs(40_000) + `"z":""}`, 201},
		{"deep", `"x":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000), 400},
		{"deep objects", strings.Repeat(`"x":{`, 500_000) + strings.Repeat("}", 500_000), 400},
		{"as deep as may be", `"x":` + strings.Repeat("[", 9990) + strings.Repeat("]", 9990), 201},
		{"numbers", `"x":[` + strings.Repeat("0,", 2_000_000) + `0]`, 201},
		{"one number", `"x":` + strings.Repeat("9", 4_000_000), 201},
		{"one string", `"x":"` + strings.Repeat(`\u0000`, 600_000) + `"`, 201},
	} {
		raw := imageOf(tc.field)
		if len(raw) > most {
			t.Fatalf("%s: %d bytes", tc.name, len(raw))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := c.send("PUT", manifestPath("a", "v1"), raw, ctImage...)
		runtime.ReadMemStats(&after)
		if got.status != tc.status || len(got.body) > 64<<10 {
			t.Errorf("%s: status %d, want %d; a body of %d bytes", tc.name, got.status, tc.status, len(got.body))
		}
		if n := (after.TotalAlloc - before.TotalAlloc) / uint64(len(raw)); n > times && len(raw) > 1<<20 {
			t.Errorf("%s: %d bytes of memory for each one sent", tc.name, n)
		}
	}
}

// pairs are n annotations, with a comma behind each.
func pairs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"org.example.annotation-%06d":"%d",`, i, i)
	}
	return b.String()
}

// A compressed body of a few kilobytes becomes gigabytes: nothing that is sent
// is ever decompressed, whatever the header says of it.
func TestCompressionBomb(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{MaxBlobSize: 1 << 20})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(bomb.Bytes())
	encoded := []string{"Content-Encoding", "gzip"}
	c.run(exchange{method: "POST", target: uploads + "?digest=" + d.String(), body: bomb.String(), header: encoded, status: 201})
	c.run(exchange{
		method: "GET", target: blobPath("a/b", d), header: []string{"Accept-Encoding", "gzip"}, status: 200, is: bomb.String(),
		want: []string{"Content-Encoding", "", "Content-Length", fmt.Sprint(bomb.Len()), "Cache-Control", "private, max-age=31536000, immutable, no-transform"},
	})
	c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: bomb.String(), header: append(encoded, ctImage...), status: 400, code: oci.ManifestInvalid})

	var raw bytes.Buffer
	z = gzip.NewWriter(&raw)
	if _, err := io.WriteString(z, indexOf(nil)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	c.run(exchange{method: "PUT", target: manifestPath("a", "v1"), body: raw.String(), header: append(encoded, "Content-Type", index), status: 400, code: oci.ManifestInvalid})
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A push is tagged with more names than anybody needs, each of which is a write.
func TestManyTagsOfOnePush(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	raw := indexOf(nil)
	target := manifestPath("a", digest.FromString(raw).String()) + "?"
	for i := range 100 {
		target += fmt.Sprintf("tag=v%d&", i)
	}
	put := exchange{method: "PUT", target: target, body: raw, header: []string{"Content-Type", index}, status: 201}
	if got := c.run(put); len(got.header.Values("Oci-Tag")) != 100 {
		t.Fatalf("%d tags", len(got.header.Values("Oci-Tag")))
	}
	put.target += "tag=v100"
	put.status, put.code = http.StatusRequestURITooLong, oci.Unsupported
	c.run(put)
	put.target = manifestPath("a", digest.FromString(raw).String()) + "?" + strings.Repeat("tag="+strings.Repeat("x", 128)+"&", 1000)
	c.run(put)
	put.target = manifestPath("a", digest.FromString(raw).String()) + "?tag=ok&tag=.no"
	put.status, put.code = 400, oci.ManifestInvalid
	c.run(put)
	c.run(exchange{method: "GET", target: manifestPath("a", "ok"), status: 404, code: oci.ManifestUnknown})
}
