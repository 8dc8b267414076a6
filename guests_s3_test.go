//go:build !nos3

package ociregistry

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
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
		{"public endpoint", S3Storage{Bucket: "a", Redirect: "always", PublicEndpoint: "s3.example.com"}, `public_endpoint "s3.example.com": want https://host`},
		{"no redirects", S3Storage{Bucket: "a", PublicEndpoint: "https://s3.example.com"}, "add 'redirect always'"},
		{"no redirects that live", S3Storage{Bucket: "a", Redirect: "off", RedirectLife: caddy.Duration(time.Hour)}, "add 'redirect always'"},
		{"redirect", S3Storage{Bucket: "a", Redirect: "sometimes"}, `redirect "sometimes": want off, always, or a size`},
		{"short life", S3Storage{Bucket: "a", Redirect: "1MiB", RedirectLife: caddy.Duration(time.Second)}, "redirect_life is 1s"},
		{"long life", S3Storage{Bucket: "a", Redirect: "1MiB", RedirectLife: caddy.Duration(170 * time.Hour)}, "seven days"},
		{"many parts", S3Storage{Bucket: "a", Concurrency: 65}, "want 1 to 64 parts"},
		{"negative", S3Storage{Bucket: "a", RetryFor: -1}, "not negative"},
		{"no certificates", S3Storage{Bucket: "a", CA: "go.mod"}, "ca: go.mod has no certificate"},
		{"no such file", S3Storage{Bucket: "a", CA: "nosuch.pem"}, "ca: open nosuch.pem"},
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

// What is said of a bucket is what its store is opened with.
func TestS3StorageOptions(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := S3Storage{
		Bucket: "a", Prefix: "b", CA: ca, PartSize: 8 << 20, Concurrency: 3, RetryFor: caddy.Duration(time.Minute),
		TagsFreshFor: caddy.Duration(time.Second), Redirect: "1MiB", RedirectLife: caddy.Duration(time.Hour),
		PublicEndpoint: "https://s3.example.com", SingleWriter: true,
	}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	s.onlyRead()
	want := s3.Options{
		Prefix: "b", PartSize: 8 << 20, PartsAtOnce: 3, RetryFor: time.Minute, TagsFreshFor: time.Second,
		RedirectFrom: 1 << 20, RedirectLife: time.Hour, SingleWriter: true, ReadOnly: true, Log: s.log, Memory: serverMemory,
	}
	if got := s.options(); got != want {
		t.Errorf("options %+v, want %+v", got, want)
	}
	if _, err := srv.Certificate().Verify(x509.VerifyOptions{Roots: s.at.RootCAs}); err != nil || s.at.PublicEndpoint != "https://s3.example.com" {
		t.Errorf("it's at %+v, whose certificate: %v", s.at, err)
	}
	for word, from := range map[string]int64{"": 0, "off": 0, "always": 1, "4096": 4096} {
		if got, err := parseRedirect(word); got != from || err != nil {
			t.Errorf("redirect %s is from %d on, %v, want %d", word, got, err, from)
		}
	}
}

// Each option has its row in the table of the documentation.
func TestS3OptionsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A bucket\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		for _, option := range regexp.MustCompile("`([a-z0-9_]+)").FindAllStringSubmatch(row[1], -1) {
			got = append(got, option[1])
		}
	}
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(new(S3Storage).caddyfileOptions())); !slices.Equal(got, want) {
		t.Errorf("documented are %q, want %q", got, want)
	}
}

// What a bucket was found to be is told by the admin API and the metrics. A
// registry that's read-only writes nothing for that, and is ready.
func TestS3ReadOnlyIsDiagnosed(t *testing.T) {
	store := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if r.URL.Query().Has("versioning") {
			_, _ = io.WriteString(rw, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
			return
		}
		rw.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(rw, "<Error><Code>NoSuchKey</Code></Error>")
	}))
	defer store.Close()
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", "oci_registry {\nread_only\nstorage s3 {\nbucket a\npath_style\nendpoint "+store.URL+
		"\naccess_key k\nsecret_key s\n}\n}")
	var got status
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); { // the bucket is looked at beside serving
		decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/inline", ""), &got)
		if !slices.ContainsFunc(got.Checks, func(c storage.Check) bool { return c.Verdict == storage.Pending }) {
			break
		}
	}
	verdicts := make(map[string]storage.Verdict)
	for _, c := range got.Checks {
		verdicts[c.Name] = c.Verdict
	}
	want := map[string]storage.Verdict{
		"conditions": storage.Unknown, "lifecycle": storage.Good, "versioning": storage.Warning,
		"retention": storage.Good, "encryption": storage.Good,
	}
	if !got.Ready || !maps.Equal(verdicts, want) {
		t.Errorf("got %+v", got)
	}
	shown := measured(t)
	for name, verdict := range want {
		if shown["storage_check "+name+" inline "+string(verdict)] != 1 {
			t.Errorf("the metrics have no check %s that is %s: %v", name, verdict, shown)
		}
	}
	stop(t)
}

func TestBucketURL(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("s3://bucket/a/b?region=r&endpoint=http://127.0.0.1:9000&path_style=true&single_writer=true")
	if err != nil {
		t.Fatal(err)
	}
	s, err := bucketOf(u)
	if err != nil || s.Identity() != "http://127.0.0.1:9000 bucket a/b" || !s.PathStyle || !s.SingleWriter || s.at.Region != "r" {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"s3:///a":                      "has no bucket",
		"s3://bucket?rot=1":            "option rot: want region, endpoint",
		"s3://bucket?endpoint=example": `endpoint "example"`,
	} {
		if u, err = url.Parse(text); err != nil {
			t.Fatal(err)
		}
		if _, err = bucketOf(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
