package versioned_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/versioned"
)

func TestPack(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, want := range [][]byte{nil, []byte("x"), []byte("a\nb\n"), bytes.Repeat([]byte{0}, versioned.MaxValue)} {
		packed, version, err := versioned.Pack("a/b", want)
		if err != nil || seen[version] {
			t.Fatalf("pack: version %q, %v", version, err)
		}
		seen[version] = true
		got, is, err := versioned.Unpack(packed)
		if err != nil || is != version || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of version %q, %v; want %d of %q", len(got), is, err, len(want), version)
		}
	}
	if _, _, err := versioned.Pack("a", make([]byte, versioned.MaxValue+1)); err == nil {
		t.Error("a value that's too large was packed")
	}
	if _, _, err := versioned.Pack("A", nil); err == nil {
		t.Error("a value without a key was packed")
	}
	for _, bad := range []string{"", "x", "x\ny", strings.Repeat("x", versioned.VersionSize)} {
		if value, version, err := versioned.Unpack([]byte(bad)); err == nil {
			t.Errorf("%q is %q of version %q", bad, value, version)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"a", "a/b", "token/keys-2/0", "-", "tmp-x"} {
		if err := versioned.CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		name := versioned.Name(key)
		if got, ok := versioned.Key(name); !ok || got != key || strings.Contains(name, "/") {
			t.Errorf("%q has the name %q, which is that of %q, %t", key, name, got, ok)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", "A", "a.b", "..", "a b", "a\x00", "ä", strings.Repeat("a", 201)} {
		if versioned.CheckKey(bad) == nil {
			t.Errorf("%q is a key", bad)
		}
	}
	for _, bad := range []string{"tmp-ABC", "a/b", "a..b", ".a", "", ".."} {
		if key, ok := versioned.Key(bad); ok {
			t.Errorf("%q is the name of %q", bad, key)
		}
	}
}

func TestUnder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key, prefix string
		want        bool
	}{
		{"a", "", true},
		{"a/b", "a", true},
		{"a", "a", true},
		{"ab", "a", false},
		{"a", "a/b", false},
		{"a/bc", "a/b", false},
	} {
		if got := versioned.Under(c.key, c.prefix); got != c.want {
			t.Errorf("%q is under %q: %t", c.key, c.prefix, got)
		}
	}
}
