//go:build real

package clients

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// docker, like podman, packs the layers of what it pushes itself. Those that it
// has pulled from the registry it finds there or asks to be mounted.
func TestDocker(t *testing.T) {
	t.Parallel()
	srv := registry.Config(t, logged)
	docker := tool.Docker(t)
	srv.Push(large, "large", "v1")
	srv.Push(multi, "multi", "v1")

	docker.Run("pull", srv.Ref("large", "v1"))
	wantImage(t, docker, srv.Ref("large", "v1"), large)
	docker.Run("pull", "--platform", "linux/arm64", srv.Ref("multi", "v1"))
	wantImage(t, docker, srv.Ref("multi", "v1"), arm64)
	docker.Run("rmi", srv.Ref("multi", "v1")) // docker has one image of a digest at a time
	docker.Run("pull", "--platform", "linux/amd64", srv.Ref("multi", multi.Digest.String()))
	wantImage(t, docker, srv.Ref("multi", multi.Digest.String()), amd64)
	if _, err := docker.Try("pull", "--platform", "linux/riscv64", srv.Ref("multi", "v1")); err == nil {
		t.Fatal("docker pulled an image for a platform that isn't there")
	}

	docker.Run("tag", srv.Ref("large", "v1"), srv.Ref("docker/large", "v1"))
	wantWords(t, docker.Run("push", srv.Ref("docker/large", "v1")), "Mounted from large", 4)
	docker.Stdin = string(image.RandomLayer(3<<8, 3<<20))
	docker.Run("import", "-", srv.Ref("docker/app", "v1"))
	wantWords(t, docker.Run("push", srv.Ref("docker/app", "v1")), "Pushed", 1)
	asked := len(srv.Requests())
	docker.Run("tag", srv.Ref("docker/app", "v1"), srv.Ref("docker/app", "v2"))
	wantWords(t, docker.Run("push", "--all-tags", srv.Host+"/docker/app"), "Layer already exists", 2)
	for _, r := range srv.Requests()[asked:] {
		if strings.Contains(r.Operation, "upload") || r.Operation == "mount-blob" {
			t.Fatalf("what the registry has was pushed again: %+v", r)
		}
	}

	docker.Run("manifest", "create", "--insecure", srv.Ref("docker/list", "v1"), srv.Ref("docker/app", "v1"), srv.Ref("docker/large", "v1"))
	docker.Run("manifest", "annotate", "--arch", "arm64", srv.Ref("docker/list", "v1"), srv.Ref("docker/app", "v1"))
	docker.Run("manifest", "push", "--insecure", srv.Ref("docker/list", "v1"))
	isLarge := imageID(docker, srv.Ref("large", "v1"))
	for repository, want := range map[string]string{
		"docker/large": isLarge,
		"docker/app":   imageID(docker, srv.Ref("docker/app", "v1")),
		"docker/list":  isLarge, // the other one is said to be of arm64
	} {
		pullAgain(t, srv, docker, repository, want)
	}
}

// pullAgain pulls what docker has pushed into a docker that has no image, and
// fails the test unless it is the image want.
func pullAgain(t *testing.T, srv *registry.Server, docker *tool.Tool, repository, want string) {
	t.Helper()
	desc, err := srv.Repository(repository).Verify(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	all := docker.Lines("images", "--quiet", "--no-trunc")
	docker.Run(append([]string{"rmi", "--force"}, slices.Compact(slices.Sorted(slices.Values(all)))...)...)
	equal(t, docker.Lines("images", "--quiet"))
	wantWords(t, docker.Run("pull", srv.Ref(repository, "v1")), "Digest: "+desc.Digest.String(), 1)
	if got := imageID(docker, srv.Ref(repository, "v1")); got != want {
		t.Fatalf("%s came back as the image %s, want %s", repository, got, want)
	}
}

// imageID is the digest of an image's config, which has those of its layers.
func imageID(docker *tool.Tool, ref string) string {
	return strings.TrimSpace(docker.Run("image", "inspect", "--format", "{{.Id}}", ref))
}

// wantImage fails the test unless docker has an image under the name ref.
func wantImage(t *testing.T, docker *tool.Tool, ref string, want *image.Content) {
	t.Helper()
	config := want.Blobs[len(want.Blobs)-1].Digest
	if got := imageID(docker, ref); got != config.String() {
		t.Fatalf("%s is the image %s, want %s", ref, got, config)
	}
}

const passwords = `{
	admin ADMIN
}
http://HOST {
	basic_auth {
		alice HASH
	}
	oci_registry {
		storage memory
		anonymous none
	}
}
`

// TestDockerLogin signs in to a site where nobody may pull without.
func TestDockerLogin(t *testing.T) {
	t.Parallel()
	hash := strings.TrimSpace(registry.Program(t).Run("hash-password", "--plaintext", "secret"))
	srv := registry.Config(t, strings.ReplaceAll(passwords, "HASH", hash))
	docker := tool.Docker(t)
	docker.Stdin = string(image.RandomLayer(1, 50_000))
	docker.Run("import", "-", srv.Ref("app", "v1"))
	denied(t, docker, "no basic auth credentials", "push", srv.Ref("app", "v1"))

	login := []string{"login", "--username", "alice", "--password-stdin", srv.Host}
	docker.Stdin = "wrong"
	denied(t, docker, "401 Unauthorized", login...)
	denied(t, docker, "no basic auth credentials", "push", srv.Ref("app", "v1"))
	docker.Stdin = "secret"
	docker.Run(login...)
	docker.Run("push", srv.Ref("app", "v1"))
	id := imageID(docker, srv.Ref("app", "v1"))
	docker.Run("rmi", srv.Ref("app", "v1"))
	docker.Run("pull", srv.Ref("app", "v1"))
	if got := imageID(docker, srv.Ref("app", "v1")); got != id {
		t.Fatalf("pulled %s, want %s", got, id)
	}
	docker.Run("logout", srv.Host)
	denied(t, docker, "no basic auth credentials", "pull", srv.Ref("app", "v1"))
}
