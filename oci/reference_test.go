package oci

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestParseTag(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"latest", "v1.0", "1", "_", "_a", "A", "a-b.c_d", "a..b", "a--", "a.", strings.Repeat("a", 128)} {
		v, err := ParseTag(s)
		if err != nil || v.String() != s || v.IsZero() {
			t.Errorf("ParseTag(%q) = %q, %v", s, v, err)
		}
	}
	for _, s := range []string{"", ".a", "-a", ".", "..", "a/b", "a b", "a\n", "a:b", "a@b", "a+b", "é", "a\x00", strings.Repeat("a", 129)} {
		v, err := ParseTag(s)
		if !errors.Is(err, ManifestInvalid) || !v.IsZero() {
			t.Errorf("ParseTag(%q) = %q, %v", s, v, err)
		}
	}
}

func TestParseDigest(t *testing.T) {
	t.Parallel()
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		want := a.FromString("x")
		if got, err := ParseDigest(want.String()); err != nil || got != want {
			t.Errorf("ParseDigest(%q) = %q, %v", want, got, err)
		}
	}
	hex := strings.Repeat("ab", 32)
	for _, s := range []string{
		"", ":", "sha256", "sha256:", ":" + hex, hex, "sha256:" + hex[1:], "sha256:" + hex + "a", "sha256:" + strings.ToUpper(hex),
		"sha256:" + hex[:62] + "zz", "SHA256:" + hex, "sha512:" + hex, "sha384:" + hex, "md5:" + hex[:32], "sha1:" + hex[:40],
		"sha256+b64:" + hex, " sha256:" + hex, "sha256:" + hex + "\n", "sha256:../" + hex[3:], "sha256::" + hex[1:],
		"blake3:" + hex, "sha256:" + strings.Repeat("a", 1<<16),
	} {
		d, err := ParseDigest(s)
		if !errors.Is(err, DigestInvalid) || d != "" {
			t.Errorf("ParseDigest(%.100q) = %q, %v", s, d, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("ParseDigest of %d bytes makes an error of %d", len(s), len(err.Error()))
		}
	}
}

func TestParseAlgorithm(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"sha256", "sha384", "sha512"} {
		if a, err := ParseAlgorithm(s); err != nil || a.String() != s {
			t.Errorf("ParseAlgorithm(%q) = %q, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "sha1", "md5", "SHA256", "sha256 ", "sha256:", "blake3"} {
		if a, err := ParseAlgorithm(s); !errors.Is(err, DigestInvalid) || a != "" {
			t.Errorf("ParseAlgorithm(%q) = %q, %v", s, a, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x")
	byDigest, err := ParseReference(d.String())
	if got, ok := byDigest.Digest(); err != nil || !ok || got != d || byDigest != DigestRef(d) {
		t.Errorf("%s is %v, %v", d, byDigest, err)
	}
	if _, ok := byDigest.Tag(); ok {
		t.Error("a digest is a tag")
	}
	byTag, err := ParseReference("v1")
	if got, ok := byTag.Tag(); err != nil || !ok || got.String() != "v1" || byTag != TagRef(got) {
		t.Errorf("v1 is %v, %v", byTag, err)
	}
	if _, ok := byTag.Digest(); ok {
		t.Error("a tag is a digest")
	}
	for s, code := range map[string]Code{
		"": ManifestInvalid, "-": ManifestInvalid, "a/b": ManifestInvalid, strings.Repeat("a", 129): ManifestInvalid,
		"a:b": DigestInvalid, ":": DigestInvalid, "sha256:": DigestInvalid, "v1:": DigestInvalid, "sha256:abc": DigestInvalid,
	} {
		if r, err := ParseReference(s); !errors.Is(err, code) || !r.IsZero() {
			t.Errorf("ParseReference(%q) = %v, %v; want %s", s, r, err, string(code))
		}
	}
	if s := (Reference{}).String(); s != "" {
		t.Errorf("the zero Reference is %q", s)
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"v1", "", "a:b", digest.FromString("x").String(), digest.SHA512.FromString("x").String(), "sha256:é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !r.IsZero() || !errors.Is(err, ManifestInvalid) && !errors.Is(err, DigestInvalid) {
				t.Fatalf("ParseReference(%q) = %v, %v", s, r, err)
			}
			return
		}
		_, isTag := r.Tag()
		_, isDigest := r.Digest()
		if r.String() != s || r.IsZero() || isTag == isDigest {
			t.Fatalf("ParseReference(%q) = %q, a tag: %t, a digest: %t", s, r, isTag, isDigest)
		}
	})
}
