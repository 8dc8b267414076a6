//go:build real

// Package quickstart does what the README tells a new user to do, in a fresh
// clone of what is committed.
package quickstart

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const modulePath = "github.com/caddy-oci/oci-registry"

// clone returns a fresh clone.
func clone(t *testing.T) string {
	t.Helper()
	git := tool.Find(t, "git")
	// Whose the working tree is doesn't matter here.
	git.Env = append(git.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	dir := filepath.Join(t.TempDir(), "oci-registry")
	git.Run("clone", "--quiet", "--no-local", "--depth", "1", "file://"+tool.Root(t), dir)
	return dir
}

func TestServe(t *testing.T) {
	t.Parallel()
	dir := clone(t)
	serve := tool.Go(t, dir)
	serve.Args = []string{"run", "./xcaddy"}
	srv := registry.Run(t, serve, filepath.Join(t.TempDir(), "content"))
	_, port, _ := strings.Cut(srv.Host, ":")
	greeted, cancel := context.WithTimeout(t.Context(), serve.Limit)
	defer cancel()
	_ = srv.Until(greeted, func(context.Context) error { // it serves before it says so
		if !strings.Contains(srv.Log(), "Ctrl-C") {
			return errors.New("no greeting")
		}
		return nil
	}) // what it lacks is said below
	for _, want := range []string{srv.Host, srv.Root, "docker push localhost:" + port + "/"} {
		if !strings.Contains(srv.Log(), want) {
			t.Errorf("what serve prints lacks %q", want)
		}
	}

	buildah, skopeo := tool.Buildah(t), tool.Find(t, "skopeo")
	build(t, buildah, dir)
	said := filepath.Join(buildah.Dir, "digest")
	buildah.Run("push", "--quiet", "--tls-verify=false", "--digestfile", said, "localhost/system", "docker://"+srv.Ref("system", "v1"))
	pushed, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := srv.Repository("system").Verify(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != digest.Digest(pushed) {
		t.Fatalf("the registry has %s, buildah pushed %s", desc.Digest, pushed)
	}

	layout := image.Layout(t.TempDir())
	skopeo.Run("copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "docker://"+srv.Ref("system", "v1"), "oci:"+string(layout)+":v1")
	pulled := layout.Top(t, "v1")
	if pulled.Digest != desc.Digest {
		t.Fatalf("pulled %s, want %s", pulled.Digest, desc.Digest)
	}
	parts, err := image.Verify(t.Context(), layout, pulled)
	if err != nil {
		t.Fatal(err)
	}
	if parts < 5 { // a manifest, a config and three layers
		t.Fatalf("the image has %d parts only", parts)
	}
	skopeo.Run("copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "oci:"+string(layout)+":v1", "docker://"+srv.Ref("copied/system", "v2"))
	again, err := srv.Repository("copied/system").Verify(t.Context(), "v2")
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != desc.Digest {
		t.Fatalf("pushed %s, the registry has %s", desc.Digest, again.Digest)
	}
}

// build builds an image of three layers: some of our own source, or at full
// size a whole Debian.
func build(t *testing.T, buildah *tool.Tool, clone string) {
	t.Helper()
	first := filepath.Join(clone, "docs")
	if tool.Sized(false, true) {
		first = filepath.Join(t.TempDir(), "debian")
		tool.Find(t, "debootstrap").Run("--variant=minbase", "stable", first)
	}
	from := "scratch"
	for _, layer := range []string{first, filepath.Join(clone, "handler"), filepath.Join(clone, "storage")} {
		container := strings.TrimSpace(buildah.Run("from", "--pull-never", from))
		to := "/src/" + filepath.Base(layer)
		if from == "scratch" {
			to = "/"
		}
		buildah.Run("copy", "--quiet", container, layer, to)
		buildah.Run("commit", "--quiet", container, "localhost/system")
		buildah.Run("rm", container)
		from = "localhost/system"
	}
}

// TestXcaddy builds Caddy with this module as the README says, from a clone.
func TestXcaddy(t *testing.T) {
	t.Parallel()
	dir := clone(t)
	xcaddy := tool.Find(t, "xcaddy")
	program := filepath.Join(xcaddy.Dir, "caddy")
	goTool := tool.Go(t, dir)
	xcaddy.Dir, xcaddy.Limit = dir, goTool.Limit
	// go asks where the module is published, even if it's going to take the one
	// in this folder. The answer doesn't matter, but it must be one: this clone.
	xcaddy.Env = append(goTool.Env, "GOPRIVATE="+modulePath, "GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=url.file://"+dir+".insteadOf", "GIT_CONFIG_VALUE_1=https://"+modulePath)
	xcaddy.Run("build", "--with", modulePath+"=.", "--output", program)

	caddy := tool.At(t, program)
	modules := caddy.Lines("list-modules")
	for _, want := range []string{"oci_registry", "http.handlers.oci_registry", "admin.api.oci_registry", "oci_registry.storage.filesystem"} {
		if !slices.Contains(modules, want) {
			t.Errorf("the build has no module %s", want)
		}
	}
	srv := registry.Run(t, caddy, t.TempDir())
	c := image.Random(1, 2, 10_000)
	srv.Push(c, "app", "v1")
	srv.Check("app", "v1", c)
}
