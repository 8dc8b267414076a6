package oci

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const (
	one   = `"digest":"sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"` // of "1"
	two   = `"digest":"sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"` // of "2"
	three = `"digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"` // of "3"
)

func parse(t *testing.T, mediaType, raw string) Manifest {
	t.Helper()
	m, err := ParseManifest(mediaType, []byte(raw), digest.Canonical)
	if err != nil {
		t.Fatalf("%s as %q: %v", raw, mediaType, err)
	}
	return m
}

// contents names descriptors by the content that their digest is of.
func contents(descs []Descriptor) string {
	var s strings.Builder
	for _, d := range descs {
		for _, c := range []string{"1", "2", "3"} {
			if d.Digest == digest.FromString(c) {
				s.WriteString(c)
			}
		}
	}
	return s.String()
}

func TestParseManifestReadsWhatItNames(t *testing.T) {
	t.Parallel()
	image := `{"config":{"mediaType":"c",` + one + `,"size":1},"layers":[{"mediaType":"l",` + two + `},{` + three + `}]}`
	children := `{"manifests":[
		{"mediaType":"application/vnd.oci.image.manifest.v1+json",` + one + `},
		{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json",` + two + `},{` + three + `}]}`
	cache := `{"manifests":[
		{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",` + one + `},
		{"mediaType":"application/vnd.oci.image.index.v1+json",` + three + `},
		{"mediaType":"application/vnd.buildkit.cacheconfig.v0",` + two + `}]}`
	for name, c := range map[string]struct {
		mediaType, raw, blobs, manifests string
	}{
		"image manifest":            {MediaTypeImageManifest, image, "123", ""},
		"docker manifest":           {MediaTypeDockerManifest, image, "123", ""},
		"image manifest of nothing": {MediaTypeImageManifest, `{}`, "", ""},
		"image manifest with nulls": {MediaTypeImageManifest, `{"config":null,"layers":null,"manifests":null,"subject":null}`, "", ""},
		"artifact manifest":         {MediaTypeArtifact, `{"blobs":[{` + one + `},{` + two + `}]}`, "12", ""},
		"image index":               {MediaTypeImageIndex, children, "", "123"},
		"docker manifest list":      {MediaTypeDockerList, children, "", "123"},
		"build cache":               {MediaTypeImageIndex, cache, "12", "3"},
		"unknown type":              {"application/x.other", image, "", ""},
	} {
		m := parse(t, c.mediaType, c.raw)
		if got := contents(m.Blobs); got != c.blobs {
			t.Errorf("%s: blobs are %q, want %q", name, got, c.blobs)
		}
		if got := contents(m.Manifests); got != c.manifests {
			t.Errorf("%s: children are %q, want %q", name, got, c.manifests)
		}
		if string(m.Raw) != c.raw || m.Digest != digest.FromString(c.raw) || m.Size != int64(len(c.raw)) || m.MediaType != c.mediaType {
			t.Errorf("%s: described as %s", name, m.String())
		}
	}
}

func TestParseManifestAgreesOnTheMediaType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ header, field, want string }{
		{MediaTypeImageManifest, MediaTypeImageManifest, MediaTypeImageManifest},
		{MediaTypeImageManifest, "", MediaTypeImageManifest},
		{"", MediaTypeImageIndex, MediaTypeImageIndex},
		{MediaTypeImageManifest + "; charset=utf-8", MediaTypeImageManifest, MediaTypeImageManifest},
		{"Application/VND.oci.image.manifest.v1+JSON", MediaTypeImageManifest, MediaTypeImageManifest},
		{"application/x.CamelCase", "application/x.CamelCase", "application/x.CamelCase"},
		{"application/json", "", "application/json"},
	} {
		raw := `{"schemaVersion":2}`
		if c.field != "" {
			raw = `{"mediaType":"` + c.field + `"}`
		}
		if m := parse(t, c.header, raw); m.MediaType != c.want {
			t.Errorf("Content-Type %q with mediaType %q is %q, want %q", c.header, c.field, m.MediaType, c.want)
		}
	}
	for _, c := range []struct{ header, raw string }{
		{"", `{}`},
		{"", `{"mediaType":""}`},
		{"", `{"mediaType":null}`},
		{MediaTypeImageManifest, `{"mediaType":"` + MediaTypeImageIndex + `"}`},
		{MediaTypeImageManifest, `{"mediaType":"` + MediaTypeDockerManifest + `"}`},
		{MediaTypeImageManifest, `{"mediaType":5}`},
		{MediaTypeImageManifest, `{"mediaType":["` + MediaTypeImageManifest + `"]}`},
		{"not a type", `{}`},
		{"a/b; c", `{}`},
		// What is stored has to be a Content-Type when it's served.
		{"", `{"mediaType":"a/b; c=d"}`},
		{"", `{"mediaType":" a/b"}`},
		{"", `{"mediaType":"a/b\r\nX-Injected: yes"}`},
		{"", `{"mediaType":"a/b/c"}`},
	} {
		wantInvalid(t, c.header, c.raw)
	}
}

