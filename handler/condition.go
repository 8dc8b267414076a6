package handler

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// maxHeader is the longest value of a header that is read, in bytes: 1,024
// ranges of a large blob take 30 KiB.
const maxHeader = 64 << 10

// headerList returns all lines of a list header as one (RFC 9110, section 5.3). The key
// is in its canonical form.
func headerList(header http.Header, key string) (string, error) {
	lines := header[key]
	if len(lines) == 0 {
		return "", nil
	}
	s := lines[0]
	if len(lines) > 1 {
		s = strings.Join(lines, ",")
	}
	if len(s) > maxHeader {
		return "", oci.WithStatus(http.StatusRequestHeaderFieldsTooLarge, oci.Unsupported,
			"%s has more than %d bytes", key, maxHeader)
	}
	return s, nil
}

// entityTag is the ETag of the content d: its digest, which says it all.
func entityTag(d digest.Digest) string { return `"` + d.String() + `"` }

// strongTags returns the digests that a condition names, for the strong
// comparison of RFC 9110 section 8.8.3.2: a weak tag stays in the list as
// something that equals no digest. The key is in its canonical form.
func strongTags(header http.Header, key string) ([]string, error) {
	return entityTags(header, key, true)
}

// weakTags is strongTags for the weak comparison, where W/ doesn't matter.
func weakTags(header http.Header, key string) ([]string, error) {
	return entityTags(header, key, false)
}

// entityTags reads a header that is "*" or a list of entity tags. A condition
// that can't be read is an error: a client that states one relies on it.
func entityTags(header http.Header, key string, strong bool) ([]string, error) {
	s, err := headerList(header, key)
	if err != nil || s == "" {
		return nil, err
	}
	var tags []string
	for s = trimList(s); s != ""; s = trimList(s) {
		if s[0] == '*' {
			tags, s = append(tags, "*"), s[1:]
			continue
		}
		rest, isWeak := strings.CutPrefix(s, "W/")
		if rest == "" || rest[0] != '"' {
			return nil, badParameter(key + " isn't a list of entity tags")
		}
		tag, after, ok := strings.Cut(rest[1:], `"`)
		if !ok {
			return nil, badParameter(key + " isn't a list of entity tags")
		}
		if isWeak && strong {
			tag = "W/"
		}
		tags, s = append(tags, tag), after
	}
	if len(tags) == 0 {
		return nil, badParameter(key + " isn't a list of entity tags")
	}
	return tags, nil
}

// trimList skips what may stand between the elements of a list.
func trimList(s string) string { return strings.TrimLeft(s, " \t,") }

// matchesTag reports whether one of tags stands for content that exists and is d.
func matchesTag(tags []string, d digest.Digest) bool {
	for _, t := range tags {
		if t == "*" || t == d.String() {
			return true
		}
	}
	return false
}

// refuseConditions keeps a DELETE from ignoring a condition: storage has none there.
func refuseConditions(header http.Header) error {
	for _, key := range []string{"If-Match", "If-None-Match"} {
		if header.Get(key) != "" {
			return badParameter(key + " isn't supported with DELETE")
		}
	}
	return nil
}
