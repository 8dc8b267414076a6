//go:build real

package move

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// bucketName is what the bucket is called.
const bucketName = "registry"

// bucket is one, in a MinIO that ends with the test.
type bucket struct {
	endpoint string // the store's URL

	client *awss3.Client
	t      *testing.T
}

// newBucket starts a MinIO with an empty bucket.
func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{endpoint: tool.MinIO(t), t: t}
	tool.Bucket(t, b.endpoint, bucketName)
	b.client = tool.S3(b.endpoint)
	return b
}

// env is the environment in which AWS's usual chain finds the keys.
func (b *bucket) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + tool.MinIOKey, "AWS_SECRET_ACCESS_KEY=" + tool.MinIOSecret}
}

// put writes an object.
func (b *bucket) put(key string, body []byte) {
	b.t.Helper()
	_, err := b.client.PutObject(b.t.Context(), &awss3.PutObjectInput{Bucket: aws.String(bucketName), Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		b.t.Fatal(err)
	}
}

// putZot writes a folder that a zot wrote, as a zot has it in a bucket: the bytes
// of a digest lie in one place, and all others are empty.
func (b *bucket) putZot(prefix, folder string) {
	b.t.Helper()
	full := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(filepath.Join(folder, path))
		if err != nil {
			return err
		}
		if strings.Contains(path, "/blobs/") {
			if hex := filepath.Base(path); full[hex] {
				body = nil
			} else {
				full[hex] = true
			}
		}
		b.put(prefix+path, body)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
