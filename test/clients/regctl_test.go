//go:build real

package clients

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

func TestRegctl(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	regctl := tool.Find(t, "regctl", "--host", "reg="+srv.Host+",tls=disabled")
	layout := func(l image.Layout, tag string) string { return "ocidir://" + string(l) + ":" + tag }
	regctl.Run("image", "copy", layout(large.WriteLayout(t, "v1"), "v1"), srv.Ref("regctl/large", "v1"))
	srv.Check("regctl/large", "v1", large)
	regctl.Run("image", "copy", layout(multi.WriteLayout(t, "v1"), "v1"), srv.Ref("regctl/multi", "v1"))
	srv.Check("regctl/multi", "v1", multi)
	pulled := image.Layout(t.TempDir())
	regctl.Run("image", "copy", srv.Ref("regctl/multi", "v1"), layout(pulled, "v1"))
	pulled.Check(t, "v1", multi)

	hash(t, regctl.Run("manifest", "get", "--format", "raw-body", srv.Ref("regctl/multi", "v1")), multi.Digest)
	hash(t, regctl.Run("blob", "get", srv.Host+"/regctl/large", large.Blobs[0].Digest.String()), large.Blobs[0].Digest)
	if got := digestOf(t, regctl.Run("image", "digest", "--platform", "linux/arm64", srv.Ref("regctl/multi", "v1"))); got != arm64.Digest {
		t.Fatalf("digest %s of arm64, want %s", got, arm64.Digest)
	}

	regctl.Stdin = "signed\n"
	regctl.Run("artifact", "put", "--artifact-type", signature, "--subject", srv.Ref("regctl/large", "v1"))
	list := []string{"artifact", "list", "--format", "{{range .Descriptors}}{{println .Digest}}{{end}}"}
	referrers := regctl.Lines(append(list, srv.Ref("regctl/large", "v1"))...)
	if len(referrers) != 1 {
		t.Fatalf("listed the referrers %q, want one", referrers)
	}
	if got := regctl.Run("artifact", "get", "--subject", srv.Ref("regctl/large", "v1"), "--filter-artifact-type", signature); got != "signed\n" {
		t.Fatalf("the artifact is %q", got)
	}
	// Nobody needs the fallback tag of registries that have no list of referrers.
	equal(t, regctl.Lines("tag", "ls", srv.Host+"/regctl/large"), "v1")
	byTag := "sha256-" + large.Digest.Encoded() + ".sig"
	regctl.Run("artifact", "put", "--artifact-type", signature, srv.Ref("regctl/large", byTag))
	regctl.Run("image", "copy", "--referrers", "--digest-tags", srv.Ref("regctl/large", "v1"), srv.Ref("regctl/copied", "v1"))
	equal(t, regctl.Lines(append(list, srv.Ref("regctl/copied", "v1"))...), referrers...)
	srv.Check("regctl/copied", "v1", large)
	equal(t, regctl.Lines("tag", "ls", srv.Host+"/regctl/copied"), "v1", byTag)
	if got, want := verified(t, srv, "regctl/copied", byTag), verified(t, srv, "regctl/large", byTag); got != want {
		t.Fatalf("the signature was copied as %s, want %s", got, want)
	}
	regctl.Run("tag", "delete", srv.Ref("regctl/copied", byTag))

	regctl.Run("image", "mod", "--digest-algo", "sha512", "--create", srv.Ref("regctl/sha512", "v1"), srv.Ref("regctl/multi", "v1"))
	desc, err := srv.Repository("regctl/sha512").Verify(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest.Algorithm() != digest.SHA512 {
		t.Fatalf("v1 is %s, want a sha512 digest", desc.Digest)
	}
	regctl.Run("image", "copy", srv.Ref("regctl/sha512", "v1"), layout(pulled, "sha512"))
	if got := pulled.Top(t, "sha512"); got.Digest != desc.Digest {
		t.Fatalf("pulled %s, want %s", got.Digest, desc.Digest)
	}

	equal(t, regctl.Lines("repo", "ls", srv.Host), "regctl/copied", "regctl/large", "regctl/multi", "regctl/sha512")
	regctl.Run("image", "copy", srv.Ref("regctl/multi", "v1"), srv.Ref("regctl/copied", "v2"))
	regctl.Run("tag", "delete", srv.Ref("regctl/copied", "v1"))
	equal(t, regctl.Lines("tag", "ls", srv.Host+"/regctl/copied"), "v2")
	srv.Check("regctl/copied", large.Digest.String(), large) // by digest it stays
	regctl.Run("manifest", "delete", srv.Ref("regctl/copied", multi.Digest.String()))
	equal(t, regctl.Lines("tag", "ls", srv.Host+"/regctl/copied"))
}
