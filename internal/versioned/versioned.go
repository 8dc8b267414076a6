// Package versioned is how small shared state lies in files, in objects and in
// Caddy's storage: each value with a version in front that was never used before,
// under a name that is no directory of another one's.
package versioned

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// MaxValue is how large a value may be, in bytes.
const MaxValue = 64 << 10

// VersionSize is how long a version is, in bytes. What is only that long has no value.
const VersionSize = 26

// ErrDamaged is what Unpack fails with for what Pack hasn't made.
var ErrDamaged = errors.New("no value with a version")

// Pack returns value with a new version in front. It fails if the key is none, or the
// value too large.
func Pack(key string, value []byte) (packed []byte, version string, err error) {
	if err := CheckKey(key); err != nil {
		return nil, "", err
	}
	if len(value) > MaxValue {
		return nil, "", fmt.Errorf("%s: a value of %d bytes is larger than %d", key, len(value), MaxValue)
	}
	version = rand.Text()
	return join(version, value), version, nil
}

func join(version string, value []byte) []byte {
	packed := make([]byte, 0, VersionSize+1+len(value))
	packed = append(append(packed, version...), '\n')
	return append(packed, value...)
}

// Unpack returns what Pack was given, and its version.
func Unpack(packed []byte) (value []byte, version string, err error) {
	head, value, found := bytes.Cut(packed, []byte("\n"))
	if !found || len(head) != VersionSize {
		return nil, "", ErrDamaged
	}
	return value, string(head), nil
}

// CheckKey returns an error unless key is one or more words of lower-case letters,
// digits and "-", with "/" between them, and no longer than 200 bytes.
func CheckKey(key string) error {
	if len(key) > 200 {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	for word := range strings.SplitSeq(key, "/") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("%q is no key", key)
		}
	}
	return nil
}

// Under reports whether a key begins with the words of prefix; all begin with "".
func Under(key, prefix string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '/')
}

// Name is the key as one path component.
func Name(key string) string { return strings.ReplaceAll(key, "/", ".") }

// Key returns the key whose Name it is; false if it's no name of a key's.
func Key(name string) (key string, ok bool) {
	key = strings.ReplaceAll(name, ".", "/")
	return key, !strings.Contains(name, "/") && CheckKey(key) == nil
}

// Each yields the keys that list returns, or its error. It's called when a loop begins.
func Each(list func() ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		keys, err := list()
		if err != nil {
			yield("", err)
			return
		}
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}
