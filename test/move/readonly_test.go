//go:build real

package move

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
	"github.com/caddy-oci/oci-registry/test/tree"
)

// TestReadOnlyMount checks, exports and copies what lies where nobody can write.
func TestReadOnlyMount(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	push(srv)
	srv.Stop()
	disk := filepath.Join(t.TempDir(), "disk")
	tool.Mount(t, disk, 1<<30+tool.Sized(0, 2<<30))
	root := filepath.Join(disk, "root")
	tree.Copy(t, root, srv.Root, "_lock", "_reserve")
	tool.Protect(t, disk)

	caddy, to, file := registry.Program(t), filepath.Join(t.TempDir(), "to"), filepath.Join(t.TempDir(), "all.tar")
	caddy.Run("oci-registry", "check", "--store", root)
	caddy.Run("oci-registry", "export", "--store", root, "--file", file)
	caddy.Run("oci-registry", "copy", "--from", root, "--to", to)
	check(registry.Serve(t, to))
	if _, err := caddy.Try("oci-registry", "import", "--store", root, "--file", file); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("import: %v", err)
	}
}

// TestReadingARunningRegistry looks at what a server has, which goes on, and leaves
// nothing behind.
func TestReadingARunningRegistry(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	srv.Push(large, "team/app", "v1")
	srv.Stop()
	was := tree.Read(t, srv.Root)
	caddy := registry.Program(t)
	caddy.Run("oci-registry", "check", "--store", srv.Root)
	if diff := tree.Diff(was, tree.Read(t, srv.Root)); len(diff) > 0 {
		t.Errorf("check has changed:\n%s", strings.Join(diff, "\n"))
	}

	srv = registry.Serve(t, srv.Root)
	file := filepath.Join(t.TempDir(), "app.tar")
	sh := tool.Find(t, "bash")
	said := sh.Run("-ceu", `"$0" oci-registry export --store "$1" --file "$2" team/app 2>&1`, filepath.Join(tool.Root(t), "bin", "caddy"), srv.Root, file)
	if !strings.Contains(said, "a registry is running on "+srv.Root) {
		t.Errorf("it says %q", said)
	}
	srv.Push(old, "team/app", "v2") // it goes on
	srv.Check("team/app", "v1", large)
}
