package oci

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Two readers of one manifest see two images: one that is checked, and one that
// is run.
func TestParseManifestRefusesWhatReadersReadDifferently(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		// One takes the first, another the last.
		`{"config":{` + one + `},"config":{` + two + `}}`,
		`{"layers":[{` + one + `}],"layers":[{` + two + `}]}`,
		`{"mediaType":"` + MediaTypeImageManifest + `","mediaType":"` + MediaTypeImageManifest + `"}`,
		`{"config":{` + one + `,` + two + `}}`,
		`{"layers":[{` + one + `},{` + one + `,"size":1,"size":2}]}`,
		`{"annotations":{"a":"1","a":"2"}}`,
		`{"c\u006fnfig":{` + one + `},"config":{` + two + `}}`,
		`{"x":[[{"y":[{"z":1,"z":1}]}]]}`,
		// Go takes it for the one that it isn't, others don't.
		`{"config":{` + one + `},"CONFIG":{` + two + `}}`,
		`{"Config":{` + one + `}}`,
		`{"layers":[{"Digest":"x",` + one + `}]}`,
		`{"layers":[{` + one + `,"SIZE":5}]}`,
		`{"ſubject":{` + one + `}}`, // a long s is an s to encoding/json
		`{"layers":[{` + one + `,"platform":{"OS":"linux"}}]}`,
		`{"MediaType":"` + MediaTypeImageManifest + `"}`,
		`{"Manifests":[]}`,
		`{"\u0043onfig":{` + one + `}}`,
	} {
		wantInvalid(t, MediaTypeImageManifest, raw)
		wantInvalid(t, MediaTypeDockerManifest, raw)
		wantInvalid(t, MediaTypeArtifact, raw)
	}
	wantInvalid(t, MediaTypeImageIndex, `{"manifests":[{`+one+`}],"manifests":[]}`)
	wantInvalid(t, MediaTypeImageIndex, `{"manifests":[{`+one+`,"Platform":{"os":"linux"}}]}`)
	wantInvalid(t, "", `{"MediaType":"`+MediaTypeImageManifest+`"}`)
}

func TestParseManifestKeepsKeysOfOthers(t *testing.T) {
	t.Parallel()
	m := parse(t, MediaTypeImageManifest, `{ "config" : {`+one+`, "annotations":{"Digest":"\"x\\","digest":"y"}} ,
		"x":{"Config":1,"config":[true,false,null,-1.5e+9,""],"CONFIG":{}}, "annotations":{"k":"1","K":"2"},
		"layers":[ {`+two+`,"x-Size":1} ], "history":[{"digest":1},{"digest":2}], "":0, "configs":1, "\ud800":1}`)
	if contents(m.Blobs) != "12" || m.Annotations["k"] != "1" || m.Annotations["K"] != "2" {
		t.Errorf("read as %+v", m)
	}
}

// Types that the registry doesn't know are what they are, unless readers can't
// agree on that.
func TestParseManifestOfUnknownTypesWithOddKeys(t *testing.T) {
	t.Parallel()
	const other = "application/vnd.x.other+json"
	for _, raw := range []string{
		`{"MediaType":"x","Subject":{` + one + `},"Annotations":{"a":"b"},"ArtifactType":"a/b"}`,
		`{"annotations":{"a":"b"},"Subject":{` + one + `}}`,
		`{"subject":{` + one + `,"Digest":"x"}}`,
	} {
		if m := parse(t, other, raw); m.Subject != "" || m.Annotations != nil || m.ArtifactType != "" {
			t.Errorf("%s: read as %+v", raw, m)
		}
	}
	wantInvalid(t, other, `{"mediaType":"`+MediaTypeImageManifest+`","mediaType":"`+other+`"}`)
	wantInvalid(t, other, `{"a":{"b":1,"b":2}}`)
}

// A client that finds the content in the descriptor may use it without a look
// at what the digest is of.
func TestParseManifestRefusesDataOfAnother(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		descriptor string
		valid      bool
	}{
		{`"data":"MQ==","size":1,` + one, true}, // "1"
		{`"data":"Mg==","size":1,` + one, false},
		{`"data":"MQ==","size":2,` + one, false},
		{`"data":"MQ==",` + one, false},
		{`"data":"","size":1,` + one, false},
		{`"data":null,"size":1,` + one, true},
		{`"data":"?","size":1,` + one, false},
		{`"data":"","size":0,"digest":"` + digest.FromString("").String() + `"`, true},
	} {
		for mediaType, raw := range map[string]string{
			MediaTypeImageManifest:  `{"config":{` + c.descriptor + `}}`,
			MediaTypeDockerManifest: `{"layers":[{` + one + `},{` + c.descriptor + `}]}`,
			MediaTypeImageIndex:     `{"manifests":[{` + c.descriptor + `}]}`,
			MediaTypeArtifact:       `{"subject":{` + c.descriptor + `}}`,
		} {
			if _, err := ParseManifest(mediaType, []byte(raw), digest.Canonical); (err == nil) != c.valid {
				t.Errorf("%s as %s: %v", raw, mediaType, err)
			}
		}
	}
}

