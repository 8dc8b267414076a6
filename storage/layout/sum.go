package layout

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unique"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/btree"
)

// sum is a digest as a key: the bytes of a SHA-256, which nearly all are. Sums
// sort as the digests do, and equal sums are of equal digests.
type sum struct {
	sha256 [sha256.Size]byte
	other  unique.Handle[digest.Digest] // any other digest
}

const prefix = string(digest.SHA256) + ":"

// lowest is less than any digest.
var lowest = sum{other: unique.Make[digest.Digest]("")}

func sumOf(d digest.Digest) (s sum) {
	digits, ok := strings.CutPrefix(string(d), prefix)
	if !ok || !decodeHex(&s.sha256, digits) {
		return sum{other: unique.Make(d)}
	}
	return s
}

// decodeHex reports whether digits are dst, in the one way that digests are written.
func decodeHex(dst *[sha256.Size]byte, digits string) bool {
	if len(digits) != 2*len(dst) {
		return false
	}
	for i := range dst {
		high, low := digit(digits[2*i]), digit(digits[2*i+1])
		if high|low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// digit is more than 15 if c isn't one.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// plain reports whether s is a SHA-256.
func (s sum) plain() bool { return s.other == unique.Handle[digest.Digest]{} }

func (s sum) digest() digest.Digest {
	if !s.plain() {
		return s.other.Value()
	}
	return digest.Digest(s.appendPlain(make([]byte, 0, len(prefix)+2*len(s.sha256))))
}

func (s sum) appendPlain(b []byte) []byte {
	return hex.AppendEncode(append(b, prefix...), s.sha256[:])
}

// Compare compares the digests.
func (s sum) Compare(t sum) int {
	switch {
	case s.other == t.other:
		return bytes.Compare(s.sha256[:], t.sha256[:])
	case s.plain():
		return s.compareOther(string(t.other.Value()))
	case t.plain():
		return -t.compareOther(string(s.other.Value()))
	}
	return strings.Compare(string(s.other.Value()), string(t.other.Value()))
}

// compareOther compares a SHA-256 with another digest.
func (s sum) compareOther(other string) int {
	if !strings.HasPrefix(other, prefix) {
		return strings.Compare(prefix, other)
	}
	return strings.Compare(string(s.digest()), other)
}

// pair is a key that sorts by a, then by b.
type pair struct{ a, b sum }

// Compare compares a, then b.
func (p pair) Compare(q pair) int {
	if c := p.a.Compare(q.a); c != 0 {
		return c
	}
	return p.b.Compare(q.b)
}

// name is a name as a key: a tag, or what other tools write where tags are.
type name = btree.String
