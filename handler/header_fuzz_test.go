package handler

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzContentRange compares parseContentRange with the spec's grammar, and what
// it accepts comes back as it was.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{
		"0-0", "0-15", "16-31", "bytes 0-15/16", "bytes 0-15/*", "bytes 0-15", "bytes=0-15", "15-0", "-5", "5-", "0--1", "+1-2", "0-4611686018427387903",
		"4611686018427387903-4611686018427387903", "0-4611686018427387904", "00-01", "0_0-1", "0 - 1", "bytes  0-1/2", "bytes bytes 0-1/2", "1-2/3", "",
	} {
		f.Add(s)
	}
	grammar := regexp.MustCompile(`^(?:([0-9]+)-([0-9]+)|bytes ([0-9]+)-([0-9]+)(?s:/.*)?)$`)
	f.Fuzz(func(t *testing.T, s string) {
		start, length, ok := parseContentRange(s)
		m := grammar.FindStringSubmatch(s)
		if !ok {
			if m != nil && tidy(m[1]+m[3]) && tidy(m[2]+m[4]) && compareNumbers(m[1]+m[3], m[2]+m[4]) <= 0 {
				t.Fatalf("%q is refused", s)
			}
			return
		}
		if m == nil || strconv.FormatInt(start, 10) != trimZeros(m[1]+m[3]) || strconv.FormatInt(start+length-1, 10) != trimZeros(m[2]+m[4]) {
			t.Fatalf("%q is %d bytes from %d on", s, length, start)
		}
		if length < 1 || start < 0 || start+length < start {
			t.Fatalf("%q is %d bytes from %d on", s, length, start)
		}
	})
}

// tidy reports whether a number has less than 62 bits for certain.
func tidy(digits string) bool { return len(trimZeros(digits)) <= 18 }

func trimZeros(digits string) string {
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		return "0"
	}
	return digits
}

func compareNumbers(a, b string) int {
	a, b = trimZeros(a), trimZeros(b)
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// FuzzEntityTags compares entityTags with the grammar of RFC 9110, section 8.8.3,
// but for what may separate the elements.
func FuzzEntityTags(f *testing.F) {
	for _, s := range []string{
		`*`, `"a"`, `W/"a"`, `"a", "b"`, `"a""b"`, `"a",,W/"b" ,`, `"`, `W/`, `w/"a"`, `a`, `"a" b`, ` `, `,`, `*,"a"`, "\"\"", `"` + aDigest + `"`,
		`"a,b"`, "\"\x00\"", `W/*`, `"a"W/"b"`, ``,
	} {
		f.Add(s)
	}
	element := regexp.MustCompile(`^(?s:\*|(W/)?"([^"]*)")[ \t,]*`)
	f.Fuzz(func(t *testing.T, s string) {
		var strong, weak []string
		valid := true
		for rest := strings.TrimLeft(s, " \t,"); rest != "" && valid; {
			m := element.FindStringSubmatch(rest)
			if valid = m != nil; !valid {
				break
			}
			tag, opaque := m[2], m[2]
			if rest[0] == '*' {
				tag, opaque = "*", "*"
			} else if m[1] != "" {
				opaque = "W/"
			}
			strong, weak, rest = append(strong, opaque), append(weak, tag), rest[len(m[0]):]
		}
		header := http.Header{"If-Match": {s}}
		for name, c := range map[string]struct {
			parse func(http.Header, string) ([]string, error)
			want  []string
		}{"strong": {strongTags, strong}, "weak": {weakTags, weak}} {
			got, err := c.parse(header, "If-Match")
			if (err == nil) != (valid && len(c.want) > 0 || s == "") && len(s) <= maxHeader {
				t.Fatalf("%s: %q is %q, %v", name, s, got, err)
			}
			if err == nil && !slices.Equal(got, c.want) {
				t.Fatalf("%s: %q is %q, want %q", name, s, got, c.want)
			}
			// One that can't be written can't be met.
			if d := digest.Digest(aDigest); err == nil && matchesTag(got, d) != (slices.Contains(c.want, "*") || slices.Contains(c.want, aDigest)) {
				t.Fatalf("%s: %q matches %s: %t", name, s, d, matchesTag(got, d))
			}
		}
	})
}
