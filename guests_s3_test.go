//go:build !nos3

package ociregistry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestS3StorageRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		s    S3Storage
		want string
	}{
		{"no bucket", S3Storage{}, "has no bucket"},
		{"one key", S3Storage{Bucket: "a", AccessKey: "k"}, "one of access_key and secret_key"},
		{"endpoint", S3Storage{Bucket: "a", Endpoint: "minio:9000"}, `endpoint "minio:9000": want https://host`},
		{"small parts", S3Storage{Bucket: "a", PartSize: 1 << 20}, "no parts of less than 5MiB"},
		{"no such variable", S3Storage{Bucket: "{env.NO_SUCH_BUCKET}"}, `bucket "{env.NO_SUCH_BUCKET}"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if err := tc.s.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// Secrets come from where placeholders point, and what names a place has none.
func TestS3StorageSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := S3Storage{Bucket: "a", Prefix: "/b/", Endpoint: "http://c", AccessKey: "key", SecretKey: "{file." + file + "}"}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if s.at.SecretKey != "hush" || strings.Contains(s.SecretKey, "hush") {
		t.Fatalf("the secret is %q, the option %q", s.at.SecretKey, s.SecretKey)
	}
	if id := s.Identity(); id != "http://c a b" {
		t.Fatalf("it's %q", id)
	}
}
