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

// Writers that race and all get no answer say nothing against a store: it's asked
// again until some do.
func TestProbeRaceUnanswered(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]bool{"create": false, "swap": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &watched{fake: smallParts()}
				dark := time.Now().Add(5 * time.Minute)
				b.onPut = func(what putRequest) error {
					if isRacer(string(what.Body)) && (what.IfMatch != "") == swap && time.Now().Before(dark) {
						return errTemporary
					}
					return nil
				}
				s := openProbed(b, Options{})
				defer s.Close()
				if err := push(t, s); !errors.Is(err, errTemporary) || errors.Is(err, errUntrue) {
					t.Fatalf("while the race gets no answer: %v", err)
				}
				time.Sleep(7 * time.Minute)
				if err := push(t, s); err != nil {
					t.Fatalf("once it does: %v", err)
				}
			})
		})
	}
}

// What is there after a race convicts a store only if it can't be otherwise.
func TestRaced(t *testing.T) {
	t.Parallel()
	won := func(all ...int) (done [racers]bool) {
		for _, i := range all {
			done[i] = true
		}
		return done
	}
	failed := func(err error, all ...int) (errs [racers]error) {
		for _, i := range all {
			errs[i] = err
		}
		return errs
	}
	for name, c := range map[string]struct {
		body string
		done [racers]bool
		errs [racers]error
		want error
	}{
		"the winner's":                     {racer(3), won(3), failed(nil), nil},
		"of one without an answer":         {racer(3), won(), failed(errTemporary, 2, 3), nil},
		"two win":                          {racer(3), won(3, 4), failed(nil), errUntrue},
		"of one that was refused":          {racer(3), won(4), failed(nil), errUntrue},
		"of one refused, others failed":    {racer(3), won(), failed(errTemporary, 2), errUntrue},
		"nothing, and one won":             {"", won(4), failed(errTemporary, 2), errUntrue},
		"nothing, and all answered":        {"before", won(), failed(nil), errUntrue},
		"nothing, and one has no answer":   {"", won(), failed(errTemporary, 2), errTemporary},
		"as before, one has no answer":     {"before", won(), failed(errSlowDown, 2), errSlowDown},
		"one may not write, and all fails": {"", won(), failed(errRefused, 2), errRefused},
	} {
		if err := raced(c.body, c.done, c.errs, "condition"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
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