func wantInvalid(t *testing.T, mediaType, raw string) {
	t.Helper()
	if m, err := ParseManifest(mediaType, []byte(raw), digest.Canonical); !errors.Is(err, ManifestInvalid) {
		t.Errorf("%.200s as %q is %s, %v", raw, mediaType, m.String(), err)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("a", 64)
	for _, raw := range []string{
		``, ` `, `null`, `[]`, `"x"`, `5`, `{`, `{}x`, `{} {}`, `{"a":}`, "{\"a\":\"\x01\"}", "\ufeff{}",
		`{"layers":{}}`, `{"layers":["x"]}`, `{"config":"x"}`, `{"config":[]}`, `{"annotations":{"a":1}}`, `{"annotations":[]}`,
		`{"artifactType":5}`, `{"subject":"x"}`, `{"layers":[{"size":"1",` + one + `}]}`, `{"layers":[{"size":1.5,` + one + `}]}`,
		`{"layers":[{"size":-1,` + one + `}]}`, `{"config":{"size":-9223372036854775808,` + one + `}}`,
		`{"layers":[{"size":9223372036854775808,` + one + `}]}`,
		`{"layers":[{}]}`, `{"layers":[{"digest":""}]}`, `{"layers":[{"digest":"x"}]}`, `{"config":{}}`,
		`{"layers":[{"digest":"md5:` + hex[:32] + `"}]}`, `{"layers":[{"digest":"sha256:` + hex[1:] + `"}]}`,
		`{"layers":[{"digest":"sha256:` + strings.ToUpper(hex) + `"}]}`, `{"layers":[{"digest":"../../etc/passwd"}]}`,
		`{"subject":{"digest":"sha256:x"}}`, `{"subject":{"digest":"latest"}}`, `{"subject":{"size":-1,` + one + `}}`,
		`{"schemaVersion":1}`, `{"schemaVersion":"2"}`, `{"schemaVersion":2.0}`, `{"schemaVersion":null}`, `{"fsLayers":[]}`,
	} {
		wantInvalid(t, MediaTypeImageManifest, raw)
	}
	for _, raw := range []string{
		`{"manifests":{}}`, `{"manifests":[{}]}`, `{"manifests":[{"digest":"x"}]}`, `{"manifests":[{"size":-1,` + one + `}]}`,
		`{"manifests":[{"mediaType":"l","size":-1,` + one + `}]}`,
	} {
		wantInvalid(t, MediaTypeImageIndex, raw)
		wantInvalid(t, MediaTypeDockerList, raw)
	}
}

func TestParseManifestOfUnknownTypes(t *testing.T) {
	t.Parallel()
	const other = "application/vnd.x.other+json"
	for _, raw := range []string{
		`{"config":5,"layers":"x","manifests":{},"blobs":[[]]}`, `{"layers":[{"digest":"x","size":-1}]}`, `{"annotations":[]}`,
		`{"artifactType":{}}`, `{"subject":"x"}`, `{"subject":{"digest":5}}`, `{}`,
	} {
		m := parse(t, other, raw)
		if len(m.Blobs)+len(m.Manifests) > 0 || m.Subject != "" || m.ArtifactType != "" || m.Annotations != nil {
			t.Errorf("%s: read as %+v", raw, m)
		}
	}
	m := parse(t, other, `{"artifactType":"a/b","subject":{`+one+`},"annotations":{"k":"v"},"config":{"mediaType":"c"}}`)
	if m.ArtifactType != "a/b" || m.Subject != digest.FromString("1") || m.Annotations["k"] != "v" {
		t.Errorf("what any manifest may have is read as %+v", m)
	}
	for _, raw := range []string{``, `[]`, `null`, `{`, `{"mediaType":5}`} {
		wantInvalid(t, other, raw)
	}
	wantInvalid(t, other, `{"subject":{"digest":"sha256:x"}}`)
}

func TestParseManifestRefusesDepth(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{MediaTypeImageManifest, MediaTypeImageIndex, "application/x.other"} {
		wantInvalid(t, mediaType, `{"x":`+strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000)+`}`)
		wantInvalid(t, mediaType, strings.Repeat(`{"x":`, 100_000))
		parse(t, mediaType, `{"x":`+strings.Repeat(`[`, 5000)+strings.Repeat(`]`, 5000)+`}`)
	}
}

