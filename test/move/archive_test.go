//go:build real

package move

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestExport has other tools read what is exported of a running registry.
func TestExport(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	push(srv)
	srv.Push(large, "one", "v1")
	caddy, skopeo, podman, crane := registry.Program(t), tool.Find(t, "skopeo"), tool.Podman(t), tool.Find(t, "crane")
	export := func(repository string) string {
		file := filepath.Join(t.TempDir(), "file.tar")
		caddy.Run("oci-registry", "export", "--store", srv.Root, "--file", file, repository)
		return file
	}
	copied := func(from, tag string) image.Layout {
		l := image.Layout(t.TempDir())
		skopeo.Run("copy", "--quiet", "--all", "--preserve-digests", from, "oci:"+string(l)+":"+tag)
		return l
	}
	app, one := export("team/app"), export("one")
	copied("oci-archive:"+app+":v1", "v1").Check(t, "v1", large)
	copied("oci-archive:"+app+":v2", "v2").Check(t, "v2", multi)
	copied("oci-archive:"+one, "v1").Check(t, "v1", large) // the only one there is

	podman.Run("load", "--quiet", "--input", one)
	config := large.Blobs[len(large.Blobs)-1].Digest.Encoded()
	if ids := podman.Lines("images", "--quiet", "--no-trunc"); len(ids) != 1 || ids[0] != "sha256:"+config {
		t.Errorf("podman has the images %q, want %s", ids, config)
	}

	unpacked := t.TempDir()
	tool.Find(t, "tar").Run("-xf", one, "-C", unpacked)
	image.Layout(unpacked).Check(t, "v1", large)
	crane.Run("push", unpacked, srv.Ref("from/crane", "v1"))
	srv.Check("from/crane", "v1", large)
}

// TestImport imports what skopeo and podman have written.
func TestImport(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	push(srv)
	caddy, skopeo, podman := registry.Program(t), tool.Find(t, "skopeo"), tool.Podman(t)
	to, file := filepath.Join(t.TempDir(), "new"), filepath.Join(t.TempDir(), "file.tar")
	load := func(into string) {
		caddy.Run("oci-registry", "import", "--store", to, "--into", into, "--file", file)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	skopeo.Run("copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+srv.Ref("multi", "v1"), "oci-archive:"+file+":v3")
	load("skopeo")
	podman.Run("pull", "--quiet", "--tls-verify=false", srv.Ref("team/app", "v1"))
	podman.Run("save", "--quiet", "--format", "oci-archive", "--output", file, srv.Ref("team/app", "v1"))
	raw := tool.Find(t, "tar").Run("-xOf", file, "index.json")
	_, err := caddy.Try("oci-registry", "import", "--store", to, "--into", "podman", "--file", file)
	if err == nil || !strings.Contains(err.Error(), "which can't be a tag") { // podman writes whole references
		t.Errorf("podman's file has %s; err = %v", raw, err)
	}

	served := registry.Serve(t, to)
	served.Check("skopeo", "v3", multi)
	if has, err := served.Repository("podman").HasBlob(t.Context(), large.Blobs[len(large.Blobs)-1].Digest); err != nil || !has {
		t.Errorf("the image that podman wrote isn't there: %v", err)
	}
}

// TestPipe takes everything from one registry to another through a pipe.
func TestPipe(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	push(srv)
	registry.Program(t) // builds it
	caddy := filepath.Join(tool.Root(t), "bin", "caddy")
	to := filepath.Join(t.TempDir(), "new")
	sh := tool.Find(t, "bash")
	sh.Run("-ceuo", "pipefail", `"$0" oci-registry export --store "$1" | "$0" oci-registry import --store "$2"`, caddy, srv.Root, to)
	check(registry.Serve(t, to))
}
