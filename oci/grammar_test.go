package oci

import (
	"regexp"
	"strings"
	"testing"
)

// The scans that replace regular expressions on every request agree with those
// of the spec on every short string over the characters that matter.
func TestScansAgreeWithTheSpecsExpressions(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tag := regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	var each func(prefix string, left int)
	each = func(prefix string, left int) {
		if _, err := ParseName(prefix); (err == nil) != name.MatchString(prefix) {
			t.Fatalf("ParseName(%q) = %v", prefix, err)
		}
		if _, err := ParseTag(prefix); (err == nil) != tag.MatchString(prefix) {
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
