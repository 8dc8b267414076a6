package s3

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// An upload session's ID says by itself of which repository it is, how it hashes
// and when it was begun. So beginning one takes no call, and any process knows an
// empty session by its ID alone: most are over before anything of them has to be
// written down.
//
// It's 16 random bytes, the minute it was begun in, the algorithm, and a check
// that ties these to the repository.
type sessionID struct {
	text      string
	began     time.Time
	algorithm digest.Algorithm
}

const (
	randomBytes = 16
	plainBytes  = randomBytes + 4 + 1
	checkBytes  = 10
)

// lifetime is how long a session is known by its ID alone.
const lifetime = 7 * 24 * time.Hour

// hashes are the algorithms by their number in an ID.
func hashes() []digest.Algorithm {
	return []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}
}

func newSessionID(name oci.Name, a digest.Algorithm) sessionID {
	now := time.Now()
	b := make([]byte, plainBytes, plainBytes+checkBytes)
	_, _ = rand.Read(b[:randomBytes])                                  // it doesn't fail
	binary.BigEndian.PutUint32(b[randomBytes:], uint32(now.Unix()/60)) //nolint:gosec // until the year 10136
	b[plainBytes-1] = byte(slices.Index(hashes(), a))                  //nolint:gosec // ParseAlgorithm knows no other
	b = append(b, check(name, b)...)
	return sessionID{base64.RawURLEncoding.EncodeToString(b), now, a}
}

func check(name oci.Name, b []byte) []byte {
	sum := sha256.Sum256(append([]byte("upload to "+name.String()+"\x00"), b...))
	return sum[:checkBytes]
}

// parseSessionID is false if the ID was never one of the repository.
func parseSessionID(name oci.Name, text string) (id sessionID, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != plainBytes+checkBytes || string(check(name, b[:plainBytes])) != string(b[plainBytes:]) {
		return sessionID{}, false
	}
	n := int(b[plainBytes-1])
	if n >= len(hashes()) {
		return sessionID{}, false
	}
	began := time.Unix(int64(binary.BigEndian.Uint32(b[randomBytes:]))*60, 0)
	return sessionID{text, began, hashes()[n]}, true
}
