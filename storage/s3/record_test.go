package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Keys are in the order of names, as long as they are, and lie in one folder.
func TestRecordKeys(t *testing.T) {
	t.Parallel()
	names := []string{
		"0", "a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a/b0", "a0", "a_b", "a__b", "ab", "a--b", "a-b.c/d_e",
		strings.Repeat("a-", 127) + "a",
	}
	k := newKeys("/main/")
	var parsed []oci.Name
	for _, n := range names {
		parsed = append(parsed, mustName(n))
	}
	slices.SortFunc(parsed, oci.Name.Compare)
	last := ""
	for _, n := range parsed {
		key := k.record(n)
		flat, ok := strings.CutPrefix(key, "main/repositories/")
		if !ok || strings.Contains(flat, "/") || len(flat) != len(n.String()) {
			t.Fatalf("%s is at %s", n, key)
		}
		if key <= last {
			t.Fatalf("%s comes before %s", key, last)
		}
		if back, err := k.name(key); err != nil || back != n {
			t.Fatalf("%s is read as %s, %v", key, back, err)
		}
		last = key
	}
}

// folding opens a store whose records are folded all the time.
func folding(t *testing.T, f *fake) *Store {
	t.Helper()
	s := openOn(t, f, Options{DigestsFreshFor: -1})
	s.limits.tail, s.limits.segments = 4<<10, 12<<10
	return s
}

// However often a record is folded, who knew an old state and who knew none see
// the same.
func TestFold(t *testing.T) {
	t.Parallel()
	f := smallParts()
	writer, follower := folding(t, f), folding(t, f)
	late := folding(t, f) // looks rarely
	folds, snapshots, known := 0, 0, 0
	for i := range 120 {
		content := fmt.Sprint("blob ", i)
		d := digest.FromString(content)
		_, err := storage.PutBlob(t.Context(), writer.Repository(app), d, strings.NewReader(content), storage.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := imageOf(t, fmt.Sprint(i), d)
		err = storage.PutManifest(t.Context(), writer.Repository(app), m, storage.PutOptions{
			Tags: []oci.Tag{mustTag(fmt.Sprint("v", i)), mustTag("latest")},
		})
		if err == nil && i%10 == 9 {
			err = storage.DeleteManifest(t.Context(), writer.Repository(app), oci.TagRef(mustTag(fmt.Sprint("v", i-5))), "")
		}
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, writer, follower)
		if i%40 == 39 {
			wantSame(t, writer, late)
			wantSame(t, writer, folding(t, f))
		}
		s := stateIn(t, writer)
		switch n := len(s.head.Segments); {
		case n > known:
			folds++
		case n < known:
			snapshots++
		}
		known = len(s.head.Segments)
		if n := len(f.objects["repositories/team.app"].body); n > 4<<10+4<<10 {
			t.Fatalf("the record has %d bytes", n)
		}
	}
	if folds < 3 || snapshots < 2 {
		t.Fatalf("%d folds and %d snapshots", folds, snapshots)
	}
	if err := whole(t.Context(), folding(t, f), app); err != nil {
		t.Fatal(err)
	}
}

func stateIn(t *testing.T, s *Store) *state {
	t.Helper()
	r := s.cache.acquire(s, app)
	defer s.cache.release(r)
	now, err := r.refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// wantSame compares all that two stores know of a repository.
func wantSame(t *testing.T, a, b *Store) {
	t.Helper()
	var texts [2]string
	for i, s := range []*Store{a, b} {
		now := stateIn(t, s)
		var all []string
		for _, ch := range now.snapshot() {
			l, err := json.Marshal(ch)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(l))
		}
		texts[i] = strings.Join(all, "\n")
	}
	if texts[0] != texts[1] {
		t.Fatalf("one has\n%s\nthe other\n%s", texts[0], texts[1])
	}
}

