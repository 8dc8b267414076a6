package storagetest

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Bench measures what clients do most, in a repository of 10, of 1,000 and of
// 20,000 tags: the same work for every store, so their figures compare.
func Bench(b *testing.B, open func(b *testing.B) storage.Store) {
	b.Helper()
	for _, tags := range []int{10, 1000, 20_000} {
		b.Run(fmt.Sprintf("tags=%d", tags), func(b *testing.B) {
			s := open(b)
			closeAfter(b, s)
			r := repository(b, s, "bench/mark")
			fill(b, r, tags)
			for _, m := range measures() {
				b.Run(m.name, func(b *testing.B) { m.run(b, repo{r.Repository, b}) })
			}
		})
	}
}

type measure struct {
	name string
	run  func(b *testing.B, r repo)
}

func measures() []measure {
	return []measure{
		{"stat", benchStat},
		{"open", benchOpen},
		{"resolve", benchResolve},
		{"page", benchPage},
		{"retag", benchRetag},
		{"push", benchPush},
	}
}

// fill makes so many tags, each of a manifest of its own, in changes of a thousand.
func fill(b *testing.B, r repo, tags int) {
	b.Helper()
	r.pushBlob(strings.Repeat("x", 64<<10))
	for done := 0; done < tags; done += 1000 {
		var images []oci.Manifest
		for i := done; i < min(done+1000, tags); i++ {
			images = append(images, image(b, fmt.Sprint(i)))
		}
		r.update(func(e *storage.Edit) {
			for i, m := range images {
				e.Put(m)
				e.Tag(tag(b, fmt.Sprintf("v%06d", done+i)), m.Digest)
			}
		})
	}
}

func benchStat(b *testing.B, r repo) {
	d := digest.FromString(strings.Repeat("x", 64<<10))
	b.ReportAllocs()
	for b.Loop() {
		must(r.StatBlob(b.Context(), d))(b)
	}
}

func benchOpen(b *testing.B, r repo) {
	d := digest.FromString(strings.Repeat("x", 64<<10))
	b.ReportAllocs()
	for b.Loop() {
		blob := must(r.OpenBlob(b.Context(), d))(b)
		if err := blob.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchResolve(b *testing.B, r repo) {
	v := ref(b, "v000005")
	b.ReportAllocs()
	for b.Loop() {
		must(r.Resolve(b.Context(), v))(b)
	}
}

func benchPage(b *testing.B, r repo) {
	after := tag(b, "v000004")
	b.ReportAllocs()
	for b.Loop() {
		if len(tagNames(r.index(), after, 100)) == 0 {
			b.Fatal("no tags")
		}
	}
}

func benchRetag(b *testing.B, r repo) {
	images := []oci.Manifest{image(b, "0"), image(b, "1")}
	opts := storage.PutOptions{Tags: tagList(b, "moving")}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.putManifest(images[n%2], opts)
		n++
	}
}

// benchPush is one whole image: a blob of 64 KiB, and a manifest that names it.
// Each round pushes another one; the tag is one of ten.
func benchPush(b *testing.B, r repo) {
	b.ReportAllocs()
	run, n := rand.Text(), 0 // what an earlier run has pushed is there already
	for b.Loop() {
		n++
		d := r.pushBlob(fmt.Sprint(run, n, strings.Repeat("x", 64<<10)))
		r.putManifest(image(b, fmt.Sprint(run, n), d), storage.PutOptions{Tags: tagList(b, fmt.Sprint("pushed", n%10))})
	}
}
