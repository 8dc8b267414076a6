package s3

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// racy looks before it writes, as some stores do: of writers at once several succeed.
type racy struct {
	bucket

	mu   sync.Mutex
	seen map[string]string // what the condition of a key was
}

func (r *racy) put(ctx context.Context, what putRequest) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(string(what.Body), "racer 1") && r.seen[what.Key] == what.IfMatch {
		what.IfMatch, what.IfAbsent = "", false
	} else {
		r.seen[what.Key] = what.IfMatch
	}
	return r.bucket.put(ctx, what)
}

// stale reads what was there before the last write.
type stale struct{ bucket }

func (s stale) list(context.Context, string, string) ([]listed, bool, error) { return nil, false, nil }

func push(t *testing.T, s *Store) error {
	t.Helper()
	_, err := storage.PutBlob(t.Context(), s.Repository(app), digest.FromString("x"), strings.NewReader("x"), storage.UploadOptions{})
	return err
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bucket func(*fake) bucket
		says   string
	}{
		"S3":           {func(f *fake) bucket { return f }, ""},
		"a faulty one": {func(f *fake) bucket { b := newFaulty(f, 1); b.refused = 0.1; return b }, ""},
		"conditions are dropped": {
			func(f *fake) bucket { return unconditional{f} }, "If-None-Match: * overwrites",
		},
		"several win": {
			func(f *fake) bucket { return &racy{bucket: f, seen: make(map[string]string)} }, "not exactly one succeeds",
		},
		"lists lag behind": {func(f *fake) bucket { return stale{f} }, "a list after a write"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				s := openProbed(c.bucket(f), Options{})
				defer s.Close()
				err := push(t, s)
				if c.says == "" && err != nil {
					t.Fatal(err)
				}
				if c.says != "" && (!errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), c.says)) {
					t.Fatalf("error %v, want %q", err, c.says)
				}
				if ready := s.Ready(t.Context()); (ready == nil) != (c.says == "") {
					t.Fatalf("Ready: %v", ready)
				}
				if err = s.Close(); err != nil {
					t.Fatal(err)
				}
				for key := range f.objects {
					if strings.HasPrefix(key, "probe/") {
						t.Errorf("%s is left", key)
					}
				}
			})
		})
	}
}

// dark is a bucket that can't be reached until there's light.
type dark struct {
	*fake

	light time.Time
}

func (d dark) put(ctx context.Context, what putRequest) (string, error) {
	if time.Now().Before(d.light) {
		return "", errTemporary
	}
	return d.fake.put(ctx, what)
}

// A store serves reads while its bucket can't be probed, and writes once it could.
func TestProbeLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openProbed(dark{smallParts(), time.Now().Add(5 * time.Minute)}, Options{RetryFor: 10 * time.Second})
		if _, err := s.Repository(app).StatBlob(t.Context(), digest.FromString("x")); err == nil || errors.Is(err, storage.ErrStandby) {
			t.Fatalf("reading: %v", err)
		}
		if err := push(t, s); !errors.Is(err, storage.ErrStandby) {
			t.Fatalf("writing: %v, want storage.ErrStandby", err)
		}
		if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrStandby) {
			t.Fatalf("ready: %v, want storage.ErrStandby", err)
		}
		time.Sleep(7 * time.Minute)
		if err := errors.Join(push(t, s), s.Ready(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// A store that is closed while it probes stops.
func TestProbeStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openProbed(dark{smallParts(), time.Now().Add(time.Hour)}, Options{})
		begun := time.Now()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}
