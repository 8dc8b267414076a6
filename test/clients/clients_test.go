//go:build real

// Package clients shows that the clients people use work with the real program:
// what they push is there byte for byte, and what they pull is what was pushed.
package clients

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
)

// large is an image like a real one.
var large = image.Large()

// multi is an image for two platforms, whose parts are its two children.
var (
	amd64 = image.Random(1, 2, 9000)
	arm64 = image.New("arm64", image.RandomLayer(2<<8, 8000), image.RandomLayer(1<<8, 9000))
	multi = image.Index(amd64, arm64)
)

// equal fails the test unless a client listed what it should, in any order.
func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	got = slices.Sorted(slices.Values(got))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("listed %q, want %q", got, want)
	}
}

// digestOf reads a digest that a client printed, or wrote into a file.
func digestOf(t *testing.T, s string) digest.Digest {
	t.Helper()
	d, err := digest.Parse(strings.TrimSpace(s))
	if err != nil {
		t.Fatalf("%v: %q", err, s)
	}
	return d
}

func readDigest(t *testing.T, path string) digest.Digest {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, string(b))
}

// writeFile writes a file of its own text into dir and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sameFile fails the test unless two files have the same content.
func sameFile(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Fatalf("%s (%d bytes) isn't %s (%d bytes)", got, len(a), want, len(b))
	}
}

// hash fails the test unless content hashes to want.
func hash(t *testing.T, content string, want digest.Digest) {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	if got := fmt.Sprintf("sha256:%s", hex.EncodeToString(sum[:])); got != want.String() {
		t.Fatalf("%d bytes with digest %s, want %s", len(content), got, want)
	}
}
