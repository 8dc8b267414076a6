package oci

import (
	// The algorithms that ParseDigest accepts; go-digest has none of its own.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Tag is a tag of a manifest. The zero Tag names nothing. Tags are comparable.
type Tag struct{ s string }

// ParseTag returns the tag s, or ManifestInvalid.
func ParseTag(s string) (Tag, error) {
	if !isTag(s) {
		return Tag{}, Errorf(ManifestInvalid, "tag %q", clip(s))
	}
	return Tag{s}, nil
}

// Clone returns t in memory of its own, for who keeps it: what was parsed is a
// part of something longer, such as a request.
func (t Tag) Clone() Tag { return Tag{strings.Clone(t.s)} }

// isTag reports whether s is [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func isTag(s string) bool {
	if len(s) == 0 || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// String returns the tag as it was parsed.
func (t Tag) String() string { return t.s }

// IsZero reports whether t is the zero Tag.
func (t Tag) IsZero() bool { return t.s == "" }

// ParseDigest returns the digest s, or DigestInvalid if it's malformed or its
// algorithm isn't one of those of ParseAlgorithm.
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, hex, _ := strings.Cut(s, ":")
	a, err := ParseAlgorithm(algorithm)
	if err != nil {
		return "", err
	}
	if len(hex) != 2*a.Size() || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", Errorf(DigestInvalid, "digest %q", clip(s))
	}
	return digest.Digest(s), nil
}

// ParseAlgorithm returns the digest algorithm s: sha256, sha384 or sha512
// (image-spec, "Registered algorithms", and what zot stores). Any other is
// DigestInvalid.
func ParseAlgorithm(s string) (digest.Algorithm, error) {
	a := digest.Algorithm(s)
	if !a.Available() {
		return "", Errorf(DigestInvalid, "digest algorithm %q", clip(s))
	}
	return a, nil
}

// Reference is what follows "manifests/" in a URL: a tag or a digest.
// The zero Reference is neither. References are comparable.
type Reference struct {
	tag    Tag
	digest digest.Digest
}

// TagRef is the reference by tag.
func TagRef(t Tag) Reference { return Reference{tag: t} }

// DigestRef is the reference by digest.
func DigestRef(d digest.Digest) Reference { return Reference{digest: d} }

// ParseReference returns the tag or digest s. What has a colon is meant as a
// digest, so that a wrong one is DigestInvalid and not a strange tag.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{tag: t}, err
}

// Tag returns the tag, if r is one.
func (r Reference) Tag() (Tag, bool) { return r.tag, !r.tag.IsZero() }

// Digest returns the digest, if r is one.
func (r Reference) Digest() (digest.Digest, bool) { return r.digest, r.digest != "" }

// IsZero reports whether r is neither a tag nor a digest.
func (r Reference) IsZero() bool { return r == Reference{} }

// String returns the reference as it stands in a URL.
func (r Reference) String() string {
	if r.digest != "" {
		return r.digest.String()
	}
	return r.tag.s
}

// clip keeps what a client sent from filling a log line or a response.
func clip(s string) string {
	const longest = 256
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}
