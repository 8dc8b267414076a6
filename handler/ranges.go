package handler

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-oci/oci-registry/oci"
)

// maxRanges is how many ranges one request may ask for. podman asks for as many
// in one go when it pulls the parts of a zstd:chunked layer that it hasn't got,
// and for half of them after a 400.
const maxRanges = 1024

// byteRange is a part of some content. Its length is never zero.
type byteRange struct{ start, length int64 }

func (b byteRange) end() int64 { return b.start + b.length }

var (
	errTooManyRanges = oci.WithStatus(http.StatusBadRequest, oci.Unsupported, "more than %d ranges", maxRanges)
	errUnsatisfiable = oci.WithStatus(http.StatusRequestedRangeNotSatisfiable, oci.Unsupported, "no such range")
)

// parseRanges reads a Range header (RFC 9110, section 14.2) for content of size
// bytes. It returns nothing, which stands for all of the content, if the header
// is empty, malformed or in another unit; errUnsatisfiable if no range of it
// lies in the content. Of empty content any range is all of it.
//
// The ranges are in the order asked for and don't overlap: those that would are
// made one. Those that only touch stay apart, since podman counts the parts.
func parseRanges(header string, size int64) ([]byteRange, error) {
	unit, list, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || size == 0 {
		return nil, nil
	}
	var ranges []byteRange
	asked := 0
	for spec := range strings.SplitSeq(list, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue
		}
		r, ok := parseRange(spec, size)
		if !ok {
			return nil, nil
		}
		if asked++; asked > maxRanges {
			return nil, errTooManyRanges
		}
		if r.length > 0 {
			ranges = append(ranges, r)
		}
	}
	switch {
	case asked == 0:
		return nil, nil
	case len(ranges) == 0:
		return nil, errUnsatisfiable
	}
	return coalesce(ranges), nil
}

// parseRange reads first-last, first- or -suffix. A range that isn't
// satisfiable has length zero; so has one that ends before it begins, which a
// server may ignore or reject, and clients expect to be rejected.
func parseRange(spec string, size int64) (byteRange, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return byteRange{}, false
	}
	if first == "" {
		suffix, isNumber := parsePosition(last)
		start := max(size-suffix, 0)
		return byteRange{start, size - start}, isNumber
	}
	start, ok := parsePosition(first)
	if !ok {
		return byteRange{}, false
	}
	end := size
	if last != "" {
		if end, ok = parsePosition(last); !ok {
			return byteRange{}, false
		}
		end = min(end, size-1) + 1
	}
	return byteRange{start, max(end-start, 0)}, true
}

// parsePosition reads digits. What is far beyond any content is as good as the
// last position there can be.
func parsePosition(s string) (n int64, ok bool) {
	const farthest = 1 << 59 // ten times that is still an int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(10*n+int64(s[i]-'0'), farthest)
	}
	return n, s != ""
}

// coalesce makes one of ranges that overlap, in the place of the first of them:
// without it a short request could ask for the same gigabyte a thousand times.
func coalesce(ranges []byteRange) []byteRange {
	if len(ranges) < 2 {
		return ranges
	}
	type ordered struct {
		byteRange
		place int
	}
	byStart := make([]ordered, len(ranges))
	for i, r := range ranges {
		byStart[i] = ordered{r, i}
	}
	slices.SortStableFunc(byStart, func(a, b ordered) int { return cmp.Compare(a.start, b.start) })
	merged := byStart[:1]
	for _, r := range byStart[1:] {
		last := &merged[len(merged)-1]
		if r.start >= last.end() {
			merged = append(merged, r)
			continue
		}
		last.length = max(last.end(), r.end()) - last.start
		last.place = min(last.place, r.place)
	}
	slices.SortFunc(merged, func(a, b ordered) int { return cmp.Compare(a.place, b.place) })
	ranges = ranges[:len(merged)]
	for i, r := range merged {
		ranges[i] = r.byteRange
	}
	return ranges
}
