package oci

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseNameAccepts(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"a", "0", "library/ubuntu", "a/b/c/d/e", "a-b", "a--b", "a---b", "a.b", "a_b", "a__b", "a-b.c_d__e", "0.1-2",
		strings.Repeat("a", 255), strings.Repeat("a/", 127) + "a",
		// Reserved only below another component.
		"blobs", "index.json", "oci-layout", "blobs/sha256", "index.json/a",
		// Not the reserved names themselves.
		"a/blob", "a/blobs2", "a/index.jso", "a/xindex.json", "a/oci-layouts",
	} {
		n, err := ParseName(s)
		if err != nil || n.String() != s || n.IsZero() {
			t.Errorf("ParseName(%q) = %q, %v", s, n, err)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "a..b", "a___b", "a._b", "a-.b", "a.-b",
		"-a", "a-", ".a", "a.", "_a", "a_", "__a", "a/-b", "a/b-", "a/_b", "A", "a/B", "aB", "é", "a b", " a", "a ", "a\n", "\na",
		"a\x00b", "a\\b", "a:b", "a@b", "a%2fb", "a+b", "a~b", strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a",
		"a/blobs", "a/b/blobs", "a/blobs/sha256", "a/index.json", "a/index.json/b", "a/oci-layout", "blobs/blobs",
	} {
		n, err := ParseName(s)
		if !errors.Is(err, NameInvalid) || !n.IsZero() {
			t.Errorf("ParseName(%q) = %q, %v", s, n, err)
		}
	}
}

func TestNamesAreOrderedByBytes(t *testing.T) {
	t.Parallel()
	names := []string{"a", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "b"}
	for i, a := range names {
		for j, b := range names {
			x, errX := ParseName(a)
			y, errY := ParseName(b)
			if err := errors.Join(errX, errY); err != nil {
				t.Fatal(err)
			}
			if got, want := x.Compare(y), compare(i, j); got != want {
				t.Errorf("%s.Compare(%s) = %d, want %d", a, b, got, want)
			}
		}
	}
	if a, err := ParseName("a"); err != nil || (Name{}).Compare(a) >= 0 {
		t.Errorf("the zero Name isn't before %s: %v", a, err)
	}
}

func compare(i, j int) int {
	switch {
	case i < j:
		return -1
	case i > j:
		return 1
	}
	return 0
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a/blobs", "..", "a__b", "index.json", "a//b", "A", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if !errors.Is(err, NameInvalid) || !n.IsZero() {
				t.Fatalf("ParseName(%q) = %q, %v", s, n, err)
			}
			return
		}
		if n.String() != s {
			t.Fatalf("ParseName(%q).String() = %q", s, n)
		}
		if !filepath.IsLocal(s) || strings.HasPrefix(s, "_") || len(s) > 255 {
			t.Fatalf("%q isn't safe in a path", s)
		}
		for i, c := range strings.Split(s, "/") {
			if c == "" || c[0] == '.' || i > 0 && (c == "blobs" || c == "index.json" || c == "oci-layout") {
				t.Fatalf("%q has the component %q", s, c)
			}
		}
	})
}
