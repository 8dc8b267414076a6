package s3

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// By default a tag is what it is in the bucket. If it may be older it's asked for
// again in time, and one that isn't known is always asked for.
func TestTagsFreshFor(t *testing.T) {
	t.Parallel()
	for name, within := range map[string]time.Duration{"asks": 0, "waits": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				writer, reader := openOn(t, f, Options{}), openOn(t, f, Options{TagsFreshFor: within})
				put := func(title, tag string) digest.Digest {
					t.Helper()
					m := imageOf(t, title, pushText(t, writer, 10))
					if err := storage.PutManifest(t.Context(), writer.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag(tag)}}); err != nil {
						t.Fatal(err)
					}
					return m.Digest
				}
				wantTag := func(tag string, want digest.Digest) {
					t.Helper()
					desc, err := reader.Repository(app).Resolve(t.Context(), oci.TagRef(mustTag(tag)))
					if err != nil || desc.Digest != want {
						t.Fatalf("%s is %s, %v, want %s", tag, desc.Digest, err, want)
					}
				}
				first := put("first", "v1")
				wantTag("v1", first)
				time.Sleep(within / 2)
				second := put("second", "v1")
				if within == 0 {
					wantTag("v1", second)
				} else {
					wantTag("v1", first)
				}
				third := put("third", "v2")
				wantTag("v2", third)
				wantTag("v1", second) // for the whole record was read
				fourth := put("fourth", "v1")
				time.Sleep(within)
				wantTag("v1", fourth)
			})
		})
	}
}
