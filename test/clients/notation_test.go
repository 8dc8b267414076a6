//go:build real

package clients

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// trustPolicy believes the certificates in the store "test", whoever they name.
const trustPolicy = `{"version": "1.0", "trustPolicies": [{
	"name": "test", "registryScopes": ["*"], "signatureVerification": {"level": "strict"},
	"trustStores": ["ca:test"], "trustedIdentities": ["*"]
}]}`

func TestNotation(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	notation := tool.Find(t, "notation")
	notation.Run("cert", "generate-test", "--default", "test") // a key, and a certificate in the store
	notation.Run("policy", "import", writeFile(t, notation.Dir, "policy.json", trustPolicy))
	srv.Push(multi, "app", "v1")
	ref := srv.Ref("app", multi.Digest.String())
	verify := []string{"verify", "--insecure-registry"}
	denied(t, notation, "no signature is associated", append(verify, ref)...)

	for _, format := range []string{"jws", "cose"} {
		notation.Run("sign", "--insecure-registry", "--force-referrers-tag=false", "--signature-format", format, ref)
		notation.Run(append(verify, ref)...)
	}
	// By default notation keeps a list of its own beside the registry's, under a
	// tag, and deletes the last one.
	notation.Run("sign", "--insecure-registry", ref)
	notation.Run("sign", "--insecure-registry", ref)
	list := "sha256-" + multi.Digest.Encoded()
	referrers, err := srv.Repository("app").Referrers(t.Context(), multi.Digest)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := srv.Repository("app").Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, tags, "v1", list)
	listed, inspected := notation.Run("list", "--insecure-registry", ref), notation.Run("inspect", "--insecure-registry", ref)
	wantWords(t, inspected, "digest: "+multi.Digest.String(), 4)
	if len(referrers) != 4 {
		t.Fatalf("%d referrers, want 4", len(referrers))
	}
	for _, d := range referrers {
		if !strings.Contains(listed, d.String()) {
			t.Fatalf("listed %s, which lacks the signature %s", listed, d)
		}
		if _, err := srv.Repository("app").Verify(t.Context(), d.String()); err != nil {
			t.Fatal(err)
		}
	}

	// Another image under the same name, a part of the image, somebody else.
	srv.Push(large, "app", "v1")
	denied(t, notation, "no signature is associated", append(verify, srv.Ref("app", "v1"))...)
	denied(t, notation, "no signature is associated", append(verify, srv.Ref("app", arm64.Digest.String()))...)
	other := tool.Find(t, "notation")
	other.Run("cert", "generate-test", "--default", "test")
	other.Run("policy", "import", writeFile(t, other.Dir, "policy.json", trustPolicy))
	denied(t, other, "signature verification failed for all the signatures", append(verify, ref)...)

	// notation deletes nothing that it has signed. Its list, which names the
	// signatures, has to go first.
	top, err := srv.Repository("app").Resolve(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]digest.Digest{top.Digest}, referrers...) {
		if err := srv.Repository("app").DeleteManifest(t.Context(), d.String()); err != nil {
			t.Fatal(err)
		}
	}
	denied(t, notation, "no signature is associated", append(verify, ref)...)
	srv.Check("app", multi.Digest.String(), multi)
}
