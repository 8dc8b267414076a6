//go:build real

package s3_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// A real bucket that is set up to remove objects isn't written to until it's set
// up better. That it keeps versions is said.
func settings(t *testing.T, minio *store) {
	bucket := aws.String("removes")
	client := tool.S3(minio.endpoint)
	rules := &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
		ID: aws.String("clean"), Status: types.ExpirationStatusEnabled,
		Filter:     &types.LifecycleRuleFilter{Prefix: aws.String("main/")},
		Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)},
	}}}
	_, err := client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: bucket})
	if err == nil {
		_, err = client.PutBucketLifecycleConfiguration(t.Context(), &awss3.PutBucketLifecycleConfigurationInput{Bucket: bucket, LifecycleConfiguration: rules})
	}
	if err == nil {
		_, err = client.PutBucketVersioning(t.Context(), &awss3.PutBucketVersioningInput{
			Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	at := minio.at(minio.endpoint)
	at.Bucket = *bucket
	ready(t, at, s3.Options{Prefix: "other"})
	s := open(t, at, s3.Options{Prefix: "main"})
	put := func() error {
		_, err := storage.PutBlob(t.Context(), s.Repository(name(t, "a")), digest.FromString("x"), strings.NewReader("x"), storage.UploadOptions{})
		return err
	}
	if err := put(); !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), `the rule "clean" removes objects below main/`) {
		t.Fatalf("writing: %v", err)
	}
	if _, err := client.DeleteBucketLifecycle(t.Context(), &awss3.DeleteBucketLifecycleInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); s.Ready(t.Context()) != nil && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	want := []storage.Verdict{storage.Good, storage.Good, storage.Warning, storage.Good, storage.Good}
	var got []storage.Verdict
	for _, c := range s.Diagnose() {
		got = append(got, c.Verdict)
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %+v", s.Diagnose())
	}
}

// Who only reads sends the store no write, and is ready.
func readOnly(t *testing.T, minio *store) {
	prefix := minio.prefix()
	writer := ready(t, minio.at(minio.endpoint), s3.Options{Prefix: prefix})
	content := strings.Repeat("content ", 10_000)
	d := digest.FromString(content)
	if _, err := storage.PutBlob(t.Context(), writer.Repository(name(t, "a")), d, strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, minio.endpoint)
	_, calls, sent := p.counted(func() {
		s := open(t, minio.at(p.URL), s3.Options{Prefix: prefix, ReadOnly: true})
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		read(t, s.Repository(name(t, "a")), d)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if len(calls) != 1 || calls["GetObject"] == 0 || sent > 0 {
		t.Errorf("it asked for %v, and sent %d bytes", calls, sent)
	}
}
