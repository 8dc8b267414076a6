//go:build real

package clients

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

func TestBuildah(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	b := tool.Buildah(t)
	container := strings.TrimSpace(b.Run("from", "scratch"))
	for _, layer := range []string{"first", "second", "third"} {
		file := writeFile(t, b.Dir, layer, strings.Repeat(layer+"\n", 10_000))
		b.Run("copy", "--quiet", container, file, "/srv/"+layer)
		b.Run("config", "--entrypoint", `["/srv/first"]`, container)
		b.Run("commit", "--quiet", container, "app:"+layer)
		// A container of the image adds a layer to it.
		b.Run("rm", container)
		container = strings.TrimSpace(b.Run("from", "--pull-never", "localhost/app:"+layer))
	}
	id := strings.TrimSpace(b.Run("images", "--quiet", "--no-trunc", "localhost/app:third"))

	said := filepath.Join(b.Dir, "digest")
	b.Run("push", "--quiet", "--tls-verify=false", "--digestfile", said, "localhost/app:third", "docker://"+srv.Ref("buildah/app", "v1"))
	desc, err := srv.Repository("buildah/app").Verify(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if want := readDigest(t, said); desc.Digest != want {
		t.Fatalf("buildah pushed %s, the registry has %s", want, desc.Digest)
	}

	b.Run("rm", "--all")
	b.Run("rmi", "--all", "--force")
	pulled := strings.TrimSpace(b.Run("pull", "--quiet", "--tls-verify=false", "docker://"+srv.Ref("buildah/app", "v1")))
	if "sha256:"+pulled != id {
		t.Fatalf("pulled the image %s, want %s", pulled, id)
	}
	container = strings.TrimSpace(b.Run("from", "--tls-verify=false", "docker://"+srv.Ref("buildah/app", desc.Digest.String())))
	mounted := strings.TrimSpace(b.Run("mount", container))
	sameFile(t, filepath.Join(mounted, "srv/second"), filepath.Join(b.Dir, "second"))
	b.Run("umount", container)
}
