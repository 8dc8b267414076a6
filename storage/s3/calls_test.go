package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// calls counts what fn asks of the bucket.
func (f *fake) counted(fn func()) (total int, calls map[string]int, sent int64) {
	f.mu.Lock()
	before, sent := maps.Clone(f.calls), f.sent
	f.mu.Unlock()
	fn()
	f.mu.Lock()
	defer f.mu.Unlock()
	calls = maps.Clone(f.calls)
	for c, n := range before {
		if calls[c] -= n; calls[c] == 0 {
			delete(calls, c)
		}
	}
	for _, n := range calls {
		total += n
	}
	return total, calls, f.sent - sent
}

// tenLayers is an image and the contents of its blobs, the config first.
func tenLayers(t *testing.T) (oci.Manifest, []string) {
	t.Helper()
	contents := []string{"config"}
	var layers []string
	for i := range 10 {
		c := fmt.Sprint(i) + text(20_000)
		contents = append(contents, c)
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/x.layer","digest":%q,"size":%d}`, digest.FromString(c), len(c)))
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x.config","digest":%q,"size":6},"layers":[%s]}`,
		oci.MediaTypeImageManifest, digest.FromString("config"), strings.Join(layers, ","))
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw), digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return m, contents
}

// What a push asks of the bucket, each of its requests at any replica.
func TestCallsOfAPush(t *testing.T) {
	t.Parallel()
	m, contents := tenLayers(t)
	size := int64(len(m.Raw))
	for _, c := range contents {
		size += int64(len(c))
	}
	for name, c := range map[string]struct {
		blob func(t *testing.T, s *Store, content string)
		most int
	}{
		"POST and PUT": {func(t *testing.T, s *Store, content string) {
			u, err := s.Repository(app).ResumeUpload(t.Context(), begin(t, s))
			if err != nil {
				t.Fatal(err)
			}
			_, err = u.Append(t.Context(), -1, strings.NewReader(content))
			if err == nil {
				_, err = u.Commit(t.Context(), digest.FromString(content))
			}
			if err = errors.Join(err, u.Close()); err != nil {
				t.Fatal(err)
			}
		}, 35},
		"PATCH": {func(t *testing.T, s *Store, content string) {
			id := begin(t, s)
			if err := errors.Join(add(t, s, id, 0, strings.NewReader(content)), end(t, s, id, content)); err != nil {
				t.Fatal(err)
			}
		}, 75},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := openOn(t, f, Options{PartSize: 16 << 20})
			s.limits.inline = 10_000
			total, calls, sent := f.counted(func() {
				for _, content := range contents {
					c.blob(t, s, content)
				}
				opts := storage.PutOptions{Tags: []oci.Tag{mustTag("v1")}}
				if err := storage.PutManifest(t.Context(), s.Repository(app), m, opts); err != nil {
					t.Fatal(err)
				}
			})
			t.Logf("%d calls: %v; %d bytes for %d", total, calls, sent, size)
			if total > c.most {
				t.Errorf("%d calls: %v, want at most %d", total, calls, c.most)
			}
			if calls["list"] > 0 {
				t.Error("there are lists on the way")
			}
			if over := sent - size; over > size/3 {
				t.Errorf("%d bytes are sent for %d", sent, size)
			}
		})
	}
}

// A pull asks for the tag, and for bytes; nothing else.
func TestCallsOfAPull(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := openOn(t, f, Options{})
	m, contents := tenLayers(t)
	for _, c := range contents {
		if _, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(c), strings.NewReader(c), storage.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag("v1")}}); err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*Store{s, openOn(t, f, Options{})} {
		total, calls, _ := f.counted(func() {
			b, err := storage.GetManifest(t.Context(), reader.Repository(app), oci.TagRef(mustTag("v1")))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.Copy(io.Discard, b); err != nil {
				t.Fatal(err)
			}
			for _, c := range contents {
				wantBlob(t, reader, c)
			}
		})
		if total != 11 { // the record, and ten layers
			t.Errorf("%d calls: %v", total, calls)
		}
	}
}

// ranged notes what is read.
type ranged struct {
	*fake

	asked []getRequest
}

func (r *ranged) get(ctx context.Context, what getRequest) (*gotten, error) {
	r.asked = append(r.asked, what)
	return r.fake.get(ctx, what)
}

// Opening and seeking ask nothing; reading on is one call, reading elsewhere another.
func TestRangedReads(t *testing.T) {
	t.Parallel()
	f := &ranged{fake: newFake()}
	s := openOn(t, f, Options{})
	content := text(50_000)
	if _, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(content), strings.NewReader(content), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	f.asked = nil
	b, err := s.Repository(app).OpenBlob(t.Context(), digest.FromString(content))
	if err != nil {
		t.Fatal(err)
	}
	read := func(at int64, n int) {
		t.Helper()
		if _, err := b.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != content[at:at+int64(n)] {
			t.Fatalf("%d bytes from %d on: %v", n, at, err)
		}
	}
	if _, err := b.Seek(100, io.SeekCurrent); err != nil || len(f.asked) > 0 {
		t.Fatalf("seeking asks for %v, %v", f.asked, err)
	}
	read(30_000, 100)
	read(30_100, 19_900)
	if len(f.asked) != 1 || f.asked[0].Offset != 30_000 {
		t.Fatalf("asked for %v", f.asked)
	}
	read(10, 10)
	if len(f.asked) != 2 {
		t.Fatalf("asked for %v", f.asked)
	}
	if _, err := b.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("seeks before the beginning")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Fatal("it's read after it was closed")
	}
}

// Lookups that come at once share reads, of which each begins after those that use it.
func TestLookupsShareReads(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := openOn(t, f, Options{})
	if err := push(t, s); err != nil {
		t.Fatal(err)
	}
	const lookups = 200
	total, _, _ := f.counted(func() {
		done := make(chan error)
		for range lookups {
			go func() {
				_, err := s.Repository(app).StatBlob(t.Context(), digest.FromString("x"))
				done <- err
			}()
		}
		for range lookups {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	if total > lookups {
		t.Errorf("%d calls", total)
	}
}
