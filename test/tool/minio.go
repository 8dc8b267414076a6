//go:build real

package tool

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// MinIO's keys.
const (
	MinIOKey    = "minio-for-tests"
	MinIOSecret = "not-a-secret"
)

// MinIO starts a store that speaks S3, empty and on this machine only, and
// returns its URL.
func MinIO(t *testing.T) (endpoint string) {
	t.Helper()
	c := Find(t, "minio")
	c.Env = append(c.Env, "MINIO_ROOT_USER="+MinIOKey, "MINIO_ROOT_PASSWORD="+MinIOSecret,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "CI=true") // no disk of its own
	address := freeAddress(t)
	endpoint = "http://" + address
	server := c.Start("server", "--quiet", "--address", address, c.Dir+"/data")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := server.Until(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/minio/health/ready", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("MinIO isn't ready: %s", strings.ToLower(resp.Status))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// S3 is a client of a store that MinIO has started.
func S3(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(MinIOKey, MinIOSecret, ""),
	})
}

// Bucket makes a bucket in a store that MinIO has started.
func Bucket(t *testing.T, endpoint, name string) {
	t.Helper()
	if _, err := S3(endpoint).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
