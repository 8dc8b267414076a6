//go:build real

// Package paths shows clients a registry whose repositories lie in several stores.
package paths

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// config is a registry on two disks and in a bucket. The first two %s are the
// folders, the third is the store's URL, the last what else there is.
const config = `{
	admin ADMIN
	persist_config off
	oci_registry {
		registry main {
			root %s
			anonymous all
			path team/hot {
				root %s
			}
			path archive {
				storage s3 {
					bucket registry
					region us-east-1
					endpoint %s
					path_style
				}
			}
			%s
		}
	}
}
http://HOST {
	oci_registry main
}`

// TestClients push, copy, list and pull, wherever content is, over reloads that
// take a path away and give it back.
func TestClients(t *testing.T) {
	t.Parallel()
	minio := tool.MinIO(t)
	tool.Bucket(t, minio, "registry")
	caddy := registry.Program(t)
	caddy.Env = append(caddy.Env, "AWS_ACCESS_KEY_ID="+tool.MinIOKey, "AWS_SECRET_ACCESS_KEY="+tool.MinIOSecret)
	rest, hot := t.TempDir(), t.TempDir()
	with := func(more string) string { return fmt.Sprintf(config, rest, hot, minio, more) }
	srv := registry.Configure(t, caddy, with(""))
	crane, skopeo := tool.Find(t, "crane"), tool.Find(t, "skopeo")

	large, small := image.Large(), image.Random(1, 2, 1<<10)
	crane.Run("push", string(large.WriteLayout(t, "v1")), srv.Ref("team/hot/app", "v1"))
	crane.Run("push", string(small.WriteLayout(t, "v1")), srv.Ref("team/app", "v1"))
	// These mount, which nobody can across stores: they send it then.
	crane.Run("copy", srv.Ref("team/hot/app", "v1"), srv.Ref("archive/app", "v1"))
	crane.Run("copy", srv.Ref("archive/app", "v1"), srv.Ref("hotel", "v1"))
	skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
		"docker://"+srv.Ref("hotel", "v1"), "docker://"+srv.Ref("team/hot", "v1"))
	names := []string{"archive/app", "hotel", "team/app", "team/hot", "team/hot/app"}
	check := func() {
		t.Helper()
		for _, n := range names {
			want := large
			if n == "team/app" {
				want = small
			}
			srv.Check(n, "v1", want)
		}
		if got := crane.Lines("catalog", srv.Host); !slices.Equal(got, names) {
			t.Errorf("the catalog is %q, want %q", got, names)
		}
	}
	check()
	for file, want := range map[string]bool{
		hot + "/team/hot/app/index.json": true, hot + "/team/hot/index.json": true, rest + "/team/app/index.json": true, rest + "/hotel/index.json": true,
		rest + "/team/hot/index.json": false, rest + "/archive/app/index.json": false,
	} {
		if _, err := os.Stat(filepath.FromSlash(file)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %t", file, err, want)
		}
	}

	wantPlaces(t, srv)
	if err := srv.Reload(strings.Replace(with(""), "path team/hot", "path elsewhere", 1)); err != nil {
		t.Fatal(err)
	}
	if got := crane.Lines("catalog", srv.Host); slices.Contains(got, "team/hot") {
		t.Errorf("the catalog is %q without the path", got)
	}
	if err := srv.Reload(with("max_blob_size 1GiB")); err != nil {
		t.Fatal(err)
	}
	check()
}

// wantPlaces looks at what the admin API says of where content is.
func wantPlaces(t *testing.T, srv *registry.Server) {
	t.Helper()
	resp, err := srv.Admin.Do(t.Context(), "GET", "/oci_registry/registries/main", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var said struct {
		Ready bool
		Paths []struct{ Path, Module string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || !said.Ready || fmt.Sprint(said.Paths) != "[{archive s3} {team/hot filesystem}]" {
		t.Errorf("the admin API says %+v, %v", said, err)
	}
}
