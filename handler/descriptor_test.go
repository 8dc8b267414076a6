package handler

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
)

func descriptors() map[string]oci.Descriptor {
	d := digest.FromString("x")
	return map[string]oci.Descriptor{
		"zero":        {},
		"plain":       {MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 12345},
		"artifact":    {MediaType: ocispec.MediaTypeImageManifest, Digest: d, ArtifactType: "application/vnd.example+json"},
		"annotations": {Digest: d, Annotations: map[string]string{"b": "2", "a": "1", "": "", "c": "3"}},
		"escaped":     {MediaType: "a\"b\\c<d>&e\x00\n\u2028é\xff", Annotations: map[string]string{"k\t": "\x7f", "<": ">"}},
		"no more":     {Digest: d, Annotations: map[string]string{}, URLs: []string{}},
		"all": {
			MediaType: "t", Digest: d, Size: -1, URLs: []string{"https://example.com/?a&b"}, Data: []byte("data"), ArtifactType: "u",
			Annotations: map[string]string{"k": "v"}, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"},
		},
	}
}

func TestAppendDescriptorIsMarshal(t *testing.T) {
	t.Parallel()
	for name, desc := range descriptors() {
		want, err := json.Marshal(desc)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendDescriptor([]byte("["), desc)
		if err != nil || string(got) != "["+string(want) {
			t.Errorf("%s: %s, %v, want [%s", name, got, err, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"", "\\", "<&>", "\x00", "é", "\xff", "\u2029"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); string(got) != string(want) {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func BenchmarkAppendDescriptor(b *testing.B) {
	desc := descriptors()["artifact"]
	desc.Annotations = map[string]string{"org.opencontainers.image.created": "2026-01-01T00:00:00Z", "serial": "1"}
	list := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendDescriptor(list, desc); err != nil {
			b.Fatal(err)
		}
	}
}
