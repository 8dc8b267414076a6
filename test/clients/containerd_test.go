//go:build real

package clients

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// containerd has two ways to a registry: its own transfer service, which is that
// of Kubernetes as well, and the client's.
func TestContainerd(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"transfer": {}, "local": {"--local"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testContainerd(t, append(flags, "--plain-http")...)
		})
	}
}

func testContainerd(t *testing.T, flags ...string) {
	srv := registry.Config(t, logged)
	c := tool.Containerd(t)
	content := image.Layout(filepath.Join(c.Dir, "content"))
	images := func(command string, args ...string) {
		c.Run(slices.Concat([]string{"images", command}, flags, args)...)
	}

	// What came from elsewhere is uploaded.
	for tag, img := range map[string]*image.Content{"large": large, "multi": multi} {
		c.Run("images", "import", "--all-platforms", "--no-unpack", "--base-name", "local/"+tag, archive(t, img))
		images("push", srv.Ref("containerd/"+tag, "v1"), "local/"+tag+":v1")
		srv.Check("containerd/"+tag, "v1", img)
	}
	uploads := len(large.Blobs) + len(multi.Blobs)
	if got := operations(srv, "finish-upload"); got != uploads {
		t.Fatalf("%d uploads of %d blobs", got, uploads)
	}
	empty(t, c)

	images("pull", srv.Ref("containerd/large", "v1"))
	wantContent(t, content, large)
	images("pull", "--platform", "linux/arm64", srv.Ref("containerd/multi", "v1"))
	wantContent(t, content, arm64)
	empty(t, c)
	images("pull", "--all-platforms", srv.Ref("containerd/multi", multi.Digest.String()))
	wantContent(t, content, multi)

	// What came from another repository is mounted, and what is there is left alone.
	images("pull", srv.Ref("containerd/large", large.Digest.String()))
	for _, tag := range []string{"v1", "v2"} {
		images("push", srv.Ref("mounted", tag), srv.Ref("containerd/large", large.Digest.String()))
		srv.Check("mounted", tag, large)
	}
	if got := operations(srv, "mount-blob"); got != len(large.Blobs) {
		t.Fatalf("%d blobs were mounted, want %d", got, len(large.Blobs))
	}
	if got := operations(srv, "finish-upload"); got != uploads {
		t.Fatalf("%d uploads, of which %d were for nothing", got, got-uploads)
	}
}

// archive writes an image into a tar file of an image layout.
func archive(t *testing.T, c *image.Content) string {
	t.Helper()
	tar := tool.Find(t, "tar")
	path := filepath.Join(tar.Dir, "image.tar")
	tar.Run("--create", "--file", path, "--directory", string(c.WriteLayout(t, "v1")), ".")
	return path
}

