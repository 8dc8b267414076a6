package handler_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/storage"
)

// elsewhere is content that a client may get from somewhere else.
type elsewhere struct {
	storage.Blob

	url string
	err error
}

func (e elsewhere) Redirect(context.Context) (string, error) { return e.url, e.err }

// newRedirecting returns a client of a registry whose blobs are elsewhere too.
func newRedirecting(t *testing.T, url string, err error) *client {
	t.Helper()
	store := newHookedStore(t, func(r storage.Repository) storage.Repository {
		return blobs{r, func(d digest.Digest) (*storage.Blob, error) {
			b, openErr := r.OpenBlob(t.Context(), d)
			if openErr != nil {
				return nil, openErr
			}
			return &storage.Blob{Descriptor: b.Descriptor, ReadSeekCloser: elsewhere{*b, url, err}}, nil
		}}
	})
	c := newClient(t, handler.Options{Store: store})
	c.pushBlob("a/b", layer)
	return c
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	const url = "https://store.example/data/x?signed=yes"
	tag := `"` + missing.String() + `"`
	for _, tc := range []struct {
		name     string
		method   string
		header   []string
		status   int
		followed bool
	}{
		{"all", "GET", nil, 307, true},
		{"one range", "GET", []string{"Range", "bytes=3-5"}, 307, true},
		{"the last bytes", "GET", []string{"Range", "bytes=-5"}, 307, true},
		{"credentials", "GET", []string{"Authorization", "Bearer x"}, 307, true},
		{"HEAD", "HEAD", nil, 200, false},
		{"two ranges", "GET", []string{"Range", "bytes=0-1,4-5"}, 206, false},
		{"two ranges that are one", "GET", []string{"Range", "bytes=0-3,2-5"}, 206, false},
		{"two headers", "GET", []string{"Range", "bytes=0-1", "Range", "bytes=4-5"}, 200, false},
		{"a range that isn't there", "GET", []string{"Range", "bytes=99-"}, 416, false},
		{"a malformed range", "GET", []string{"Range", "bytes=x"}, 200, false},
		{"another unit", "GET", []string{"Range", "lines=1-2"}, 200, false},
		{"it's there already", "GET", []string{"If-None-Match", "*"}, 304, false},
		{"something else is there", "GET", []string{"If-None-Match", tag}, 200, false},
		{"a condition that doesn't hold", "GET", []string{"If-Match", tag}, 412, false},
		{"the rest of something else", "GET", []string{"If-Range", tag, "Range", "bytes=3-5"}, 200, false},
		{"a date", "GET", []string{"If-Modified-Since", "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := newRedirecting(t, url, nil).send(tc.method, blobPath("a/b", layerDigest), "", tc.header...)
			if got.status != tc.status {
				t.Fatalf("%d %q, want %d", got.status, got.body, tc.status)
			}
			if location := got.header.Get("Location"); (location == url) != tc.followed {
				t.Errorf("sent to %q", location)
			}
			if tc.followed && (got.body != "" || got.header.Get("Cache-Control") != "no-store" ||
				got.header.Get("Docker-Content-Digest") != layerDigest.String()) {
				t.Errorf("body %q, header %v", got.body, got.header)
			}
		})
	}
}

// A store that finds the credentials of the registry beside the signature refuses
// both: who would take them along isn't sent there.
func TestNoRedirectWithCredentials(t *testing.T) {
	t.Parallel()
	for host, followed := range map[string]bool{
		"registry.example": false, "REGISTRY.example:9000": false, "s3.registry.example": false,
		"s3.example": true, "otherregistry.example": true, "example": true,
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			c := newRedirecting(t, "https://"+host+"/data/x", nil)
			for _, header := range [][]string{nil, {"Authorization", "Basic eDp5"}} {
				got := c.send("GET", "http://registry.example:5000"+blobPath("a/b", layerDigest), "", header...)
				if want := followed || header == nil; (got.status == 307) != want {
					t.Errorf("with %q: %d, want a redirect: %v", header, got.status, want)
				}
			}
		})
	}
}

// What can't be had elsewhere is served from here.
func TestNoRedirect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*client{
		"no URL":  newRedirecting(t, "", nil),
		"a fault": newRedirecting(t, "", errors.New("no credentials")),
	} {
		got := c.send("GET", blobPath("a/b", layerDigest), "")
		if got.status != 200 || got.body != layer || strings.Contains(got.header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d %q, %v", name, got.status, got.body, got.header)
		}
	}
}