func imageOf(t *testing.T, title string, blobs ...digest.Digest) oci.Manifest {
	t.Helper()
	var layers []string
	for _, d := range blobs {
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/x.layer","digest":%q,"size":1}`, d))
	}
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x.config","digest":%q,"size":1},
		"layers":[%s],"annotations":{"title":%q}}`, oci.MediaTypeImageManifest, blobs[0], strings.Join(layers, ","), title)
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(raw), digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A record that can't be read stops its repository, and no other one.
func TestBrokenRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"cut off":            func(b []byte) []byte { return b[:len(b)/2] },
		"a line isn't JSON":  func(b []byte) []byte { return append(bytes.Clone(b), "not this\n"...) },
		"a newer format":     func(b []byte) []byte { return bytes.Replace(b, []byte(`"format":1`), []byte(`"format":2`), 1) },
		"a tag that is none": func(b []byte) []byte { return append(bytes.Clone(b), `{"id":"x","do":[{"tag":"/"}]}`+"\n"...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := smallParts()
			if err := push(t, openOn(t, f, Options{})); err != nil {
				t.Fatal(err)
			}
			f.objects["repositories/team.app"] = f.object(damage(f.objects["repositories/team.app"].body))
			before := string(f.objects["repositories/team.app"].body)
			s := openOn(t, f, Options{})
			if _, err := s.Repository(app).Index(t.Context()); !errors.Is(err, storage.ErrBroken) {
				t.Fatalf("reading: %v, want storage.ErrBroken", err)
			}
			if err := push(t, s); !errors.Is(err, storage.ErrBroken) {
				t.Fatalf("writing: %v, want storage.ErrBroken", err)
			}
			if after := string(f.objects["repositories/team.app"].body); after != before {
				t.Fatalf("it was written over: %q", after)
			}
			if _, err := s.Repository(other).Index(t.Context()); !errors.Is(err, oci.NameUnknown) {
				t.Fatalf("another repository: %v", err)
			}
		})
	}
}

// Requests that come together are written together.
func TestGroupedCommits(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := openOn(t, f, Options{})
	if err := push(t, s); err != nil {
		t.Fatal(err)
	}
	r := s.cache.acquire(s, app)
	defer s.cache.release(r)
	const requests = 50
	done := make(chan error)
	holding, release := make(chan struct{}), make(chan struct{})
	go func() { // the others gather while this one is being planned
		done <- s.Repository(app).Update(t.Context(), func(*storage.Edit) error {
			close(holding)
			<-release
			return nil
		})
	}()
	<-holding
	total, calls, _ := f.counted(func() {
		for i := range requests {
			m := imageOf(t, fmt.Sprint(i), digest.FromString("x"))
			go func() {
				done <- storage.PutManifest(t.Context(), s.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag(fmt.Sprint("v", i))}})
			}()
		}
		for waiting := 0; waiting < requests; {
			r.mu.Lock()
			waiting = len(r.queue)
			r.mu.Unlock()
		}
		close(release)
		for range requests + 1 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	})
	if calls["put"] > 2 {
		t.Errorf("%d calls for %d requests: %v", total, requests, calls)
	}
	n := 0
	for range stateIn(t, s).index.Tags(oci.Tag{}) {
		n++
	}
	if n != requests {
		t.Fatalf("%d tags", n)
	}
}

// The cache forgets what nobody uses, and what doesn't exist at once.
func TestCache(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := openOn(t, f, Options{})
	for i := range maxIdle + 20 {
		name := mustName(fmt.Sprint("r", i))
		_, err := storage.PutBlob(t.Context(), s.Repository(name), digest.FromString("x"), strings.NewReader("x"), storage.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Repository(mustName(fmt.Sprint("none", i))).StatBlob(t.Context(), digest.FromString("x")); err == nil {
			t.Fatal("it's there")
		}
	}
	if n := len(s.cache.repos); n != maxIdle || s.cache.idle.Len() != n {
		t.Fatalf("%d are known, %d of them idle", n, s.cache.idle.Len())
	}
	weight := 0
	for _, r := range s.cache.repos {
		weight += r.use.weight
	}
	if weight != s.cache.weight {
		t.Fatalf("they weigh %d, not %d", weight, s.cache.weight)
	}
}

// A process that stands still after it has stored what a record is about to name
// doesn't name it.
func TestCommitStandsStill(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *Store, f *fake) {
		d := pushText(t, s, 10)
		still := &standing{fake: f}
		s = openOn(t, still, Options{})
		put := func() error {
			return storage.PutManifest(t.Context(), s.Repository(app), imageOf(t, text(maxInline), d), storage.PutOptions{})
		}
		if err := put(); !errors.Is(err, errTooLong) {
			t.Fatalf("error %v, want %v", err, errTooLong)
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if err := whole(t.Context(), s, app); err != nil {
			t.Fatal(err)
		}
	})
}

// standing is a bucket whose caller stands still once it has stored data, which
// is swept meanwhile.
type standing struct {
	*fake

	stood bool
}

func (s *standing) put(ctx context.Context, what putRequest) (string, error) {
	etag, err := s.fake.put(ctx, what)
	if strings.HasPrefix(what.Key, "data/") && !s.stood {
		s.stood = true
		delete(s.objects, what.Key)
		time.Sleep(10 * day)
	}
	return etag, err
}
