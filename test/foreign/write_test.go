//go:build real

package foreign

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
	"github.com/caddy-oci/oci-registry/test/tree"
)

// Images that share layers: what a pool has links for, and what is too small
// for it.
var (
	base  = image.RandomLayer(1, 64<<10)
	small = image.RandomLayer(2, 100)
	first = image.New("amd64", base, small)
	next  = image.New("amd64", base, small, image.RandomLayer(3, 32<<10))
	multi = image.Index(first, image.New("arm64", base, image.RandomLayer(4, 16<<10)))
)

// TestSkopeoWrites has skopeo write into the folder of a repository while it's
// served and shares its bytes with others: those stay as they are.
func TestSkopeoWrites(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	skopeo := tool.Find(t, "skopeo")
	for _, repository := range []string{"ours", "theirs", "deep/down"} {
		srv.Push(first, repository, "v1")
		srv.Push(multi, repository, "multi")
	}
	shared := filepath.Join("blobs/sha256", digest.FromBytes(base).Encoded())
	before := tree.Read(t, srv.Root)
	if before["ours/"+shared].Inode != before["theirs/"+shared].Inode {
		t.Fatal("two repositories don't share the bytes of a layer, so that this test shows nothing")
	}

	for tag, c := range map[string]*image.Content{"v1": first, "v2": next, "again": multi} {
		from := c.WriteLayout(t, tag)
		skopeo.Run("copy", "--quiet", "--all", "--preserve-digests", "oci:"+string(from)+":"+tag, "oci:"+srv.Root+"/theirs:"+tag)
		skopeo.Run("copy", "--quiet", "--all", "--preserve-digests", "oci:"+string(from)+":"+tag, "oci:"+srv.Root+"/new:"+tag)
	}
	now := tree.Read(t, srv.Root)
	for _, part := range []string{"ours", "deep", "_pool"} {
		for _, line := range tree.Diff(below(before, part), below(now, part)) {
			t.Error(line)
		}
	}

	for tag, c := range map[string]*image.Content{"v1": first, "v2": next, "again": multi, "multi": multi} {
		await(t, srv, "theirs", tag, c.Digest)
		srv.Check("theirs", tag, c)
	}
	await(t, srv, "new", "v2", next.Digest)
	srv.Check("new", "again", multi)
	srv.Check("ours", "v1", first)
	srv.Check("deep/down", "multi", multi)
	srv.Push(next, "theirs", "pushed") // the server goes on writing there
	srv.Check("theirs", "pushed", next)
	srv.Check("theirs", "again", multi)
}

func below(all tree.Tree, folder string) tree.Tree {
	part := make(tree.Tree)
	for path, f := range all {
		if path == folder || strings.HasPrefix(path, folder+"/") {
			part[path] = f
		}
	}
	return part
}

// await waits until the server has noticed that others changed what a tag names.
func await(t *testing.T, srv *registry.Server, repository, tag string, want digest.Digest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		desc, err := srv.Repository(repository).Resolve(ctx, tag)
		if desc.Digest == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s:%s is %s, want %s (%v)", repository, tag, desc.Digest, want, err)
		case <-again.C:
		}
	}
}

// TestOthersRead has other tools read, as layouts, what the server has written,
// while it's running.
func TestOthersRead(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	srv.Push(first, "one", "v1")
	srv.Push(first, "deep/app", "v1")
	srv.Push(multi, "deep/app", "multi")
	srv.Push(next, "deep/app", "v2")
	before := layouts(t, srv.Root)
	app := srv.Root + "/deep/app"
	content := map[string]*image.Content{"v1": first, "multi": multi, "v2": next}

	skopeo, oras, regctl, crane := tool.Find(t, "skopeo"), tool.Find(t, "oras"), tool.Find(t, "regctl"), tool.Find(t, "crane")
	for tag, want := range content {
		out := image.Layout(t.TempDir())
		skopeo.Run("copy", "--quiet", "--all", "--preserve-digests", "oci:"+app+":"+tag, "oci:"+string(out)+":"+tag)
		out.Check(t, tag, want)
		out = image.Layout(t.TempDir())
		oras.Run("cp", "--from-oci-layout", app+":"+tag, "--to-oci-layout", string(out)+":"+tag)
		out.Check(t, tag, want)
		if got := digest.FromString(regctl.Run("manifest", "get", "--format", "raw-body", "ocidir://"+app+":"+tag)); got != want.Digest {
			t.Errorf("regctl reads %s as %s, want %s", got, tag, want.Digest)
		}
	}
	layer := digest.FromBytes(base)
	if got := digest.FromString(regctl.Run("blob", "get", "ocidir://"+app, layer.String())); got != layer {
		t.Errorf("regctl reads a blob as %s, want %s", got, layer)
	}
	for name, tags := range map[string][]string{
		"regctl": regctl.Lines("tag", "ls", "ocidir://"+app),
		"oras":   oras.Lines("repo", "tags", "--oci-layout", app),
	} {
		if got := strings.Join(tags, " "); got != "multi v1 v2" {
			t.Errorf("%s lists the tags %q, want multi v1 v2", name, got)
		}
	}
	for _, line := range tree.Diff(before, layouts(t, srv.Root)) {
		t.Errorf("reading changed something: %s", line)
	}

	// crane reads a layout only to push it.
	crane.Run("push", srv.Root+"/one", srv.Ref("crane/one", "v1"))
	srv.Check("crane/one", "v1", first)
	crane.Run("push", "--index", app, srv.Ref("crane/all", "v1"))
	crane.Run("validate", "--remote", srv.Ref("crane/all", "v1"))
}
