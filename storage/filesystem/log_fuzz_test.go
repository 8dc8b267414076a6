package filesystem

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage/layout"
)

// framed is a line of a log with a checksum that fits.
func framed(body string) string {
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(body), castagnoli), body)
}

// goodLog is a log of n records, and where each of them ends.
func goodLog(t *testing.T, n int) (data []byte, records []record, ends []int) {
	t.Helper()
	for i := range n {
		d := digest.FromString(fmt.Sprint(i))
		rec := record{Changes: []change{{Tag: fmt.Sprint("v", i), Digest: d}, {Untag: "x\n"}, {Deleted: d}}}
		if i%5 == 4 {
			rec = record{Fold: d, Base: digest.FromString("base"), Staged: "tmp-x"}
		}
		b, err := encodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		data, records, ends = append(data, b...), append(records, rec), append(ends, len(data)+len(b))
	}
	return data, records, ends
}

// FuzzLogTail: a log that was cut off anywhere, had a byte changed, and garbage
// written behind it, still has every record that was whole before that.
func FuzzLogTail(f *testing.F) {
	f.Add(uint8(0), uint16(0), byte(0), []byte(nil))
	f.Add(uint8(3), uint16(100), byte(0), []byte("00000000 {"))
	f.Add(uint8(7), uint16(65535), byte(1), []byte("\n\n"))
	f.Add(uint8(7), uint16(300), byte('\n'), []byte(framed(`{"changes":[{"untag":"v1"}]}`)))
	f.Add(uint8(2), uint16(10), byte(0xff), []byte(framed(`{"fold":5}`)+framed(`{}`)))
	f.Add(uint8(9), uint16(500), byte(' '), []byte("deadbeef {}\n"+framed(`[]`)))
	f.Fuzz(func(t *testing.T, n uint8, at uint16, flip byte, tail []byte) {
		data, records, ends := goodLog(t, int(n%16))
		cut := min(int(at), len(data))
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		data = append(append(data[:cut:cut], flip), tail...)
		got, end, err := parseLog(data)
		if len(got) < whole || whole > 0 && !reflect.DeepEqual(got[:whole], records[:whole]) {
			t.Fatalf("of %d whole records there are %d: %v", whole, len(got), err)
		}
		if end > int64(len(data)) || whole > 0 && end < int64(ends[whole-1]) {
			t.Fatalf("the last of %d whole records ends at %d", whole, end)
		}
		if bytes.IndexByte(data[cut:], '\n') < 0 && (len(got) != whole || err != nil) {
			t.Fatalf("a torn end is read as %d records more, %v", len(got)-whole, err)
		}
	})
}

// FuzzLog: whatever a log is, what is good of it is all there is to its first
// part; and what comes of it can be written and read again.
func FuzzLog(f *testing.F) {
	d := digest.FromString("x").String()
	for _, s := range []string{
		"", "\n", "x", "00000000 \n", framed(``), framed(`{}`), framed(`null`), framed(`{"changes":[{}]}`),
		framed(`{"changes":[{"put":{"digest":"` + d + `","mediaType":"m","size":1}},{"tag":"v1","digest":"` + d + `"}]}`),
		framed(`{"changes":[{"put":{"digest":"x"}}]}`), framed(`{"changes":[{"tag":"-","digest":"` + d + `"}]}`), framed(`{"changes":[{"mount":"x"}]}`),
		framed(`{"changes":[{"tag":"v1","digest":"` + d + `"},{"untag":"v1"},{"delete":"` + d + `"}]}`),
		framed(`{"fold":"` + d + `","base":"` + d + `","staged":"../../x"}`),
		framed(`{}`) + "bad\n" + framed(`{}`), "bad\n" + framed(`{}`) + "torn", framed(`{}`) + "bad\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Add([]byte(`{"changes":[{"put":{"digest":"`+d+`"}},{"tag":"v1","digest":"`+d+`"}]}`+"\n"+`{"changes":[{"delete":"`+d+`"}]}`), true)
	f.Fuzz(func(t *testing.T, data []byte, frame bool) {
		if frame { // no fuzzer finds a checksum
			var whole []byte
			for body := range bytes.SplitSeq(data, []byte("\n")) {
				whole = append(whole, framed(string(body))...)
			}
			data = whole
		}
		records, end, err := parseLog(data)
		again, sameEnd, aerr := parseLog(data[:end])
		if aerr != nil || sameEnd != end || !reflect.DeepEqual(again, records) {
			t.Fatalf("%d records up to %d (%v), and alone %d up to %d, %v", len(records), end, err, len(again), sameEnd, aerr)
		}
		if err != nil && end == int64(len(data)) {
			t.Fatalf("%v, and it's all good", err)
		}
		i := layout.New()
		for _, rec := range records {
			changes, unknown := toStorage(rec.Changes)
			if unknown != nil {
				return
			}
			i = i.Replay(changes)
		}
		back, err := layout.Decode(i.Bytes())
		if err != nil || !bytes.Equal(back.Bytes(), i.Bytes()) {
			t.Fatalf("it makes\n%s\nwhich is read as %v", i.Bytes(), err)
		}
	})
}
