//go:build real

package clients

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// BuildKit can keep its cache in a registry: as an image whose layers are those
// of the cache, or, as it was done before, as an image index that names them
// where manifests should be.
func TestBuildKit(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	b, crane := tool.BuildKit(t, srv.Host, "http = true"), tool.Find(t, "crane")
	srv.Push(amd64, "base", "v1")
	writeContext(t, b, srv.Ref("base", "v1"))

	for form, isImage := range map[string]string{"index": "false", "image": "true"} {
		cache := "type=registry,ref=" + srv.Ref("cache", form)
		steps := build(t, b, srv.Ref("app", form), "--export-cache", cache+",mode=max,image-manifest="+isImage)
		equal(t, steps, "COPY one /srv/one", "COPY --from=first /srv/one /srv/copied", "COPY two /srv/two")
		wantCache(t, srv, crane, form)

		// Now there is nothing left but what the registry has.
		b.Run("prune", "--all")
		equal(t, build(t, b, srv.Ref("app", "again"), "--import-cache", cache))
		b.Run("prune", "--all")
		// Each is an image index: an image, and an attestation of how it was built.
		verified(t, srv, "app", form)
		verified(t, srv, "app", "again")
		layers, again := layersOf(t, crane, srv.Ref("app", form)), layersOf(t, crane, srv.Ref("app", "again"))
		if len(layers) != 4 || !slices.Equal(layers, again) {
			t.Fatalf("from the cache came the layers %q, want %q", again, layers)
		}
		wantFiles(t, crane.Run("export", srv.Ref("app", "again"), "-"), "data/256", "srv/copied", "srv/two")
		if err := srv.Repository("cache").DeleteManifest(t.Context(), verified(t, srv, "cache", form).String()); err != nil {
			t.Fatal(err)
		}
	}
}

// The image doesn't have the layer of the first stage, but the cache has.
const dockerfile = `FROM BASE AS first
COPY one /srv/one
FROM BASE
COPY --from=first /srv/one /srv/copied
COPY two /srv/two
`

// writeContext writes the folder that build builds an image of.
func writeContext(t *testing.T, b *tool.Tool, base string) {
	t.Helper()
	writeFile(t, b.Dir, "context/one", "one\n")
	writeFile(t, b.Dir, "context/two", "two\n")
	writeFile(t, b.Dir, "context/Dockerfile", strings.ReplaceAll(dockerfile, "BASE", base))
}

// build builds an image and pushes it as ref. It returns the steps
// that were done and not found in a cache.
func build(t *testing.T, b *tool.Tool, ref string, flags ...string) []string {
	t.Helper()
	b.Run(append(buildImage(ref), flags...)...)
	trace, err := os.Open(filepath.Join(b.Dir, "trace.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Close()
	cached := make(map[string]bool) // what was said last of each step counts
	for lines := json.NewDecoder(trace); ; {
		var line struct {
			Vertexes []struct {
				Name   string
				Cached bool
			}
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, v := range line.Vertexes {
			if _, step, _ := strings.Cut(v.Name, "] "); strings.HasPrefix(step, "COPY") {
				cached[step] = v.Cached
			}
		}
	}
	var done []string
	for step, isCached := range cached {
		if !isCached {
			done = append(done, step)
		}
	}
	if len(cached) == 0 {
		t.Fatal("BuildKit's trace has no step that it knows")
	}
	return done
}

func buildImage(ref string) []string {
	return []string{
		"build", "--frontend", "dockerfile.v0", "--local", "context=context", "--local", "dockerfile=context",
		"--opt", "platform=linux/amd64", "--opt", "attest:provenance=mode=min",
		"--output", "type=image,push=true,name=" + ref, "--trace", "trace.json",
	}
}

// wantCache fails the test unless a cache is there, whole, in its form.
func wantCache(t *testing.T, srv *registry.Server, crane *tool.Tool, form string) {
	t.Helper()
	verified(t, srv, "cache", form)
	var m struct {
		Config            ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	decode(t, crane.Run("manifest", srv.Ref("cache", form)), &m)
	named := append(m.Layers, m.Manifests...)
	isConfig := func(d ocispec.Descriptor) bool { return d.MediaType == "application/vnd.buildkit.cacheconfig.v0" }
	if len(named) < 5 || isConfig(m.Config) != (form == "image") || slices.ContainsFunc(m.Manifests, isConfig) != (form == "index") {
		t.Fatalf("the cache is %+v, want one in the form %q", m, form)
	}
}

// layersOf returns the layers of an image for this machine.
func layersOf(t *testing.T, crane *tool.Tool, ref string) []digest.Digest {
	t.Helper()
	var m ocispec.Manifest
	decode(t, crane.Run("manifest", "--platform", "linux/amd64", ref), &m)
	var all []digest.Digest
	for _, l := range m.Layers {
		all = append(all, l.Digest)
	}
	return all
}
