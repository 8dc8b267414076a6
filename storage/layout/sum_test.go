package layout

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// Others than SHA-256, and what isn't a digest at all, have their place among them.
func TestSumsSortAsDigests(t *testing.T) {
	t.Parallel()
	one := digest.FromString("1")
	digests := []digest.Digest{
		"", "a", "sha2", "sha256", "sha256:", "sha256:0", "sha25:0", "sha3", "~", "md5:d41d8cd98f00b204e9800998ecf8427e",
		one, digest.FromString("2"), one + "0", one[:len(one)-1], "x" + one, digest.Digest(strings.ToUpper(string(one))),
		digest.Digest("sha256:" + strings.ToUpper(one.Encoded())), digest.Digest("sha256:" + strings.Repeat("0", 64)),
		digest.Digest("sha256:" + strings.Repeat("f", 64)), digest.Digest("sha256:" + strings.Repeat("g", 64)),
		digest.Digest("sha256:" + strings.Repeat("0g", 32)), digest.Digest("sha256:" + strings.Repeat("g0", 32)),
		digest.SHA384.FromString("1"), digest.SHA512.FromString("1"), digest.SHA512.FromString("2"),
	}
	for _, a := range digests {
		if got := sumOf(a).digest(); got != a {
			t.Errorf("%q became %q", a, got)
		}
		for _, b := range digests {
			got, want := sumOf(a).Compare(sumOf(b)), cmp.Compare(a, b)
			if got != want || (sumOf(a) == sumOf(b)) != (a == b) {
				t.Errorf("%q and %q compare as %d, want %d", a, b, got, want)
			}
		}
	}
	if slices.MinFunc(digests, func(a, b digest.Digest) int { return sumOf(a).Compare(sumOf(b)) }) != lowest.digest() {
		t.Error("lowest isn't the least")
	}
}

// FuzzDescriptor: descriptors are written as json.Marshal writes them.
func FuzzDescriptor(f *testing.F) {
	for _, s := range []string{"", "plain/type+json", `"\/`, "</a>&", "\x00\t\n\x1f \x7e\x7f", "é\U0001f4a9", "\xff", "\u2028\u2029\ufffd"} {
		f.Add(s, s+"v", int64(len(s)))
	}
	f.Fuzz(func(t *testing.T, mediaType, name string, size int64) {
		for _, d := range []digest.Digest{digest.FromString(name), digest.SHA512.FromString(name), digest.Digest(mediaType)} {
			desc := oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}
			if name != "" {
				desc.Annotations = map[string]string{refName: name}
			}
			want, err := json.Marshal(desc)
			if err != nil {
				t.Fatal(err)
			}
			if got := descOf(desc).appendDescriptor(nil, sumOf(d), name); string(got) != string(want) {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}