func TestCheckImage(t *testing.T) {
	t.Parallel()
	for mediaType, needs := range map[string]bool{
		MediaTypeImageManifest: true, MediaTypeDockerManifest: true, MediaTypeArtifact: false, MediaTypeImageIndex: false,
		MediaTypeDockerList: false, "application/x.other": false,
	} {
		for _, raw := range []string{`{}`, `{"config":null}`} {
			m := parse(t, mediaType, raw)
			if err := m.CheckImage(); (err != nil) != needs {
				t.Errorf("%s as %s: %v", raw, mediaType, err)
			}
		}
	}
	m := parse(t, MediaTypeImageManifest, `{"config":{`+one+`},"layers":null}`)
	if err := m.CheckImage(); err != nil {
		t.Error(err)
	}
}

// A large manifest takes far more memory than it has bytes.
func TestParseManifestOfManyKeysTakesLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	const most = 32 // bytes for each one of the manifest
	for name, raw := range map[string]string{
		"layers":      `{"layers":[` + strings.Repeat(`{`+one+`},`, 12_000) + `{` + two + `}]}`,
		"annotations": `{"annotations":{` + manyKeys(48_000) + `}}`,
		"keys":        `{` + manyKeys(48_000) + `}`,
		"objects":     `{"x":[` + strings.Repeat(`{"a":0},`, 130_000) + `0]}`,
		"escapes":     `{"` + strings.Repeat(`\u0061`, 170_000) + `":0}`,
		"data": `{"config":{"data":"` + strings.Repeat("YWFh", 250_000) + `","size":750000,"digest":"` +
			digest.FromString(strings.Repeat("a", 750_000)).String() + `"}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		parse(t, MediaTypeImageManifest, raw)
		runtime.ReadMemStats(&after)
		got := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(raw))
		if t.Logf("%s: %d bytes, %.1f for each", name, len(raw), got); got > most {
			t.Errorf("%s: %.1f bytes of memory for each, want %d at most", name, got, most)
		}
	}
}

// What is refused, or is of a type that isn't read, is so before much memory is taken.
func TestParseManifestTakesNoMemoryForWhatItDoesntRead(t *testing.T) { //nolint:paralleltest // it measures the heap
	const most = 8 // bytes for each one of the manifest
	layers := `{"layers":[` + strings.Repeat(`{},`, 300_000) + `{}]`
	for name, tc := range map[string]struct{ mediaType, raw string }{
		"key twice":        {MediaTypeImageManifest, layers + `,"a":1,"a":2}`},
		"other letters":    {MediaTypeImageManifest, layers + `,"Config":{}}`},
		"another type":     {MediaTypeImageManifest, layers + `,"mediaType":"` + MediaTypeImageIndex + `"}`},
		"unknown type":     {"application/vnd.x.other+json", layers + `}`},
		"no end":           {MediaTypeImageManifest, layers},
		"long keys":        {MediaTypeImageManifest, strings.Repeat("{\""+strings.Repeat("k", 100_000)+"\":", 9) + strings.Repeat("}", 9)},
		"nothing says one": {"", layers + `}`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = ParseManifest(tc.mediaType, []byte(tc.raw), digest.Canonical) // whatever comes of it
		runtime.ReadMemStats(&after)
		got := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(tc.raw))
		if t.Logf("%s: %d bytes, %.1f for each", name, len(tc.raw), got); got > most {
			t.Errorf("%s: %.1f bytes of memory for each, want %d at most", name, got, most)
		}
	}
}

// manyKeys is what an object with n keys holds.
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%016d":"",`, i)
	}
	return b.String() + `"last":""`
}

func BenchmarkParseManifest(b *testing.B) {
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + MediaTypeImageManifest + `","config":{"mediaType":"c","size":1,` + one + `},"layers":[` +
		strings.Repeat(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":1234567,`+one+`},`, 9) +
		`{"mediaType":"l",` + two + `}],"annotations":{"org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}`)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseManifest(MediaTypeImageManifest, raw, digest.Canonical); err != nil {
			b.Fatal(err)
		}
	}
}
