//go:build real

package s3_test

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// What is dropped and what is given up goes from a real store, in as many rounds
// as it takes, and what is named stays. The rounds are those of a later time.
func sweep(t *testing.T, minio *store) {
	s := ready(t, minio.at(minio.endpoint), s3.Options{Prefix: minio.prefix(), PartSize: 5 << 20})
	r := s.Repository(name(t, "a"))
	push := func(content string) digest.Digest {
		t.Helper()
		d := digest.FromString(content)
		if _, err := storage.PutBlob(t.Context(), r, d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	small, large := strings.Repeat("small ", 10_000), strings.Repeat("large ", 2_000_000)
	kept := []digest.Digest{push(small), push(large)}
	for _, content := range []string{"x" + small, "x" + large} {
		if err := storage.DeleteBlob(t.Context(), r, push(content), ""); err != nil {
			t.Fatal(err)
		}
	}
	u, err := r.NewUpload(t.Context(), storage.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = u.Append(t.Context(), 0, io.LimitReader(&numbers{left: 12 << 20}, 12<<20)); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	found := make(map[storage.SweptKind]int)
	for range 3 {
		for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(time.Hour)}) {
			if err != nil {
				t.Fatal(err)
			}
			found[what.Kind]++
		}
	}
	if found[storage.SweptUpload] != 1 || found[storage.SweptBlob] != 3 { // the third is what the session had beside its parts
		t.Errorf("found %v", found)
	}
	if _, err := r.ResumeUpload(t.Context(), u.ID()); !errors.Is(err, oci.BlobUploadUnknown) {
		t.Errorf("the session: %v", err)
	}
	for _, d := range kept {
		read(t, r, d)
	}
}

// Objects that nothing names are condemned in one round, and removed by the first
// one after the grace, a thousand a call. How long that takes is in the log.
func manyOrphans(t *testing.T, minio *store) {
	n, prefix := tool.Sized(1_500, 100_000), minio.prefix()
	orphans(t, minio, prefix, n)
	p := newProxy(t, minio.endpoint)
	s := ready(t, minio.at(p.URL), s3.Options{Prefix: prefix})
	removed := 0
	for _, what := range []string{"condemned", "removed"} {
		begun := time.Now()
		_, calls, _ := p.counted(func() {
			for swept, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(time.Hour)}) {
				if err != nil {
					t.Fatal(err)
				}
				if swept.Kind == storage.SweptBlob {
					removed++
				}
			}
		})
		_, peak, err := tool.Memory(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d orphans %s in %v, with the calls %v; the process had at most %d MB", n, what, time.Since(begun).Round(time.Millisecond), calls, peak/1e6)
	}
	if removed != n {
		t.Errorf("%d removed, want %d", removed, n)
	}
}

// orphans puts objects into a bucket that nothing names.
func orphans(t *testing.T, minio *store, prefix string, n int) {
	t.Helper()
	client := tool.S3(minio.endpoint)
	var group errgroup.Group
	group.SetLimit(16)
	for range n {
		group.Go(func() error {
			_, err := client.PutObject(t.Context(), &awss3.PutObjectInput{
				Bucket: aws.String("registry"), Key: aws.String(prefix + "/data/" + rand.Text()), Body: strings.NewReader("orphan"),
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
