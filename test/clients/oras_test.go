//go:build real

package clients

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

const (
	thing     = "application/vnd.test.thing"
	signature = "application/vnd.test.signature"
	bom       = "application/vnd.test.bom"
)

func TestOras(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	oras := tool.Find(t, "oras")
	one := writeFile(t, oras.Dir, "one.txt", "one\n")
	two := writeFile(t, oras.Dir, "two.txt", "two\n")
	digestOnly := []string{"--plain-http", "--format", "go-template={{.digest}}"}

	pushed := digestOf(t, oras.Run(append([]string{"push", "--artifact-type", thing, srv.Ref("oras/art", "v1") + ",latest", "one.txt:text/plain", "two.txt"}, digestOnly...)...))
	signed := digestOf(t, oras.Run(append([]string{"attach", "--artifact-type", signature, srv.Ref("oras/art", "v1"), "one.txt:text/plain"}, digestOnly...)...))
	listed := digestOf(t, oras.Run(append([]string{"attach", "--artifact-type", bom, srv.Ref("oras/art", "v1"), "two.txt:text/plain"}, digestOnly...)...))
	// A referrer of a referrer: somebody has signed the bill of materials.
	attested := digestOf(t, oras.Run(append([]string{"attach", "--artifact-type", signature, srv.Ref("oras/art", listed.String()), "one.txt:text/plain"}, digestOnly...)...))
	equal(t, oras.Lines("repo", "tags", "--plain-http", srv.Host+"/oras/art"), "latest", "v1")
	for _, ref := range []string{"v1", "latest", signed.String(), listed.String(), attested.String()} {
		if _, err := srv.Repository("oras/art").Verify(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}

	digests := "go-template={{range .manifests}}{{println .digest}}{{end}}"
	discover := []string{"discover", "--plain-http", "--format", digests}
	equal(t, oras.Lines(append(discover, srv.Ref("oras/art", "v1"))...), signed.String(), listed.String())
	equal(t, oras.Lines(append(discover, "--artifact-type", bom, srv.Ref("oras/art", pushed.String()))...), listed.String())
	equal(t, oras.Lines(append(discover, "--artifact-type", thing, srv.Ref("oras/art", "v1"))...))

	oras.Run("pull", "--plain-http", "--output", "pulled", srv.Ref("oras/art", "v1"))
	sameFile(t, filepath.Join(oras.Dir, "pulled/one.txt"), one)
	sameFile(t, filepath.Join(oras.Dir, "pulled/two.txt"), two)

	oras.Run("cp", "--recursive", "--from-plain-http", "--to-plain-http", srv.Ref("oras/art", "v1"), srv.Ref("oras/copied", "v1"))
	equal(t, oras.Lines(append(discover, srv.Ref("oras/copied", "v1"))...), signed.String(), listed.String())
	equal(t, oras.Lines(append(discover, srv.Ref("oras/copied", listed.String()))...), attested.String())
	for _, d := range []digest.Digest{pushed, signed, listed, attested} {
		if _, err := srv.Repository("oras/copied").Verify(t.Context(), d.String()); err != nil {
			t.Fatal(err)
		}
	}
	oras.Run("cp", "--from-oci-layout", "--to-plain-http", string(multi.WriteLayout(t, "v1"))+":v1", srv.Ref("oras/multi", "v1"))
	srv.Check("oras/multi", "v1", multi)
	oras.Run("cp", "--from-plain-http", "--to-oci-layout", srv.Ref("oras/multi", "v1"), "layout:v1")
	image.Layout(filepath.Join(oras.Dir, "layout")).Check(t, "v1", multi)

	oras.Run("tag", "--plain-http", srv.Ref("oras/multi", "v1"), "v2", "v3")
	if got := digestOf(t, oras.Run("resolve", "--plain-http", srv.Ref("oras/multi", "v3"))); got != multi.Digest {
		t.Fatalf("v3 is %s, want %s", got, multi.Digest)
	}
	equal(t, oras.Lines("repo", "tags", "--plain-http", srv.Host+"/oras/multi"), "v1", "v2", "v3")
	// oras deletes what the tag names, by its digest, and so all its tags.
	oras.Run("manifest", "delete", "--force", "--plain-http", srv.Ref("oras/multi", "v2"))
	equal(t, oras.Lines("repo", "tags", "--plain-http", srv.Host+"/oras/multi"))
	equal(t, oras.Lines("repo", "ls", "--plain-http", srv.Host), "oras/art", "oras/copied", "oras/multi")
	oras.Run("manifest", "delete", "--force", "--plain-http", srv.Ref("oras/art", signed.String()))
	equal(t, oras.Lines(append(discover, srv.Ref("oras/art", "v1"))...), listed.String())
}
