package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// next returns where a Link points to, or nothing.
func (r reply) next(t *testing.T) string {
	t.Helper()
	link := r.header.Get("Link")
	if link == "" {
		return ""
	}
	target, ok := strings.CutPrefix(link, "<")
	target, rest, ok2 := strings.Cut(target, ">")
	if !ok || !ok2 || rest != `; rel="next"` {
		t.Fatalf("Link %q", link)
	}
	return target
}

// TestCatalogPages follows the links through a catalog that has more
// repositories than a page, some of which the caller may not know of.
func TestCatalogPages(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
		if q.Want[0].Action == authz.List && strings.HasSuffix(q.Want[0].Repository.String(), "0") {
			return authz.Answer{}, oci.Denied
		}
		return authz.Answer{}, nil
	})})
	var want []string
	for i := range 2300 {
		name := fmt.Sprintf("r/%04d", i)
		c.pushBlob(name, "x")
		if i%10 != 0 {
			want = append(want, name)
		}
	}
	for _, tc := range []struct {
		target string
		pages  []int
	}{
		{"/v2/_catalog", []int{1000, 1000, 70}},
		{"/v2/_catalog?n=2000", []int{2000, 70}},
		{"/v2/_catalog?n=1035", []int{1035, 1035}},
		{"/v2/_catalog?n=1000000", []int{2070}},
	} {
		var got []string
		var pages []int
		for target := tc.target; target != ""; {
			r := c.run(exchange{method: "GET", target: target, status: 200})
			var list struct{ Repositories []string }
			if err := json.Unmarshal([]byte(r.body), &list); err != nil {
				t.Fatal(err)
			}
			got = append(got, list.Repositories...)
			pages = append(pages, len(list.Repositories))
			target = r.next(t)
		}
		if !slices.Equal(got, want) || !slices.Equal(pages, tc.pages) {
			t.Errorf("%s: %d names in pages of %v, want %d in %v", tc.target, len(got), pages, len(want), tc.pages)
		}
	}
}

// brokenCatalog is a Store whose list of repositories ends in an error.
type brokenCatalog struct{ storage.Store }

func (brokenCatalog) Repositories(context.Context, oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		_ = yield(mustName("a"), nil) && yield(oci.Name{}, errors.New("input/output error"))
	}
}

// TestBrokenCatalog: part of a catalog isn't taken for all of it, and a mount
// that can't look around goes on as an upload.
func TestBrokenCatalog(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{Store: brokenCatalog{newHookedStore(t, func(r storage.Repository) storage.Repository { return r })}})
	c.run(exchange{method: "GET", target: "/v2/_catalog", status: 500})
	c.run(exchange{method: "POST", target: uploads + "?mount=" + layerDigest.String(), status: 202})
}

// TestReferrersPages follows the links through lists of referrers that are cut
// by number and by size.
func TestReferrersPages(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	padding := strings.Repeat("x", 1<<20)
	var all, ofType []string
	for i := range 10 {
		raw := fmt.Sprintf(`{"mediaType":%q,"manifests":[],%s,"artifactType":"a/<%d>","annotations":{"p":"%d%s"}}`, index, subject(plain), i%2, i, padding)
		d := c.pushManifest("a", "", index, raw).String()
		all = append(all, d)
		if i%2 == 1 {
			ofType = append(ofType, d)
		}
	}
	slices.Sort(all)
	slices.Sort(ofType)
	base := "/v2/a/referrers/" + plainD.String()
	for _, tc := range []struct {
		target  string
		want    []string
		pages   []int
		filters string
	}{
		{base, all, []int{3, 3, 3, 1}, ""},
		{base + "?n=2", all, []int{2, 2, 2, 2, 2}, ""},
		{base + "?n=0", nil, []int{0}, ""},
		{base + "?artifactType=a/%3C1%3E", ofType, []int{3, 2}, "artifactType"},
		{base + "?artifactType=a/%3C1%3E&artifactType=a/%3C0%3E&n=1000", all, []int{3, 3, 3, 1}, "artifactType"},
		{base + "?artifactType=", nil, []int{0}, "artifactType"},
		{base + "?last=" + all[8], all[9:], []int{1}, ""},
	} {
		var got []string
		var pages []int
		for target := tc.target; target != ""; {
			r := c.run(exchange{method: "GET", target: target, status: 200, want: []string{"Content-Type", index, "Oci-Filters-Applied", tc.filters}})
			if len(r.body) > 4<<20 {
				t.Fatalf("%s: page of %d bytes", tc.target, len(r.body))
			}
			var list struct{ Manifests []oci.Descriptor }
			if err := json.Unmarshal([]byte(r.body), &list); err != nil {
				t.Fatal(err)
			}
			for _, desc := range list.Manifests {
				got = append(got, desc.Digest.String())
			}
			pages = append(pages, len(list.Manifests))
			target = r.next(t)
		}
		if !slices.Equal(got, tc.want) || !slices.Equal(pages, tc.pages) {
			t.Errorf("%s: %d referrers in pages of %v, want %d in %v", tc.target, len(got), pages, len(tc.want), tc.pages)
		}
	}
}

// TestReferrersAreAnIndex: each page of them is an image index, byte by byte as
// json.Marshal writes one of their descriptors.
func TestReferrersAreAnIndex(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	var all []oci.Descriptor
	for _, note := range []string{"plain", `\"\\`, "</script>&", `\u0000\t\u2028`, "é\U0001f4a9\x7f"} {
		raw := referrerTo(plainD, "a/<b>", note)
		m, err := oci.ParseManifest(index, []byte(raw), digest.Canonical)
		if err != nil {
			t.Fatal(err)
		}
		c.pushManifest("a", "", index, raw)
		all = append(all, m.Descriptor)
	}
	slices.SortFunc(all, func(a, b oci.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	base := "/v2/a/referrers/" + plainD.String()
	for target, want := range map[string][]oci.Descriptor{
		base: all, base + "?n=2": all[:2], base + "?last=" + all[3].Digest.String(): all[4:],
		base + "?n=0": {}, base + "?artifactType=a/b": {}, base + "?artifactType=a/%3Cb%3E": all,
	} {
		body, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: index, Manifests: want})
		if err != nil {
			t.Fatal(err)
		}
		c.run(exchange{method: "GET", target: target, status: 200, is: string(body), want: []string{"Content-Length", strconv.Itoa(len(body))}})
	}
}

// TestGreatTagList: all tags in one list, whatever their number.
func TestGreatTagList(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{})
	raw := indexOf(nil)
	d := digest.FromString(raw).String()
	for i := range 100 {
		c.run(exchange{method: "PUT", target: manifestPath("a", d) + strings.ReplaceAll(tagQuery(100), "=t", fmt.Sprintf("=t%d-", i)), body: raw, status: 201})
	}
	var list struct {
		Name string
		Tags []string
	}
	r := c.run(exchange{method: "GET", target: "/v2/a/tags/list", status: 200, want: []string{"Link", ""}})
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || list.Name != "a" || len(list.Tags) != 10_000 || !slices.IsSorted(list.Tags) {
		t.Fatalf("%s has %d tags, %v", list.Name, len(list.Tags), err)
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{Extensions: []handler.Extension{{Name: "_x", URL: "https://example.org/x", Endpoints: []string{"/v2/_x/ext/y"}}}})
	c.run(exchange{
		method: "GET", target: "/v2/_oci/ext/discover", status: 200,
		is: `{"extensions":[{"name":"_x","url":"https://example.org/x","endpoints":["/v2/_x/ext/y"]}]}`,
	})
}
