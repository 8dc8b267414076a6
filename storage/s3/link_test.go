package s3

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// linkOf is where a client is sent for a blob, "" if nowhere.
func linkOf(t *testing.T, s *Store, d digest.Digest) string {
	t.Helper()
	b, err := s.Repository(app).OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	to, ok := storage.As[storage.Redirector](b.ReadSeekCloser)
	if !ok {
		return ""
	}
	link, err := to.Redirect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// pushSize pushes a blob of n bytes.
func pushSize(t *testing.T, s *Store, n int) digest.Digest {
	t.Helper()
	d := digest.FromString(text(n))
	if _, err := storage.PutBlob(t.Context(), s.Repository(app), d, strings.NewReader(text(n)), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// Clients are sent to what is large enough and an object by itself.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		from    int64
		sizes   []int
		refuses []int
	}{
		{"off", 0, nil, []int{10, 20_000, 200_000}},
		{"always", 1, []int{20_000, 200_000}, []int{10, 5000, maxInline}},
		{"above a size", 100_000, []int{100_000, 200_000}, []int{99_999}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := openOn(t, smallParts(), Options{RedirectFrom: c.from, RedirectLife: time.Minute})
			for _, n := range c.sizes {
				d := pushSize(t, s, n)
				e := stateIn(t, s).find(d).entry
				if got, want := linkOf(t, s, d), "https://bucket.example/data/"+e.ID+"?life=1m0s"; got != want || e.Size != int64(n) {
					t.Errorf("%d of %d bytes are at %q, want %q", e.Size, n, got, want)
				}
			}
			for _, n := range c.refuses {
				if got := linkOf(t, s, pushSize(t, s, n)); got != "" {
					t.Errorf("%d bytes are at %q", n, got)
				}
			}
		})
	}
}

// What lay in a record lies in an object with other things after a fold.
func TestNoRedirectIntoAPack(t *testing.T) {
	t.Parallel()
	s := folding(t, smallParts())
	s.Tune(Options{RedirectFrom: 1})
	small := pushText(t, s, 4000)
	m := imageOf(t, text(maxInline/2), small)
	if err := storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		pushText(t, s, 100+i)
	}
	for _, d := range []digest.Digest{small, m.Digest} {
		if stateIn(t, s).find(d).inline() {
			t.Fatal("it isn't in a pack")
		}
		if got := linkOf(t, s, d); got != "" {
			t.Errorf("a client is sent to %s", got)
		}
	}
}

// A pull whose blobs come from the bucket asks for the tag's record, and no more.
func TestCallsOfAPullWithRedirects(t *testing.T) {
	t.Parallel()
	f := newFake()
	m, contents := tenLayers(t)
	s := openOn(t, f, Options{RedirectFrom: 1})
	for _, c := range contents {
		if _, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString(c), strings.NewReader(c), storage.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag("v1")}}); err != nil {
		t.Fatal(err)
	}
	linkOf(t, s, digest.FromString(contents[1])) // the first one in an hour says for how long
	total, calls, _ := f.counted(func() {
		if _, err := s.Repository(app).Resolve(t.Context(), oci.TagRef(mustTag("v1"))); err != nil {
			t.Fatal(err)
		}
		for _, c := range contents[1:] {
			if linkOf(t, s, digest.FromString(c)) == "" {
				t.Error("a layer is served from here")
			}
		}
	})
	if total != 1 {
		t.Errorf("%d calls: %v", total, calls)
	}
}

// Bytes stay for as long as a URL of them may be good, after the grace.
func TestSweepWaitsForRedirects(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		s.Tune(Options{RedirectFrom: 1, RedirectLife: 5 * time.Hour, DigestsFreshFor: -1})
		d := pushText(t, s, 50_000)
		time.Sleep(2 * day)
		if err := storage.DeleteBlob(t.Context(), s.Repository(app), d, ""); err != nil {
			t.Fatal(err)
		}
		sweeping(t, s, false)
		time.Sleep(day + 4*time.Hour)
		if found := sweeping(t, s, false); found != nil || f.count("data/") != 1 {
			t.Fatalf("found %v, while somebody may be sent there", found)
		}
		time.Sleep(2 * time.Hour)
		if found := sweeping(t, s, false); !slices.Equal(found, []string{"blob data"}) || f.count("data/") != 0 {
			t.Fatalf("found %v", found)
		}
	})
}

