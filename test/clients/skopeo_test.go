//go:build real

package clients

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

func TestSkopeo(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	skopeo := tool.Find(t, "skopeo")
	ref := func(repository, ref string) string { return "docker://" + srv.Ref(repository, ref) }
	layout := func(l image.Layout, tag string) string { return "oci:" + string(l) + ":" + tag }
	push := []string{"copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"}
	pull := []string{"copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"}

	skopeo.Run(append(push, layout(large.WriteLayout(t, "v1"), "v1"), ref("skopeo/large", "v1"))...)
	srv.Check("skopeo/large", "v1", large)
	skopeo.Run(append(push, "--all", layout(multi.WriteLayout(t, "v1"), "v1"), ref("skopeo/multi", "v1"))...)
	srv.Check("skopeo/multi", "v1", multi)
	srv.Check("skopeo/multi", arm64.Digest.String(), arm64)

	for repository, want := range map[string]*image.Content{"skopeo/large": large, "skopeo/multi": multi} {
		pulled := image.Layout(t.TempDir())
		skopeo.Run(append(pull, "--all", ref(repository, "v1"), layout(pulled, "v1"))...)
		pulled.Check(t, "v1", want)
	}
	one := image.Layout(t.TempDir())
	skopeo.Run(append([]string{"--override-arch", "arm64"}, append(pull, ref("skopeo/multi", "v1"), layout(one, "arm"))...)...)
	one.Check(t, "arm", arm64)
	both := append(pull, "--dest-tls-verify=false", "--all")
	skopeo.Run(append(both, ref("skopeo/multi", multi.Digest.String()), ref("skopeo/copied", "v2"))...)
	srv.Check("skopeo/copied", "v2", multi)

	hash(t, skopeo.Run("inspect", "--tls-verify=false", "--raw", ref("skopeo/multi", "v1")), multi.Digest)
	var seen struct {
		Digest   digest.Digest
		Layers   []string
		RepoTags []string
	}
	decode(t, skopeo.Run("inspect", "--tls-verify=false", ref("skopeo/large", "v1")), &seen)
	if seen.Digest != large.Digest || len(seen.Layers) != 4 {
		t.Fatalf("inspected %+v, want %s with 4 layers", seen, large.Digest)
	}
	equal(t, seen.RepoTags, "v1")

	skopeo.Run("sync", "--all", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", srv.Host+"/skopeo/multi", skopeo.Dir+"/synced")
	skopeo.Run("sync", "--all", "--src", "dir", "--dest", "docker", "--dest-tls-verify=false", skopeo.Dir+"/synced", srv.Host+"/back")
	srv.Check("back/multi", "v1", multi)
	skopeo.Run("sync", "--all", "--src", "docker", "--dest", "docker", "--src-tls-verify=false", "--dest-tls-verify=false", srv.Host+"/skopeo/large", srv.Host+"/across")
	srv.Check("across/large", "v1", large)

	skopeo.Run(append(both, ref("skopeo/large", "v1"), ref("skopeo/copied", "v3"))...)
	var listed struct{ Tags []string }
	decode(t, skopeo.Run("list-tags", "--tls-verify=false", "docker://"+srv.Host+"/skopeo/copied"), &listed)
	equal(t, listed.Tags, "v2", "v3")
	skopeo.Run("delete", "--tls-verify=false", ref("skopeo/copied", "v2"))
	decode(t, skopeo.Run("list-tags", "--tls-verify=false", "docker://"+srv.Host+"/skopeo/copied"), &listed)
	equal(t, listed.Tags, "v3")
	srv.Check("skopeo/multi", "v1", multi)
}
