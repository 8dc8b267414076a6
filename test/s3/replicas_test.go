//go:build real

package s3_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const replica = `{
	admin ADMIN
	persist_config off
}
http://HOST {
	bind 127.0.0.1
	oci_registry {
		storage s3 {
			bucket registry
			endpoint %s
			prefix %s
			path_style
			access_key %s
			secret_key %s
		}
		anonymous all
		health /health
	}
}
`

// Several Caddys serve one bucket: what is pushed to one is pulled from all, each
// request of an upload may go to another one, and one that is killed takes
// nothing along.
func replicas(t *testing.T, minio *store) {
	config := fmt.Sprintf(replica, minio.endpoint, minio.prefix(), tool.MinIOKey, tool.MinIOSecret)
	servers := make([]*registry.Server, 3)
	for i := range servers {
		servers[i] = registry.Config(t, config)
		servers[i].Await("/health/readyz")
	}
	pushes := tool.Sized(24, 500)
	images := make([]*image.Content, pushes)
	var pushing sync.WaitGroup
	errs := make([]error, pushes)
	turns := make(chan struct{}, 8)
	for i := range pushes {
		images[i] = image.Random(uint64(i), 2, 20_000)
		turns <- struct{}{}
		pushing.Go(func() {
			defer func() { <-turns }()
			at := servers[i%2] // the third one is going to be killed
			errs[i] = at.Repository("team/app").Push(t.Context(), images[i], fmt.Sprint("v", i))
		})
		if i == pushes/2 {
			servers[2].Push(images[0], "team/other", "v1")
			servers[2].Kill()
		}
	}
	pushing.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
	}
	for i, want := range images {
		servers[(i+1)%2].Check("team/app", fmt.Sprint("v", i), want)
	}
	servers[0].Check("team/other", "v1", images[0])
	roundRobin(t, servers[:2])
}

// roundRobin sends each request of an upload to the next server.
func roundRobin(t *testing.T, servers []*registry.Server) {
	t.Helper()
	n := 0
	do := func(method, path string, body []byte, headers ...string) http.Header {
		t.Helper()
		n++
		resp, err := servers[n%len(servers)].Do(t.Context(), method, path, strings.NewReader(string(body)), headers...)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp.Header
	}
	content := image.Bytes(1, 40<<20)
	at := do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil).Get("Location")
	for from := 0; from < len(content); from += 9 << 20 {
		to := min(from+9<<20, len(content))
		at = do(http.MethodPatch, at, content[from:to],
			"Content-Range", fmt.Sprintf("%d-%d", from, to-1), "Content-Type", "application/octet-stream").Get("Location")
	}
	d := digest.FromBytes(content)
	do(http.MethodPut, at+"?digest="+url.QueryEscape(d.String()), nil)
	if got := do(http.MethodHead, "/v2/team/app/blobs/"+d.String(), nil).Get("Content-Length"); got != strconv.Itoa(len(content)) {
		t.Fatalf("the blob has %s bytes", got)
	}
}
