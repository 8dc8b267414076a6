//go:build real

// Package clients shows that the clients people use work with the real program:
// what they push is there byte for byte, and what they pull is what was pushed.
package clients

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// large is an image like a real one.
var large = image.Large()

// multi is an image for two platforms, whose parts are its two children.
var (
	amd64 = image.Random(1, 2, 9000)
	arm64 = image.New("arm64", image.RandomLayer(2<<8, 8000), image.RandomLayer(1<<8, 9000))
	multi = image.Index(amd64, arm64)
)

// everybody is what a site has that lets everybody do everything.
const everybody = "oci_registry {\n storage memory\n anonymous all\n }"

// logged is a registry for everybody that says what it was asked.
const logged = `{
	admin ADMIN
}
http://HOST {
	log
	oci_registry {
		storage memory
		anonymous all
	}
}
`

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

func decode(t *testing.T, s string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), into); err != nil {
		t.Fatalf("%v: %q", err, s)
	}
}

// copyFile returns the path it has copied a file to, into folders that need not be
// there.
func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, b, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// verified returns the digest that a tag names, after reading all of it.
func verified(t *testing.T, srv *registry.Server, repository, tag string) digest.Digest {
	t.Helper()
	desc, err := srv.Repository(repository).Verify(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

// operations says how often a registry was asked to do something.
func operations(srv *registry.Server, operation string) int {
	n := 0
	for _, r := range srv.Requests() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

// denied fails the test unless a client says that it may not.
func denied(t *testing.T, c *tool.Tool, want string, args ...string) {
	t.Helper()
	if _, err := c.Try(args...); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%q: %v, want %q", args, err, want)
	}
}

// wantWords fails the test unless a client has said something so many times.
func wantWords(t *testing.T, said, want string, times int) {
	t.Helper()
	if got := strings.Count(said, want); got != times {
		t.Fatalf("%d times %q, want %d times:\n%s", got, want, times, said)
	}
}

// wantFiles fails the test unless a tar file has these files among others.
func wantFiles(t *testing.T, archive string, want ...string) {
	t.Helper()
	there := make(map[string]bool)
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		there[header.Name] = true
	}
	for _, name := range want {
		if !there[name] {
			t.Fatalf("there is no %s among %d files", name, len(there))
		}
	}
}
