//go:build real

package clients

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

func TestCrane(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	crane := tool.Find(t, "crane")
	crane.Run("push", string(large.WriteLayout(t, "v1")), srv.Ref("crane/large", "v1"))
	srv.Check("crane/large", "v1", large)
	srv.Push(multi, "crane/multi", "v1")
	crane.Run("validate", "--remote", srv.Ref("crane/large", "v1"))
	crane.Run("validate", "--remote", srv.Ref("crane/multi", "v1"))

	if got := digestOf(t, crane.Run("digest", srv.Ref("crane/multi", "v1"))); got != multi.Digest {
		t.Fatalf("digest %s, want %s", got, multi.Digest)
	}
	if got := digestOf(t, crane.Run("digest", "--platform", "linux/arm64", srv.Ref("crane/multi", "v1"))); got != arm64.Digest {
		t.Fatalf("digest %s of arm64, want %s", got, arm64.Digest)
	}
	hash(t, crane.Run("manifest", srv.Ref("crane/multi", "v1")), multi.Digest)
	hash(t, crane.Run("blob", srv.Ref("crane/large", large.Blobs[0].Digest.String())), large.Blobs[0].Digest)

	pulled := filepath.Join(crane.Dir, "pulled")
	crane.Run("pull", "--format", "oci", srv.Ref("crane/multi", "v1"), pulled)
	image.Layout(pulled).Check(t, "", multi)
	crane.Run("pull", "--format", "tarball", srv.Ref("crane/large", large.Digest.String()), pulled+".tar")
	crane.Run("validate", "--tarball", pulled+".tar")

	crane.Run("copy", srv.Ref("crane/multi", "v1"), srv.Ref("crane/copied", "v2"))
	srv.Check("crane/copied", "v2", multi)
	crane.Run("tag", srv.Ref("crane/copied", "v2"), "other")
	srv.Check("crane/copied", "other", multi)
	equal(t, crane.Lines("ls", srv.Host+"/crane/copied"), "v2", "other")
	equal(t, crane.Lines("catalog", srv.Host), "crane/copied", "crane/large", "crane/multi")

	crane.Run("delete", srv.Ref("crane/copied", "other"))
	equal(t, crane.Lines("ls", srv.Host+"/crane/copied"), "v2")
	crane.Run("delete", srv.Ref("crane/copied", multi.Digest.String()))
	equal(t, crane.Lines("ls", srv.Host+"/crane/copied"))
	if _, err := crane.Try("manifest", srv.Ref("crane/copied", multi.Digest.String())); err == nil {
		t.Fatal("what was deleted can be pulled")
	}
	srv.Check("crane/multi", "v1", multi)
}

// TestCraneBuilds makes images in the registry itself, as kaniko, ko and other
// builders without a daemon do: with go-containerregistry, which uploads layers
// as they come and mounts those that another repository has.
func TestCraneBuilds(t *testing.T) {
	t.Parallel()
	srv := registry.Config(t, logged)
	crane := tool.Find(t, "crane")
	srv.Push(large, "base", "v1")
	srv.Push(amd64, "base", "v2")
	file := func(name string) image.File { return image.File{Name: "srv/" + name, Content: []byte(name + "\n")} }

	// Nobody knows the digest, nor the size, of a layer that comes by a pipe.
	crane.Stdin = string(image.Tar(file("app")))
	crane.Run("append", "--new_layer", "-", "--base", srv.Ref("base", "v1"), "--new_tag", srv.Ref("built/app", "v1"))
	verified(t, srv, "built/app", "v1")
	streamed := 0
	for _, r := range srv.Requests() {
		if r.Operation == "patch-upload" && r.Repository == "built/app" {
			streamed++
		}
	}
	if streamed == 0 || operations(srv, "mount-blob") < len(large.Blobs)-1 {
		t.Fatalf("%d layers were streamed, %d mounted", streamed, operations(srv, "mount-blob"))
	}
	layer := writeFile(t, crane.Dir, "layer.tgz", string(image.Layer(file("other"))))
	crane.Run("append", "--new_layer", layer, "--base", srv.Ref("built/app", "v1"), "--new_tag", srv.Ref("built/app", "v2"))
	wantFiles(t, crane.Run("export", srv.Ref("built/app", "v2"), "-"), "srv/layer3/dir9/file99", "srv/app", "srv/other")

	crane.Run("mutate", "--label", "changed=yes", "--entrypoint", "/srv/app", "--append", layer, "--tag", srv.Ref("built/app", "v3"), srv.Ref("built/app", "v2"))
	if config := crane.Run("config", srv.Ref("built/app", "v3")); !strings.Contains(config, `"changed":"yes"`) {
		t.Fatalf("the config is %s", config)
	}
	crane.Run("rebase", "--old_base", srv.Ref("base", "v1"), "--new_base", srv.Ref("base", "v2"), "--tag", srv.Ref("built/app", "v4"), srv.Ref("built/app", "v2"))
	wantFiles(t, crane.Run("export", srv.Ref("built/app", "v4"), "-"), "data/256", "srv/app", "srv/other")
	crane.Run("flatten", "--tag", srv.Ref("built/app", "v5"), srv.Ref("built/app", "v4"))
	wantFiles(t, crane.Run("export", srv.Ref("built/app", "v5"), "-"), "data/256", "srv/app", "srv/other")
	crane.Run("index", "append", "--manifest", srv.Ref("built/app", "v5"), "--manifest", srv.Ref("built/app", "v4"), "--tag", srv.Ref("built/app", "all"))

	asked := len(srv.Requests())
	crane.Run("copy", "--all-tags", srv.Host+"/built/app", srv.Host+"/copied/app")
	tags := []string{"all", "v1", "v2", "v3", "v4", "v5"}
	equal(t, crane.Lines("ls", srv.Host+"/copied/app"), tags...)
	for _, tag := range tags {
		crane.Run("validate", "--remote", srv.Ref("copied/app", tag))
		if got, want := verified(t, srv, "copied/app", tag), verified(t, srv, "built/app", tag); got != want {
			t.Fatalf("%s was copied as %s, want %s", tag, got, want)
		}
	}
	for _, r := range srv.Requests()[asked:] {
		if r.Operation == "patch-upload" {
			t.Fatalf("a blob that could be mounted was uploaded: %s %s", r.Method, r.URI)
		}
	}
}
