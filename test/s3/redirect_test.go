//go:build real

package s3_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// site is a Caddyfile of a registry in a prefix of the store at an endpoint, with
// further lines for its storage.
func (s *store) site(endpoint, prefix string, more ...string) string {
	return fmt.Sprintf(`{
	admin ADMIN
	persist_config off
}
http://HOST {
	bind 127.0.0.1
	log
	oci_registry {
		storage s3 {
			bucket registry
			region us-east-1
			endpoint %s
			prefix %s
			path_style
			access_key %s
			secret_key %s
			%s
		}
		anonymous all
		health /health
	}
}
`, endpoint, prefix, tool.MinIOKey, tool.MinIOSecret, strings.Join(more, "\n\t\t\t"))
}

// Real clients pull the blobs of an image from the store, by a name of its that
// only they use; the registry asks it for the tag, and sends next to nothing.
func redirects(t *testing.T, minio *store) {
	inside, outside := newProxy(t, minio.endpoint), newProxy(t, minio.endpoint)
	public := strings.Replace(outside.URL, "127.0.0.1", "localhost", 1) // another host than the registry's
	srv := registry.Config(t, minio.site(inside.URL, minio.prefix(), "redirect always", "redirect_life 5m", "public_endpoint "+public))
	srv.Await("/health/readyz")
	const layers, size = 10, 300_000
	want := image.Random(1, layers, size)
	srv.Push(want, "team/app", "v1")
	for client, pull := range pullers(t, srv, want) {
		t.Run(client, func(t *testing.T) {
			before := len(srv.Requests())
			var fetched map[string]int
			asked, calls, _ := inside.counted(func() {
				_, fetched, _ = outside.counted(func() { pull(t) })
			})
			var tags, redirected, sent int
			for _, r := range srv.Requests()[before:] {
				switch {
				case r.Operation == "get-manifest" && strings.HasSuffix(r.URI, "/v1"):
					tags++
				case r.Operation == "get-blob" && r.Status == http.StatusTemporaryRedirect:
					redirected++
				}
				sent += r.Size
			}
			t.Logf("the registry asks for %v and sends %d bytes of %d; the client fetches %v", calls, sent, layers*size, fetched)
			if redirected != layers || fetched["GetObject"] != layers {
				t.Errorf("%d of %d layers were redirected, and %d fetched", redirected, layers, fetched["GetObject"])
			}
			if asked > tags {
				t.Errorf("the registry asks %d times for %d lookups of a tag", asked, tags)
			}
			if sent > 20_000 { // manifests, the config, and answers without content
				t.Errorf("the registry sends %d bytes", sent)
			}
		})
	}
	ranges(t, srv, outside, want.Blobs[0])
}

// pullers pull an image by real clients.
func pullers(t *testing.T, srv *registry.Server, want *image.Content) map[string]func(t *testing.T) {
	t.Helper()
	podman := tool.Podman(t) // whose folder mustn't have a long name
	return map[string]func(t *testing.T){
		"crane": func(t *testing.T) {
			crane := tool.Find(t, "crane")
			pulled := filepath.Join(crane.Dir, "pulled")
			crane.Run("pull", "--format", "oci", srv.Ref("team/app", "v1"), pulled)
			image.Layout(pulled).Check(t, "", want)
		},
		"skopeo": func(t *testing.T) {
			pulled := image.Layout(t.TempDir())
			tool.Find(t, "skopeo").Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
				"docker://"+srv.Ref("team/app", "v1"), "oci:"+string(pulled)+":v1")
			pulled.Check(t, "v1", want)
		},
		"podman": func(*testing.T) {
			podman.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("team/app", "v1"))
		},
		"containerd": func(t *testing.T) {
			c := tool.Containerd(t)
			c.Run("images", "pull", "--plain-http", srv.Ref("team/app", "v1"))
			if _, err := image.Verify(t.Context(), image.Layout(filepath.Join(c.Dir, "content")), want.Descriptor); err != nil {
				t.Fatal(err)
			}
		},
		"docker": func(t *testing.T) { tool.Docker(t).Run("pull", srv.Ref("team/app", "v1")) },
	}
}

// ranges asks for parts of a blob: one comes from the store, several from here.
func ranges(t *testing.T, srv *registry.Server, outside *proxy, blob image.Part) {
	t.Helper()
	for wanted, fromStore := range map[string]int{"bytes=100-199": 1, "bytes=100-149,200-249": 0} {
		var status string
		_, fetched, _ := outside.counted(func() {
			resp, err := srv.Do(t.Context(), http.MethodGet, "/v2/team/app/blobs/"+blob.Digest.String(), nil, "Range", wanted)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			status = resp.Status
		})
		if status != "206 Partial Content" || fetched["GetObject"] != fromStore {
			t.Errorf("%s: %s, with %v of the store", wanted, status, fetched)
		}
	}
}

// Clients of a registry whose store fails every fifth request notice nothing.
func clientsOfAStoreThatFails(t *testing.T, minio *store) {
	p := newProxy(t, minio.endpoint)
	p.refused, p.lost, p.cut = 0.1, 0.05, 0.05
	srv := registry.Config(t, minio.site(p.URL, minio.prefix(), "part_size 5MiB", "retry_for 1m"))
	srv.Await("/health/readyz")
	large := image.New("amd64", image.RandomLayer(1, 12<<20), image.RandomLayer(2, 100_000), image.RandomLayer(3, 3000))
	crane, skopeo := tool.Find(t, "crane"), tool.Find(t, "skopeo")
	total, calls, _ := p.counted(func() {
		for i := range tool.Sized(4, 40) {
			tag := fmt.Sprint("v", i)
			small := image.Random(uint64(i), 5, 50_000)
			crane.Run("push", string(small.WriteLayout(t, tag)), srv.Ref("by/crane", tag))
			skopeo.Run("copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
				"oci:"+string(large.WriteLayout(t, tag))+":"+tag, "docker://"+srv.Ref("by/skopeo"+tag, tag))
			crane.Run("validate", "--remote", srv.Ref("by/skopeo"+tag, tag))
			pulled := image.Layout(t.TempDir())
			skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
				"docker://"+srv.Ref("by/crane", tag), "oci:"+string(pulled)+":"+tag)
			pulled.Check(t, tag, small)
		}
	})
	t.Logf("%d calls: %v", total, calls)
	for _, r := range srv.Requests() {
		if r.Operation != "" && r.Status >= 500 { // while it was probed it wasn't ready
			t.Errorf("%s %s was answered %d", r.Method, r.URI, r.Status)
		}
	}
}
