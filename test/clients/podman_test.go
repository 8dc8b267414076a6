//go:build real

package clients

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// podman unpacks what it pulls and packs it again to push it. So what it has
// pushed must be what it says it is, and the same image: the same config.
func TestPodman(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	podman := tool.Podman(t)
	srv.Push(large, "large", "v1")
	srv.Push(multi, "multi", "v1")
	config := large.Blobs[len(large.Blobs)-1].Digest

	id := strings.TrimSpace(podman.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("large", "v1")))
	if id != config.Encoded() {
		t.Fatalf("pulled the image %s, want %s", id, config.Encoded())
	}
	if got := digestOf(t, podman.Run("image", "inspect", "--format", "{{.Digest}}", id)); got != large.Digest {
		t.Fatalf("pulled %s, want %s", got, large.Digest)
	}
	podman.Run("pull", "--quiet", "--tls-verify=false", "--arch", "arm64", srv.Ref("multi", "v1"))

	said := filepath.Join(podman.Dir, "digest")
	for _, format := range []string{"oci", "v2s2"} {
		podman.Run("push", "--quiet", "--tls-verify=false", "--format", format, "--digestfile", said, id, srv.Ref("podman/"+format, "v1"))
		desc, err := srv.Repository("podman/"+format).Verify(t.Context(), "v1")
		if err != nil {
			t.Fatal(err)
		}
		if want := readDigest(t, said); desc.Digest != want {
			t.Fatalf("podman pushed %s, the registry has %s", want, desc.Digest)
		}
		podman.Run("rmi", "--all", "--force")
		again := strings.TrimSpace(podman.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("podman/"+format, "v1")))
		if again != id && format == "oci" {
			t.Fatalf("pulled the image %s, want %s", again, id)
		}
		podman.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("large", large.Digest.String()))
	}

	podman.Run("manifest", "create", "list")
	podman.Run("manifest", "add", "--tls-verify=false", "--all", "list", "docker://"+srv.Ref("multi", "v1"))
	podman.Run("manifest", "push", "--quiet", "--all", "--tls-verify=false", "--digestfile", said, "list", "docker://"+srv.Ref("podman/list", "v1"))
	desc, err := srv.Repository("podman/list").Verify(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if want := readDigest(t, said); desc.Digest != want {
		t.Fatalf("podman pushed %s, the registry has %s", want, desc.Digest)
	}
	srv.Check("podman/list", amd64.Digest.String(), amd64)
	srv.Check("podman/list", arm64.Digest.String(), arm64)

	equal(t, podman.Lines("search", "--tls-verify=false", "--format", "{{.Name}}", srv.Host+"/podman/"),
		srv.Host+"/podman/list", srv.Host+"/podman/oci", srv.Host+"/podman/v2s2")
	table := podman.Run("search", "--tls-verify=false", "--list-tags", srv.Host+"/large") // podman 4.3 knows no format here
	if got := strings.Fields(table); !slices.Equal(got, []string{"NAME", "TAG", srv.Host + "/large", "v1"}) {
		t.Fatalf("tags of large: %q", got)
	}
}
