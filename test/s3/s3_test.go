//go:build real

// Package s3_test checks storage/s3 on a real store, MinIO, with a proxy between
// them that counts, refuses, loses, cuts off and lies.
package s3_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// store is a bucket in a MinIO.
type store struct {
	endpoint string
	prefixes atomic.Int64
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{endpoint: tool.MinIO(t)}
	tool.Bucket(t, s.endpoint, "registry")
	return s
}

// at is the bucket, seen through an endpoint.
func (s *store) at(endpoint string) s3.Location {
	return s3.Location{
		Bucket: "registry", Endpoint: endpoint, PathStyle: true, Region: "us-east-1",
		AccessKey: tool.MinIOKey, SecretKey: tool.MinIOSecret,
	}
}

// prefix is one that nothing is at.
func (s *store) prefix() string { return fmt.Sprint("p", s.prefixes.Add(1)) }

func open(t testing.TB, at s3.Location, opts s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Open(context.Background(), at, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // it may be closed
	return s
}

// ready is open, and waits as whoever asks for readiness does.
func ready(t *testing.T, at s3.Location, opts s3.Options) *s3.Store {
	t.Helper()
	s := open(t, at, opts)
	for range 6000 {
		if s.Ready(t.Context()) == nil {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(s.Ready(t.Context()))
	return nil
}

func TestS3(t *testing.T) {
	t.Parallel()
	minio := newStore(t)
	for what, check := range map[string]func(*testing.T, *store){
		"the contract": contract, "a store that fails": faults, "calls": calls,
		"a large blob": largeBlob, "a store that lies": liar, "no bucket": noBucket, "replicas": replicas, "sweep": sweep, "many orphans": manyOrphans,
		"settings": settings, "read only": readOnly, "redirects": redirects, "clients of a store that fails": clientsOfAStoreThatFails,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			check(t, minio)
		})
	}
}

func contract(t *testing.T, minio *store) {
	t.Run("Run", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Store {
			return ready(t, minio.at(minio.endpoint), s3.Options{Prefix: minio.prefix(), PartSize: 5 << 20})
		})
	})
	t.Run("Reopen", func(t *testing.T) {
		storagetest.Reopen(t, func(t *testing.T) (storage.Store, func() storage.Store) {
			opts := s3.Options{Prefix: minio.prefix()}
			again := func() storage.Store { return ready(t, minio.at(minio.endpoint), opts) }
			return again(), again
		})
	})
}

// A store that fails every fifth request is nobody's business but ours.
func faults(t *testing.T, minio *store) {
	p := newProxy(t, minio.endpoint)
	p.refused, p.lost, p.cut = 0.1, 0.05, 0.05
	opts := s3.Options{RetryFor: time.Minute}
	if tool.Sized(false, true) {
		storagetest.Run(t, func(t *testing.T) storage.Store {
			opts := opts
			opts.Prefix = minio.prefix()
			return ready(t, minio.at(p.URL), opts)
		})
	}
	storagetest.Reopen(t, func(t *testing.T) (storage.Store, func() storage.Store) {
		opts := opts
		opts.Prefix = minio.prefix()
		again := func() storage.Store { return ready(t, minio.at(p.URL), opts) }
		return again(), again
	})
}

