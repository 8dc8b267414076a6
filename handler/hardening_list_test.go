package handler_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Attacks by lists that have no end.

// Ten thousand manifests refer to one image, so that whoever verifies that image
// gets a list that no client reads, or misses the one signature that counts.
func TestReferrersFlood(t *testing.T) {
	t.Parallel()
	const count, longest = 10_000, 4 << 20 // bytes of a page: what clients accept as a manifest
	c, r := floodedWith(t, count)
	seen := make(map[digest.Digest]bool)
	pages := 0
	for next := "/v2/a/referrers/" + r.String(); next != ""; pages++ {
		got := c.run(exchange{method: "GET", target: next, status: 200, want: []string{"Content-Type", index}})
		if len(got.body) > longest {
			t.Fatalf("a page of %d bytes", len(got.body))
		}
		var page struct{ Manifests []oci.Descriptor }
		if err := json.Unmarshal([]byte(got.body), &page); err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Manifests {
			if seen[m.Digest] {
				t.Fatalf("%s is listed twice", m.Digest)
			}
			seen[m.Digest] = true
		}
		next = nextOf(got.header.Get("Link"))
	}
	if len(seen) != count || pages < 2 {
		t.Fatalf("%d referrers on %d pages, want %d", len(seen), pages, count)
	}
	got := c.run(exchange{method: "GET", target: "/v2/a/referrers/" + r.String() + "?artifactType=application/vnd.example.sig", status: 200, want: []string{"Oci-Filters-Applied", "artifactType", "Link", ""}})
	if n := strings.Count(got.body, `"digest"`); n != 1 {
		t.Fatalf("%d of the type that counts, want the one", n)
	}
}

// floodedWith is a registry in whose repository a so many manifests refer to one.
func floodedWith(t *testing.T, count int) (c *client, to digest.Digest) {
	t.Helper()
	c = newClient(t, handler.Options{Store: newHookedStore(t, func(r storage.Repository) storage.Repository { return r })})
	to = digest.FromString("the image")
	c.pushManifest("a", "", index, referrerTo(to, "application/vnd.example.sig", "sig"))
	for i := 1; i < count; i++ {
		c.pushManifest("a", "", index, referrerTo(to, "application/vnd.example.spam", fmt.Sprint(i, strings.Repeat(" spam", 100))))
	}
	return c, to
}

func referrerTo(d digest.Digest, artifactType, note string) string {
	return `{"schemaVersion":2,"artifactType":"` + artifactType + `","manifests":[],"annotations":{"note":"` + note +
		`"},"subject":{"mediaType":"` + img + `","digest":"` + d.String() + `","size":1}}`
}

// nextOf is the target of a Link to the next page, or empty.
func nextOf(link string) string {
	target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	return target
}

// A page of no entries links to itself, one of a negative number of entries ends
// nowhere, and one of too many takes the memory for them.
func TestPageSizes(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	for _, v := range []string{"v1", "v2", "v3"} {
		c.pushManifest("a", v, index, indexOf(nil))
	}
	all := `{"name":"a","tags":["v1","v2","v3"]}`
	for n, want := range map[string]string{
		"": all, "0": `{"name":"a","tags":[]}`, "3": all, "4": all, "2147483647": all, "0000000000000001": `{"name":"a","tags":["v1"]}`,
	} {
		for _, list := range []string{"/v2/a/tags/list?n=", "/v2/_catalog?n=", "/v2/a/referrers/" + plainD.String() + "?n="} {
			x := exchange{method: "GET", target: list + n, status: 200}
			if strings.Contains(list, "tags") {
				x.is = want
			}
			if n == "0" {
				x.want = []string{"Link", ""}
			}
			c.run(x)
		}
	}
	for _, n := range []string{"-1", "-0", "2147483648", "4294967296", "18446744073709551616", strings.Repeat("9", 10_000), "1e3", "0x10", "1_000", "%201", "1%00", "٣"} {
		for _, list := range []string{"/v2/a/tags/list?n=", "/v2/_catalog?n=", "/v2/a/referrers/" + plainD.String() + "?n="} {
			c.run(exchange{method: "GET", target: list + n, status: 400, code: oci.Unsupported})
		}
	}
	for _, last := range []string{"-", ".", "%2e%2e", "a%2Fb%2F", "v1%0a", strings.Repeat("v", 129)} {
		c.run(exchange{method: "GET", target: "/v2/a/tags/list?last=" + last, status: 400, code: oci.Unsupported})
	}
}

// Manifests name each other, or themselves, without end. (A digest can't be in
// what it is of, so a ring of subjects is what there can be: they need not exist.)
func TestReferrersOfReferrers(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	d := digest.FromString("the beginning")
	for i := range 500 {
		d = c.pushManifest("a", "", index, referrerTo(d, "a/b", fmt.Sprint(i)))
	}
	c.run(exchange{method: "GET", target: "/v2/a/referrers/" + digest.FromString("the beginning").String(), status: 200})
	var inner []string
	for i := range 500 { // and indexes in indexes
		raw := indexOf(inner, fmt.Sprintf(`"annotations":{"depth":"%d"}`, i))
		c.pushManifest("a", "deep", index, raw)
		inner = []string{raw}
	}
	c.run(exchange{method: "GET", target: manifestPath("a", digest.FromString(inner[0]).String()), status: 200})
	c.run(exchange{method: "DELETE", target: manifestPath("a", digest.FromString(inner[0]).String()), status: 202})
}
