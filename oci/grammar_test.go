package oci

import (
	"regexp"
	"strings"
	"testing"
)

// The grammars of distribution-spec and image-spec, as they have them.
var (
	specName   = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	specTag    = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	specDigest = regexp.MustCompile(`^[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$`)

	// knownDigest has those of specDigest that the registry can check.
	knownDigest = regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})$`)
)

// The scans that replace regular expressions on every request agree with those
// of the spec on every short string over the characters that matter.
func TestScansAgreeWithTheSpecsExpressions(t *testing.T) {
	t.Parallel()
	var each func(prefix string, left int)
	each = func(prefix string, left int) {
		if _, err := ParseName(prefix); (err == nil) != specName.MatchString(prefix) {
			t.Fatalf("ParseName(%q) = %v", prefix, err)
		}
		if _, err := ParseTag(prefix); (err == nil) != specTag.MatchString(prefix) {
			t.Fatalf("ParseTag(%q) = %v", prefix, err)
		}
		if left == 0 {
			return
		}
		for _, c := range "a0Z._-/é" {
			each(prefix+string(c), left-1)
		}
	}
	each("", 6)
	for _, n := range []int{127, 128, 129} {
		if _, err := ParseTag(strings.Repeat("x", n)); (err == nil) != (n <= 128) {
			t.Errorf("a tag of %d bytes: %v", n, err)
		}
	}
}

// FuzzGrammar: a string is a name, a tag or a digest if the specs say so, and
// what is one comes back as it was.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{
		"a", "a/b", "a__b", "a___b", "a--b", "a.-b", "team/app/index.json", "blobs/blobs", "a//b", "A", "", "/", "é", "a/", "a\x00",
		"v1", "_", "-v", ".v", "V1.0_x-y", strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("a/", 130) + "a",
		"sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64), "sha384:" + strings.Repeat("0", 96),
		"sha512:" + strings.Repeat("f", 128), "sha512:" + strings.Repeat("f", 64), "md5:" + strings.Repeat("0", 32),
		"sha256:" + strings.Repeat("a", 64) + "\n", "sha256", ":", "sha256:../../x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		reserved := len(s) > maxNameLength || regexp.MustCompile(`/(blobs|index\.json|oci-layout)(/|$)`).MatchString(s)
		if (err == nil) != (specName.MatchString(s) && !reserved) || err == nil && n.String() != s {
			t.Fatalf("the name %q is %q, %v", s, n, err)
		}
		v, err := ParseTag(s)
		if (err == nil) != specTag.MatchString(s) || err == nil && v.String() != s {
			t.Fatalf("the tag %q is %q, %v", s, v, err)
		}
		d, err := ParseDigest(s)
		if (err == nil) != knownDigest.MatchString(s) || err == nil && (d.String() != s || !specDigest.MatchString(s)) {
			t.Fatalf("the digest %q is %q, %v", s, d, err)
		}
		ref, err := ParseReference(s)
		if (err == nil) != (knownDigest.MatchString(s) || specTag.MatchString(s)) || err == nil && ref.String() != s {
			t.Fatalf("the reference %q is %q, %v", s, ref, err)
		}
	})
}
