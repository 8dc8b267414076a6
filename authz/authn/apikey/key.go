package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
)

// Prefix is what a key begins with, so that it's found where it shouldn't be.
const Prefix = "ork_"

// A key is the prefix, who it belongs to and which one it is, a secret, and a checksum
// of all that, by which what was mistyped or made up is told apart without asking anybody.
const (
	ownerSize  = 5 // bytes; of a hash
	numberSize = 10
	secretSize = 20 // 160 bits, at random
	sumSize    = 5

	keySize = len(Prefix) + (ownerSize+numberSize+secretSize+sumSize)*8/5
)

// words is how bytes are written. It has only characters that a keep.Store's keys have.
var words = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID says which key it is, and tells nothing that helps to guess it.
type ID string

// id is owner and number.
func newID(provider, owner string) ID {
	return ID(ownerWord(provider, owner) + words.EncodeToString(random(numberSize)))
}

// ownerWord is what the IDs of all keys of an owner begin with. Others may have the same.
func ownerWord(provider, owner string) string {
	sum := sha256.Sum256([]byte(provider + "\x00" + owner))
	return words.EncodeToString(sum[:ownerSize])
}

const (
	ownerLength = ownerSize * 8 / 5
	idLength    = ownerLength + numberSize*8/5
)

// ok reports whether it's an ID that a key may have.
func (id ID) ok() bool {
	return len(id) == idLength && strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// at is where the record of the key is kept.
func (id ID) at() string {
	return root + "/" + string(id[:ownerLength]) + "/" + string(id[ownerLength:])
}

// root is what the keys of all records begin with.
const root = "apikeys"

// newKey returns a key with that ID, which nobody can guess.
func newKey(id ID) string {
	key := Prefix + string(id) + words.EncodeToString(random(secretSize))
	return key + checksum(key)
}

func checksum(key string) string {
	sum := sha256.Sum256([]byte(key))
	return words.EncodeToString(sum[:sumSize])
}

// IsKey reports whether a password can only be a key, revoked or not: it has the form and
// the checksum of one.
func IsKey(password string) bool {
	_, ok := parse(password)
	return ok
}

// parse returns which key it would be; false if there's no such key.
func parse(key string) (ID, bool) {
	if len(key) != keySize || !strings.HasPrefix(key, Prefix) {
		return "", false
	}
	body := len(key) - sumSize*8/5
	id := ID(key[len(Prefix) : len(Prefix)+idLength])
	return id, id.ok() && checksum(key[:body]) == key[body:]
}

// hashed is what's kept of a key. It has 160 random bits, so there's no use in making
// that slow.
func hashed(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

func matches(hash []byte, key string) bool { return subtle.ConstantTimeCompare(hash, hashed(key)) == 1 }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}
