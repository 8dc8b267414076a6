//go:build real

package clients

import (
	"os"
	"path/filepath"
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

	layer := filepath.Join(crane.Dir, "layer.tgz")
	if err := os.WriteFile(layer, image.RandomLayer(3<<8, 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	crane.Run("append", "--new_layer", layer, "--new_tag", srv.Ref("crane/appended", "v1"))
	crane.Run("validate", "--remote", srv.Ref("crane/appended", "v1"))
	crane.Run("append", "--new_layer", layer, "--base", srv.Ref("crane/large", "v1"), "--new_tag", srv.Ref("crane/appended", "v2"))
	crane.Run("mutate", "--label", "changed=yes", "--tag", srv.Ref("crane/appended", "v3"), srv.Ref("crane/appended", "v2"))
	for _, tag := range []string{"v1", "v2", "v3"} {
		if _, err := srv.Repository("crane/appended").Verify(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
	}

	crane.Run("delete", srv.Ref("crane/copied", "other"))
	equal(t, crane.Lines("ls", srv.Host+"/crane/copied"), "v2")
	crane.Run("delete", srv.Ref("crane/copied", multi.Digest.String()))
	equal(t, crane.Lines("ls", srv.Host+"/crane/copied"))
	if _, err := crane.Try("manifest", srv.Ref("crane/copied", multi.Digest.String())); err == nil {
		t.Fatal("what was deleted can be pulled")
	}
	srv.Check("crane/multi", "v1", multi)
}