// A URL is for the store as clients know it, for a while, and has it say what
// the registry would.
func TestSignedURL(t *testing.T) {
	t.Parallel()
	b, err := newAWS(t.Context(), Location{
		Bucket: "registry", Region: "eu-west-1", Endpoint: "http://10.0.0.1:9000", PublicEndpoint: "https://s3.example.com",
		AccessKey: "key", SecretKey: "secret", SessionToken: "token",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	link, err := b.link(t.Context(), "main/data/X", 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "https" || u.Host != "registry.s3.example.com" || u.Path != "/main/data/X" {
		t.Errorf("it's at %s", link)
	}
	for name, want := range map[string]string{
		"X-Amz-Expires": "90", "X-Amz-SignedHeaders": "host", "X-Amz-Security-Token": "token",
		"response-content-type": "application/octet-stream", "response-content-disposition": "attachment",
		"response-cache-control": "private, max-age=31536000, immutable, no-transform",
	} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	at := against(t, func(http.ResponseWriter, *http.Request) { t.Error("the store is asked") })
	if link, err = at.link(t.Context(), "k", time.Minute); err != nil || !strings.HasPrefix(link, at.at.Endpoint+"/registry/k?") {
		t.Errorf("without another endpoint it's at %s, %v", link, err)
	}
}

func BenchmarkSignedURL(b *testing.B) {
	at, err := newAWS(b.Context(), Location{Bucket: "registry", Region: "eu-west-1", AccessKey: "key", SecretKey: "secret"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := at.link(b.Context(), "data/X", time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

// For how long a URL was signed counts on once that is made shorter, or redirects are
// off, by a reload or by another process.
func TestSweepWaitsForOlderRedirects(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]Options{
		"shorter": {RedirectFrom: 1, RedirectLife: time.Minute, DigestsFreshFor: -1},
		"off":     {DigestsFreshFor: -1},
	} {
		for how, change := range map[string]func(t *testing.T, s *Store, f *fake) *Store{
			"by a reload":  func(_ *testing.T, s *Store, _ *fake) *Store { s.Tune(later); return s },
			"by a restart": func(t *testing.T, _ *Store, f *fake) *Store { t.Helper(); return openOn(t, f, later) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T, s *Store, f *fake) {
					s.Tune(Options{RedirectFrom: 1, RedirectLife: 50 * time.Hour, DigestsFreshFor: -1})
					d := pushText(t, s, 50_000)
					time.Sleep(2 * day)
					if linkOf(t, s, d) == "" {
						t.Fatal("nobody is redirected, so this test shows nothing")
					}
					s = change(t, s, f)
					if err := storage.DeleteBlob(t.Context(), s.Repository(app), d, ""); err != nil {
						t.Fatal(err)
					}
					sweeping(t, s, false)
					for range 4 { // for two days, and the grace of one has passed
						time.Sleep(day / 2)
						if found := sweeping(t, s, false); found != nil || f.count("data/") != 1 {
							t.Fatalf("found %v, while somebody may be sent there", found)
						}
					}
					time.Sleep(5 * day)
					if found := sweeping(t, s, false); !slices.Equal(found, []string{"blob data"}) || f.count("data/") != 0 {
						t.Fatalf("found %v, and nobody comes any more", found)
					}
				})
			})
		}
	}
}

// sealed is a bucket in which one object can't be written.
type sealed struct {
	*fake

	key string
}

func (s *sealed) put(ctx context.Context, what putRequest) (string, error) {
	if what.Key == s.key {
		return "", errRefused
	}
	return s.fake.put(ctx, what)
}

// A URL isn't signed before it's written down for how long it may be good, and that
// is written once for many.
func TestRedirectsAreWrittenDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &sealed{fake: smallParts(), key: "redirects"}
		s := openOn(t, b, Options{RedirectFrom: 1, RedirectLife: time.Minute})
		d := pushText(t, s, 50_000)
		if link := linkOf(t, s, d); link != "" {
			t.Fatalf("a client is sent to %s", link)
		}
		b.key = ""
		time.Sleep(linkRetry)
		for range 100 {
			if linkOf(t, s, d) == "" {
				t.Fatal("nobody is redirected")
			}
		}
		first, _, err := s.linkNote(t.Context())
		if err != nil || len(first.Good) != 1 || time.Until(first.Good["1m0s"]) < time.Hour {
			t.Fatalf("%v, %v", first, err)
		}
		time.Sleep(day)
		linkOf(t, s, d)
		if again, _, err := s.linkNote(t.Context()); err != nil || time.Until(again.Good["1m0s"]) < time.Hour {
			t.Fatalf("%v, %v", again, err)
		}
	})
}