// tenLayers is an image of ten layers of a size, and the contents of its blobs.
func tenLayers(t *testing.T, size int) (m oci.Manifest, contents []string, bytes int64) {
	t.Helper()
	contents = append(contents, `{"architecture":"amd64"}`)
	var layers []string
	for i := range 10 {
		c := strings.Repeat(fmt.Sprint("layer ", i, " "), size/8)[:size]
		contents = append(contents, c)
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, digest.FromString(c), size))
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[%s]}`,
		oci.MediaTypeImageManifest, digest.FromString(contents[0]), len(contents[0]), strings.Join(layers, ","))
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw), digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	bytes = int64(len(raw))
	for _, c := range contents {
		bytes += int64(len(c))
	}
	return m, contents, bytes
}

func name(t *testing.T, s string) oci.Name {
	t.Helper()
	n, err := oci.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tag(t *testing.T, s string) oci.Tag {
	t.Helper()
	v, err := oci.ParseTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request is a request of an upload: it goes on with a session, and may end it.
func request(t *testing.T, r storage.Repository, id, content string, want digest.Digest) {
	t.Helper()
	u, err := r.ResumeUpload(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if content != "" {
		_, err = u.Append(t.Context(), -1, strings.NewReader(content))
	}
	if err == nil && want != "" {
		_, err = u.Commit(t.Context(), want)
	}
	if err = errors.Join(err, u.Close()); err != nil {
		t.Fatal(err)
	}
}

// What it takes to push ten layers, and to pull them.
func calls(t *testing.T, minio *store) {
	m, contents, size := tenLayers(t, 2<<20)
	for what, c := range map[string]struct {
		push func(t *testing.T, r storage.Repository, id, content string)
		most int
	}{
		"POST and PUT": {func(t *testing.T, r storage.Repository, id, content string) {
			request(t, r, id, content, digest.FromString(content))
		}, 35},
		"POST, PATCH and PUT": {func(t *testing.T, r storage.Repository, id, content string) {
			request(t, r, id, content, "")
			request(t, r, id, "", digest.FromString(content))
		}, 75},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, minio.endpoint)
			s := ready(t, minio.at(p.URL), s3.Options{Prefix: minio.prefix()})
			r := s.Repository(name(t, "team/app"))
			total, calls, sent := p.counted(func() {
				for _, content := range contents {
					u, err := r.NewUpload(t.Context(), storage.UploadOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if err := u.Close(); err != nil {
						t.Fatal(err)
					}
					c.push(t, r, u.ID(), content)
				}
				if err := storage.PutManifest(t.Context(), r, m, storage.PutOptions{Tags: []oci.Tag{tag(t, "v1")}}); err != nil {
					t.Fatal(err)
				}
			})
			t.Logf("push: %d calls %v, %d bytes for %d", total, calls, sent, size)
			if total > c.most || calls["ListObjectsV2"] > 0 || sent > size+size/100 {
				t.Errorf("want at most %d calls, no list, and %d bytes", c.most, size)
			}
			total, calls, _ = p.counted(func() { pull(t, r, contents) })
			t.Logf("pull: %d calls %v", total, calls)
			if total != 11 { // the record, and ten layers
				t.Errorf("want 11 calls")
			}
		})
	}
}

func pull(t *testing.T, r storage.Repository, contents []string) {
	t.Helper()
	b, err := storage.GetManifest(t.Context(), r, oci.TagRef(tag(t, "v1")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		read(t, r, digest.FromString(c))
	}
}

func read(t *testing.T, r storage.Repository, d digest.Digest) {
	t.Helper()
	b, err := r.OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	v := d.Verifier()
	if _, err := io.Copy(v, b); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil || !v.Verified() {
		t.Fatalf("%s: %v, or other bytes", d, err)
	}
}

// A large blob is sent once, in parts, while the client still sends it, and its
// commit hasn't much left to do.
func largeBlob(t *testing.T, minio *store) {
	p := newProxy(t, minio.endpoint)
	s := ready(t, minio.at(p.URL), s3.Options{Prefix: "large"})
	size := tool.Sized[int64](200<<20, 5<<30)
	r := s.Repository(name(t, "large"))
	hash := sha256.New()
	total, calls, sent := p.counted(func() {
		u, err := r.NewUpload(t.Context(), storage.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = u.Append(t.Context(), 0, io.TeeReader(&numbers{left: size}, hash)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err = u.Commit(t.Context(), digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(hash.Sum(nil)))); err != nil {
			t.Fatal(err)
		}
		t.Logf("committed in %v", time.Since(begun))
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d calls %v, %d bytes for %d", total, calls, sent, size)
	if sent > size+size/100 {
		t.Errorf("%d bytes are sent for %d", sent, size)
	}
	read(t, r, digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(hash.Sum(nil))))
}

// numbers is bytes that repeat only after long.
type numbers struct {
	left int64
	at   uint64
}

func (n *numbers) Read(p []byte) (int, error) {
	if n.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(n.left, int64(len(p)))]
	for i := range p {
		n.at = n.at*6364136223846793005 + 1442695040888963407
		p[i] = byte(n.at >> 56)
	}
	n.left -= int64(len(p))
	return len(p), nil
}

// A store that drops conditions isn't written to, unless nobody else does.
func liar(t *testing.T, minio *store) {
	p := newProxy(t, minio.endpoint)
	p.liar = true
	put := func(s *s3.Store) error {
		_, err := storage.PutBlob(t.Context(), s.Repository(name(t, "a")), digest.FromString("x"), strings.NewReader("x"), storage.UploadOptions{})
		return err
	}
	err := put(open(t, minio.at(p.URL), s3.Options{Prefix: "liar"}))
	if !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), "single_writer") {
		t.Fatalf("error %v, want one that says what to do", err)
	}
	if err := put(open(t, minio.at(p.URL), s3.Options{Prefix: "liar", SingleWriter: true})); err != nil {
		t.Fatal(err)
	}
}

// A bucket that isn't there is no empty registry.
func noBucket(t *testing.T, minio *store) {
	at := minio.at(minio.endpoint)
	at.Bucket = "nosuch"
	s := open(t, at, s3.Options{RetryFor: time.Second})
	if _, err := s.Repository(name(t, "a")).Index(t.Context()); err == nil || errors.Is(err, oci.NameUnknown) {
		t.Errorf("Index: %v", err)
	}
	for _, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err == nil {
			t.Error("there's a repository")
		}
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("it's ready")
	}
}