// empty takes all images away from containerd, with their content.
func empty(t *testing.T, c *tool.Tool) {
	t.Helper()
	c.Run(append([]string{"images", "rm", "--sync"}, c.Lines("images", "ls", "--quiet")...)...)
	left, err := os.ReadDir(filepath.Join(c.Dir, "content/blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Fatalf("containerd without images has %d blobs", len(left))
	}
}

// wantContent fails the test unless a layout has want, whole, whatever its index
// says.
func wantContent(t *testing.T, l image.Layout, want *image.Content) {
	t.Helper()
	if _, err := image.Verify(t.Context(), l, want.Descriptor); err != nil {
		t.Fatal(err)
	}
}

func TestContainerdLogin(t *testing.T) {
	t.Parallel()
	hash := strings.TrimSpace(registry.Program(t).Run("hash-password", "--plaintext", "secret"))
	srv := registry.Config(t, strings.ReplaceAll(passwords, "HASH", hash))
	c := tool.Containerd(t)
	c.Run("images", "import", "--no-unpack", "--base-name", "large", archive(t, large))
	push := []string{"images", "push", "--plain-http", srv.Ref("app", "v1"), "large:v1"}
	pull := []string{"images", "pull", "--plain-http", srv.Ref("app", "v1")}
	denied(t, c, "authorization failed", push...)
	denied(t, c, "401 Unauthorized", slices.Insert(push, 2, "--user", "alice:wrong")...)
	c.Run(slices.Insert(push, 2, "--user", "alice:secret")...)
	empty(t, c)
	denied(t, c, "authorization failed", pull...)
	c.Run(slices.Insert(pull, 2, "--user", "alice:secret")...)
	wantContent(t, image.Layout(filepath.Join(c.Dir, "content")), large)
}

// TestKubernetes pulls as the kubelet has containerd do it.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	hash := strings.TrimSpace(registry.Program(t).Run("hash-password", "--plaintext", "secret"))
	srv := registry.HTTPS(t, "127.0.0.1", "basic_auth {\n alice "+hash+"\n }\n oci_registry {\n storage memory\n anonymous none\n }")
	ctr := tool.Containerd(t)
	kubelet := tool.CRI(t, ctr)
	hosts := filepath.Join(ctr.Dir, "certs.d", srv.Host)
	ca := copyFile(t, srv.CA, filepath.Join(hosts, "ca.crt"))
	writeFile(t, hosts, "hosts.toml", strings.ReplaceAll(hostsTOML, "HOST", srv.Host)+"  ca = \""+ca+"\"\n")
	ctr.Run("images", "import", "--all-platforms", "--no-unpack", "--base-name", "multi", archive(t, multi))
	ctr.Run("images", "push", "--hosts-dir", filepath.Dir(hosts), "--user", "alice:secret", srv.Ref("app", "v1"), "multi:v1")
	empty(t, ctr)

	denied(t, kubelet, "no basic auth credentials", "pull", srv.Ref("app", "v1"))
	denied(t, kubelet, "401 Unauthorized", "pull", "--creds", "alice:wrong", srv.Ref("app", "v1"))
	for _, ref := range []string{srv.Ref("app", "v1"), srv.Ref("app", arm64.Digest.String())} {
		kubelet.Run("pull", "--creds", "alice:secret", ref)
	}
	content := image.Layout(filepath.Join(ctr.Dir, "content"))
	wantContent(t, content, amd64)
	wantContent(t, content, arm64)
	kubelet.Run("rmi", srv.Ref("app", "v1"))
}

const hostsTOML = `server = "https://HOST"

[host."https://HOST"]
  capabilities = ["pull", "resolve", "push"]
`

// TestContainerdHosts is how a machine of a cluster is told of a registry.
func TestContainerdHosts(t *testing.T) {
	t.Parallel()
	srv := registry.HTTPS(t, "127.0.0.1", everybody)
	c := tool.Containerd(t)
	srv.Push(large, "large", "v1")
	hosts := filepath.Join(c.Dir, "certs.d")
	toml := strings.ReplaceAll(hostsTOML, "HOST", srv.Host)
	writeFile(t, hosts, srv.Host+"/hosts.toml", toml)
	denied(t, c, "x509: certificate signed by unknown authority", "images", "pull", "--hosts-dir", hosts, srv.Ref("large", "v1"))

	ca := copyFile(t, srv.CA, filepath.Join(hosts, srv.Host, "ca.crt"))
	writeFile(t, hosts, srv.Host+"/hosts.toml", toml+"  ca = \""+ca+"\"\n")
	for tag, flags := range map[string][]string{"v1": {}, "v2": {"--local"}} {
		c.Run(slices.Concat([]string{"images", "pull", "--hosts-dir", hosts}, flags, []string{srv.Ref("large", "v1")})...)
		wantContent(t, image.Layout(filepath.Join(c.Dir, "content")), large)
		c.Run(slices.Concat([]string{"images", "push", "--hosts-dir", hosts}, flags, []string{srv.Ref("pushed", tag), srv.Ref("large", "v1")})...)
		srv.Check("pushed", tag, large)
		empty(t, c)
	}
}
