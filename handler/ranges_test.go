package handler

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseRanges(t *testing.T) {
	t.Parallel()
	many := func(n int) string { return "bytes=" + strings.TrimSuffix(strings.Repeat("0-0,", n), ",") }
	for _, tc := range []struct {
		header string
		want   []byteRange
		err    error
	}{
		{"bytes=0-0", []byteRange{{0, 1}}, nil},
		{"bytes=0-", []byteRange{{0, 100}}, nil},
		{"bytes=90-200", []byteRange{{90, 10}}, nil},
		{"bytes=-10", []byteRange{{90, 10}}, nil},
		{"bytes=-1000", []byteRange{{0, 100}}, nil},
		{"Bytes= 5-9 ,, 1-2 ", []byteRange{{5, 5}, {1, 2}}, nil},
		{"bytes=5-99999999999999999999999", []byteRange{{5, 95}}, nil},

		// Overlapping ones become one, in the place of the first; touching ones don't.
		{"bytes=0-9,5-14", []byteRange{{0, 15}}, nil},
		{"bytes=50-59,0-9,55-69", []byteRange{{50, 20}, {0, 10}}, nil},
		{"bytes=20-29,0-99,3-4", []byteRange{{0, 100}}, nil},
		{"bytes=0-9,10-19", []byteRange{{0, 10}, {10, 10}}, nil},
		{"bytes=10-19,0-9", []byteRange{{10, 10}, {0, 10}}, nil},
		{"bytes=200-,0-9", []byteRange{{0, 10}}, nil},
		{many(maxRanges), []byteRange{{0, 1}}, nil},

		// Ignored: the whole content is sent.
		{"", nil, nil},
		{"bytes", nil, nil},
		{"bytes=", nil, nil},
		{"bytes=,", nil, nil},
		{"lines=0-9", nil, nil},
		{"bytes=a-b", nil, nil},
		{"bytes=-", nil, nil},
		{"bytes=5", nil, nil},
		{"bytes=+5-9", nil, nil},
		{"bytes=0-9,x", nil, nil},
		{"bytes=1--2", nil, nil},

		{"bytes=100-", nil, errUnsatisfiable},
		{"bytes=100-200", nil, errUnsatisfiable},
		{"bytes=-0", nil, errUnsatisfiable},
		{"bytes=9-5", nil, errUnsatisfiable},
		{"bytes=99999999999999999999999-", nil, errUnsatisfiable},
		{many(maxRanges + 1), nil, errTooManyRanges},
	} {
		got, err := parseRanges(tc.header, 100)
		if !errors.Is(err, tc.err) || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v; want %v, %v", clip(tc.header), got, err, tc.want, tc.err)
		}
	}
	if got, err := parseRanges("bytes=0-9", 0); got != nil || err != nil {
		t.Errorf("of empty content: %v, %v; want all of it", got, err)
	}
}

// FuzzRanges compares parseRanges with one byte at a time.
func FuzzRanges(f *testing.F) {
	for _, s := range []string{
		"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=0-9,5-14,20-29", "bytes=9-5", "bytes=7-8,1-2", "lines=1-2", "bytes=,1-1,",
	} {
		f.Add(s, uint8(20))
	}
	f.Fuzz(func(t *testing.T, header string, n uint8) {
		size := int64(n)
		got, err := parseRanges(header, size)
		if err != nil && got != nil {
			t.Fatalf("both ranges %v and %v", got, err)
		}
		if len(got) > maxRanges {
			t.Fatalf("%d ranges", len(got))
		}
		have := make([]int, size)
		for _, r := range got {
			if r.start < 0 || r.length <= 0 || r.end() > size {
				t.Fatalf("%q of %d bytes: range %v", header, size, r)
			}
			for i := r.start; i < r.end(); i++ {
				have[i]++
			}
		}
		want, ok := bytesWanted(header, size)
		if !ok {
			return // malformed; the tables say what then
		}
		for i := range have {
			if err == nil && got != nil && have[i] != want[i] {
				t.Fatalf("%q of %d bytes: %v has byte %d %d times, want %d", header, size, got, i, have[i], want[i])
			}
		}
		if errors.Is(err, errUnsatisfiable) && slices.Contains(want, 1) {
			t.Fatalf("%q of %d bytes is satisfiable", header, size)
		}
	})
}

// bytesWanted says of each byte whether a well-formed header asks for it.
func bytesWanted(header string, size int64) (want []int, ok bool) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return nil, false
	}
	want = make([]int, size)
	for spec := range strings.SplitSeq(list, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue
		}
		first, last, _ := strings.Cut(spec, "-")
		a, errA := strconv.ParseUint(first, 10, 32)
		b, errB := strconv.ParseUint(last, 10, 32)
		switch {
		case errA == nil && last == "":
			b = uint64(size)
		case first == "" && errB == nil:
			a, b = uint64(max(size-int64(b), 0)), uint64(size)
		case errA != nil || errB != nil || fmt.Sprintf("%s-%s", first, last) != spec:
			return nil, false
		}
		for i := a; i <= b && i < uint64(size); i++ {
			want[i] = 1
		}
	}
	return want, true
}
