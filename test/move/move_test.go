//go:build real

// Package move moves registries from one store to another with the real program,
// and in and out of files that other tools write and read.
package move

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
	"github.com/caddy-oci/oci-registry/test/tree"
)

// What is moved: an image in several repositories, one for two platforms, one that
// no tag names any more, and a large blob.
var (
	large = image.Large()
	arm   = image.Random(1, 2, 1<<10)
	multi = image.Index(image.Random(2, 3, 64<<10), arm)
	old   = image.Random(3, 1, 1<<10)
	huge  = image.Random(4, 1, tool.Sized(40<<20, 1<<30)) // several parts
)

func push(srv *registry.Server) {
	srv.Push(large, "team/app", "v1")
	srv.Push(large, "team/copy", "latest")
	srv.Push(old, "team/app", "v2")
	srv.Push(multi, "team/app", "v2")
	srv.Push(multi, "multi", "v1")
	srv.Push(huge, "huge", "v1")
}

func check(srv *registry.Server) {
	srv.Check("team/app", "v1", large)
	srv.Check("team/copy", "latest", large)
	srv.Check("team/app", "v2", multi)
	srv.Check("team/app", old.Digest.String(), old)
	srv.Check("multi", "v1", multi)
	srv.Check("multi", arm.Digest.String(), arm)
	srv.Check("huge", "v1", huge)
}

// program is Caddy that finds the keys of a bucket.
func program(t *testing.T, b *bucket) *tool.Tool {
	t.Helper()
	c := registry.Program(t)
	c.Env = append(c.Env, b.env()...)
	return c
}

func storeURL(scheme, endpoint, prefix string) string {
	return fmt.Sprintf("%s://%s/%s?region=us-east-1&path_style=true&endpoint=%s", scheme, bucketName, prefix, url.QueryEscape(endpoint))
}

// TestDiskToBucketAndBack moves a registry that is running, serves it from the
// bucket, and moves it back: byte for byte the same.
func TestDiskToBucketAndBack(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	caddy := program(t, b)
	srv := registry.Start(t)
	push(srv)
	at := storeURL("s3", b.endpoint, "main")
	caddy.Run("oci-registry", "copy", "--from", srv.Root, "--to", at)
	inBucket := registry.Configure(t, program(t, b), `{
	admin ADMIN
	persist_config off
}
http://HOST {
	oci_registry {
		storage s3 {
			bucket `+bucketName+`
			prefix main
			region us-east-1
			endpoint `+b.endpoint+`
			path_style
		}
	}
}`)
	check(inBucket)

	back := filepath.Join(t.TempDir(), "back")
	caddy.Run("oci-registry", "copy", "--from", at, "--to", back)
	if was, is := blobs(t, srv.Root), blobs(t, back); !maps.Equal(was, is) {
		t.Errorf("the blobs were %v, and are %v", was, is)
	}
	for _, store := range []string{srv.Root, at, back} {
		caddy.Run("oci-registry", "check", "--store", store)
	}
	check(registry.Serve(t, back))

	_, err := caddy.Try("oci-registry", "copy", "--from", at, "--to", srv.Root)
	if err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("into a running registry: %v", err)
	}
}

// blobs are the blobs in a root, and what their bytes are.
func blobs(t *testing.T, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for path, file := range tree.Read(t, root) {
		if !strings.HasPrefix(path, "_") && strings.Contains(path, "/blobs/sha256/") {
			all[path] = fmt.Sprintf("%x", file.Content)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no blobs in %s", root)
	}
	return all
}

// holding is a proxy before a store that holds back what comes after some writes
// of content.
type holding struct {
	*httptest.Server

	writes atomic.Int64
	held   chan struct{} // closed once something is held back
}

func newHolding(t *testing.T, endpoint string, after int64) *holding {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	h := &holding{held: make(chan struct{})}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it's signed
	}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/data/") {
			if n := h.writes.Add(1); n > after {
				if n == after+1 {
					close(h.held)
				}
				_, _ = io.Copy(io.Discard, r.Body) // or it isn't noticed that the client goes
				<-r.Context().Done()
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

// TestCopyGoesOn kills a copy, and starts it again: what is there isn't sent again.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	srv := registry.Start(t)
	images := make([]*image.Content, 12)
	for i := range images {
		images[i] = image.Random(uint64(100+i), 2, 64<<10)
		srv.Push(images[i], fmt.Sprint("r", i), "v1")
	}
	const before = 9
	slow := newHolding(t, b.endpoint, before)
	killed := program(t, b).Start("oci-registry", "copy", "--parallel", "1", "--from", srv.Root, "--to", storeURL("s3", slow.URL, ""))
	<-slow.held
	killed.Kill()

	again := newHolding(t, b.endpoint, 1<<30)
	caddy := program(t, b)
	copyAgain := func() int64 {
		was := again.writes.Load()
		caddy.Run("oci-registry", "copy", "--from", srv.Root, "--to", storeURL("s3", again.URL, ""))
		return again.writes.Load() - was
	}
	all := int64(2 * len(images)) // configs are small enough for the record
	if n := copyAgain(); n > all-before+2 || n == 0 {
		t.Errorf("%d blobs were sent again, of %d, and %d were there", n, all, before)
	}
	if n := copyAgain(); n != 0 {
		t.Errorf("%d blobs were sent again, and all were there", n)
	}
	to := filepath.Join(t.TempDir(), "new")
	caddy.Run("oci-registry", "copy", "--from", storeURL("s3", b.endpoint, ""), "--to", to)
	served := registry.Serve(t, to)
	for i, img := range images {
		served.Check(fmt.Sprint("r", i), "v1", img)
	}
}

// TestZotBucket takes everything out of a zot's bucket.
func TestZotBucket(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	from := filepath.Join(tool.Root(t), "test/testdata/foreign/zot")
	b.putZot("zot/zot/", from)
	to := filepath.Join(t.TempDir(), "new")
	program(t, b).Run("oci-registry", "copy", "--from", storeURL("zot+s3", b.endpoint, "zot/zot"), "--to", to)
	srv := registry.Serve(t, to)
	raw, err := os.ReadFile(filepath.Join(from, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Repository, Tag string
		Digest          digest.Digest
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, e := range all {
		if e.Digest == "" {
			continue
		}
		ref := e.Tag
		if ref == "" {
			ref = e.Digest.String()
		}
		desc, err := srv.Repository(e.Repository).Verify(t.Context(), ref)
		if err != nil || desc.Digest != e.Digest {
			t.Errorf("%s:%s is %s, %v; want %s", e.Repository, ref, desc.Digest, err, e.Digest)
		}
		checked++
	}
	if checked < 5 {
		t.Errorf("only %d were checked", checked)
	}
}