// CVE-2021-41190: what is an image to one client and an index to another.
func TestParseManifestRefusesWhatIsBothImageAndIndex(t *testing.T) {
	t.Parallel()
	const both = `{"layers":[{` + one + `}],"manifests":[{` + two + `}]}`
	for mediaType, raws := range map[string][]string{
		MediaTypeImageManifest:  {both, `{"manifests":[]}`},
		MediaTypeDockerManifest: {both, `{"manifests":[{` + two + `}]}`},
		MediaTypeImageIndex:     {both, `{"layers":[]}`, `{"config":{` + one + `}}`},
		MediaTypeDockerList:     {both, `{"layers":[{` + one + `}]}`, `{"config":{` + one + `},"manifests":[]}`},
	} {
		for _, raw := range raws {
			if _, err := ParseManifest(mediaType, []byte(raw), digest.Canonical); !errors.Is(err, ManifestInvalid) {
				t.Errorf("%s as %s: error %v, want ManifestInvalid", raw, mediaType, err)
			}
		}
	}
}

func TestParseManifestArtifactType(t *testing.T) {
	t.Parallel()
	const config = `"config":{"mediaType":"application/x.config",` + one + `}`
	for _, c := range []struct{ mediaType, raw, want string }{
		{MediaTypeImageManifest, `{"artifactType":"a/b",` + config + `}`, "a/b"},
		{MediaTypeImageManifest, `{` + config + `}`, "application/x.config"},
		{MediaTypeImageManifest, `{"artifactType":"",` + config + `}`, "application/x.config"},
		{MediaTypeDockerManifest, `{` + config + `}`, "application/x.config"},
		{MediaTypeImageManifest, `{}`, ""},
		{MediaTypeArtifact, `{"artifactType":"a/b"}`, "a/b"},
		{MediaTypeImageIndex, `{"artifactType":"a/b"}`, "a/b"},
		{MediaTypeImageIndex, `{}`, ""},
	} {
		if m := parse(t, c.mediaType, c.raw); m.ArtifactType != c.want {
			t.Errorf("%s as %s has artifact type %q, want %q", c.raw, c.mediaType, m.ArtifactType, c.want)
		}
	}
}

func TestParseManifestSubject(t *testing.T) {
	t.Parallel()
	sha512 := digest.SHA512.FromString("x")
	for _, mediaType := range []string{MediaTypeImageManifest, MediaTypeImageIndex, MediaTypeDockerManifest, MediaTypeArtifact} {
		m := parse(t, mediaType, `{"subject":{"mediaType":"m","digest":"`+sha512.String()+`","size":1},"annotations":{"k":"v"}}`)
		if m.Subject != sha512 || m.Annotations["k"] != "v" {
			t.Errorf("%s: subject %s, annotations %v", mediaType, m.Subject, m.Annotations)
		}
		if m := parse(t, mediaType, `{}`); m.Subject != "" {
			t.Errorf("%s: subject %s", mediaType, m.Subject)
		}
	}
}

func TestParseManifestAlgorithm(t *testing.T) {
	t.Parallel()
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		m, err := ParseManifest(MediaTypeImageManifest, []byte(`{}`), a)
		if err != nil || m.Digest != a.FromString(`{}`) {
			t.Errorf("%s: %s, %v", a, m.Digest, err)
		}
	}
}

func TestRequiredLeavesOutWhatIsElsewhere(t *testing.T) {
	t.Parallel()
	m := parse(t, MediaTypeImageManifest, `{"config":{"mediaType":"c",`+one+`},"subject":{`+three+`},"layers":[
		{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",`+three+`},
		{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",`+three+`},
		{"mediaType":"application/vnd.oci.image.layer.v1.tar",`+two+`}]}`)
	if got := contents(slices.Collect(m.Required())); got != "12" {
		t.Errorf("required are %q, want the config and the last layer", got)
	}
	for b := range m.Required() {
		if contents([]Descriptor{b}) != "1" {
			t.Errorf("the first is %s", b.Digest)
		}
		break
	}
	m = parse(t, MediaTypeImageIndex, `{"manifests":[{"mediaType":"application/x.layer",`+one+`},{"mediaType":"application/x.manifest",`+two+`}]}`)
	if got := contents(slices.Collect(m.Required())); got != "1" {
		t.Errorf("required are %q, want the blob and no child", got)
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	for mediaType, want := range map[string]struct{ manifest, index bool }{
		MediaTypeImageManifest: {true, false}, MediaTypeDockerManifest: {true, false}, MediaTypeArtifact: {true, false},
		MediaTypeImageIndex: {true, true}, MediaTypeDockerList: {true, true},
		MediaTypeBlob: {false, false}, "application/json": {false, false}, "": {false, false},
		"application/vnd.docker.distribution.manifest.v1+json": {false, false},
	} {
		if IsManifest(mediaType) != want.manifest || IsIndex(mediaType) != want.index {
			t.Errorf("%q: manifest %t, image index %t", mediaType, IsManifest(mediaType), IsIndex(mediaType))
		}
	}
}
