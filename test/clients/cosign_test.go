//go:build real

package clients

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// cosign returns cosign with a pair of keys and no log, authority or clock to
// ask: it signs and verifies by key alone.
func cosign(t *testing.T) *tool.Tool {
	t.Helper()
	c := tool.Find(t, "cosign")
	c.Env = append(c.Env, "COSIGN_PASSWORD=secret")
	c.Run("generate-key-pair")
	c.Run("signing-config", "create", "--out", "services.json")
	c.Run("trusted-root", "create", "--out", "root.json")
	return c
}

// The two forms in which cosign keeps what it signs: bundles that refer to the
// image, and a tag made of the image's digest, as it was done before version 3.
var cosignForms = map[string]struct {
	sign, verify []string
	forged       string // what cosign says of a signature by another key
}{
	"bundle": {
		sign:   []string{"--yes", "--key", "cosign.key", "--signing-config", "services.json", "--trusted-root", "root.json"},
		verify: []string{"--key", "cosign.pub", "--insecure-ignore-tlog", "--trusted-root", "root.json"},
		forged: "accepted signatures do not match threshold",
	},
	"tag": {
		sign:   []string{"--yes", "--key", "cosign.key", "--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false"},
		verify: []string{"--key", "cosign.pub", "--insecure-ignore-tlog", "--new-bundle-format=false"},
		forged: "invalid signature",
	},
}

func TestCosign(t *testing.T) {
	t.Parallel()
	for form, how := range cosignForms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			srv := registry.Start(t)
			c := cosign(t)
			with := func(command string, flags []string, args ...string) []string {
				return slices.Concat([]string{command}, flags, args)
			}
			srv.Push(multi, "app", "v1")
			ref := srv.Ref("app", multi.Digest.String())
			denied(t, c, "no signatures found", with("verify", how.verify, ref)...)

			c.Run(with("sign", how.sign, ref)...)
			signed := c.Run(with("verify", how.verify, ref)...)
			wantWords(t, signed, `"docker-manifest-digest":"`+multi.Digest.String()+`"`, 1)
			c.Run(with("verify", how.verify, srv.Ref("app", "v1"))...)

			writeFile(t, c.Dir, "predicate.json", `{"built":"here"}`)
			c.Run(with("attest", how.sign, "--type", "custom", "--predicate", "predicate.json", ref)...)
			c.Run(with("verify-attestation", how.verify, "--type", "custom", ref)...)
			denied(t, c, "none of the attestations matched", with("verify-attestation", how.verify, "--type", "spdx", ref)...)
			wantSigned(t, srv, form == "bundle")
			wantWords(t, c.Run("tree", ref), "🍒", 2)

			// Another image under the same name, a part of the image, another key.
			srv.Push(large, "app", "v1")
			denied(t, c, "no signatures found", with("verify", how.verify, srv.Ref("app", "v1"))...)
			denied(t, c, "no signatures found", with("verify", how.verify, srv.Ref("app", arm64.Digest.String()))...)
			c.Run(with("verify", how.verify, ref)...)
			copyFile(t, filepath.Join(cosign(t).Dir, "cosign.pub"), filepath.Join(c.Dir, "cosign.pub"))
			denied(t, c, how.forged, with("verify", how.verify, ref)...)

			c.Run("clean", "--force", "--type", "all", ref)
			denied(t, c, "no signatures found", with("verify", how.verify, ref)...)
			srv.Check("app", multi.Digest.String(), multi)
		})
	}
}

// wantSigned fails the test unless app:v1 has a signature and an attestation,
// whole: as bundles that refer to it, or as tags.
func wantSigned(t *testing.T, srv *registry.Server, bundles bool) {
	t.Helper()
	repository := srv.Repository("app")
	referrers, err := repository.Referrers(t.Context(), multi.Digest)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := repository.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, byTag := []string{"v1"}, "sha256-"+multi.Digest.Encoded()
	switch {
	case !bundles:
		want = append(want, byTag+".sig", byTag+".att")
	case len(referrers) != 2:
		t.Fatalf("listed the referrers %q, want two", referrers)
	}
	equal(t, tags, want...)
	for _, d := range referrers {
		tags = append(tags, d.String())
	}
	for _, ref := range tags {
		if _, err := repository.Verify(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
}
