package s3

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// rot flips a byte of a blob, in its object or in the record.
func rot(t testing.TB, f *fake, s *Store, in oci.Name, d digest.Digest) {
	t.Helper()
	r := &Repository{s, in}
	state, err := r.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := state.find(d)
	key := s.keys.data(b.ID)
	var body []byte
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.inline() {
		key = s.keys.record(in)
		bad := bytes.Clone(b.Raw)
		bad[len(bad)/2] ^= 1
		old, now := base64.StdEncoding.EncodeToString(b.Raw), base64.StdEncoding.EncodeToString(bad)
		body = bytes.ReplaceAll(f.objects[key].body, []byte(`"`+old+`"`), []byte(`"`+now+`"`))
	} else {
		body = bytes.Clone(f.objects[key].body)
		body[b.Offset+b.Size/2] ^= 1
	}
	if bytes.Equal(body, f.objects[key].body) {
		t.Fatal("nothing was damaged")
	}
	f.objects[key] = f.object(body)
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Quarantine(t, func(t *testing.T) (storage.Store, storagetest.Damage) {
				f := smallParts()
				s := openOn(t, f, opts)
				return s, func(t testing.TB, in oci.Name, d digest.Digest) { rot(t, f, s, in, d) }
			})
		})
	}
}

func quarantine(t *testing.T, s *Store, in oci.Name, d digest.Digest) {
	t.Helper()
	got, err := s.Repository(in).(storage.Quarantiner).Quarantine(t.Context(), d)
	if err != nil || got != storage.Taken {
		t.Fatalf("the blob is %s, %v", got, err)
	}
}

func wantLost(t *testing.T, s *Store, want bool, all ...digest.Digest) {
	t.Helper()
	lost := make(map[digest.Digest]bool)
	for d, err := range s.Repository(app).(storage.Quarantiner).Quarantined(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		lost[d] = true
	}
	for _, d := range all {
		_, err := s.Repository(app).StatBlob(t.Context(), d)
		if lost[d] != want || errors.Is(err, oci.BlobUnknown) != want {
			t.Fatalf("%s is lost: %v, and %v; want %v", d, lost[d], err, want)
		}
	}
}

// What was taken out is lost to all replicas, and through folds.
func TestQuarantineAcrossReplicas(t *testing.T) {
	t.Parallel()
	f := smallParts()
	a, b := folding(t, f), folding(t, f)
	small, large := pushText(t, a, 10), pushText(t, a, 20_000)
	m := imageOf(t, "m", small)
	if err := storage.PutManifest(t.Context(), a.Repository(app), m, storage.PutOptions{Tags: []oci.Tag{mustTag("v1")}}); err != nil {
		t.Fatal(err)
	}
	lost := []digest.Digest{small, large, m.Digest}
	for i, d := range lost {
		if i > 0 { // once in the tail, and then folded
			for i := range 150 {
				pushText(t, a, i+100)
			}
		}
		rot(t, f, a, app, d)
		quarantine(t, a, app, d)
		wantLost(t, b, true, lost[:i+1]...)
	}
	for _, s := range []*Store{a, b, folding(t, f)} {
		wantLost(t, s, true, lost...)
		for _, ref := range []oci.Reference{oci.TagRef(mustTag("v1")), oci.DigestRef(m.Digest)} {
			if _, err := s.Repository(app).Resolve(t.Context(), ref); !errors.Is(err, oci.ManifestUnknown) {
				t.Fatalf("%s: %v, want oci.ManifestUnknown", ref, err)
			}
		}
	}
	pushText(t, b, 10)
	pushText(t, b, 20_000)
	if err := storage.PutManifest(t.Context(), b.Repository(app), m, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range 150 {
		pushText(t, a, i+100_000)
	}
	for _, s := range []*Store{a, b, folding(t, f)} {
		wantLost(t, s, false, lost...)
	}
}

// An object that somebody has removed is as good as a bad one, and so is one that
// was cut off.
func TestQuarantineOfWhatIsGone(t *testing.T) {
	t.Parallel()
	f := smallParts()
	s := openOn(t, f, Options{})
	gone, cut := pushText(t, s, 20_000), pushText(t, s, 30_000)
	state := stateIn(t, s)
	f.mu.Lock()
	delete(f.objects, s.keys.data(state.find(gone).ID))
	key := s.keys.data(state.find(cut).ID)
	f.objects[key] = f.object(f.objects[key].body[:10_000])
	f.mu.Unlock()
	quarantine(t, s, app, gone)
	quarantine(t, s, app, cut)
	wantLost(t, s, true, gone, cut)
	pushText(t, s, 20_000)
	pushText(t, s, 30_000)
	wantLost(t, s, false, gone, cut)
}

// Bad bytes are swept a grace after a round has found that the last record has
// dropped them, and not before, however long they were bad.
func TestBadBytesAreSwept(t *testing.T) {
	t.Parallel()
	for name, rounds := range map[string]int{"met as named": 3, "not met": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, s *Store, f *fake) {
				d := pushText(t, s, 20_000)
				if _, err := s.Repository(other).MountBlob(t.Context(), d, app); err != nil {
					t.Fatal(err)
				}
				rot(t, f, s, app, d)
				quarantine(t, s, app, d)
				for range rounds {
					time.Sleep(2 * day)
					sweeping(t, s, false)
				}
				time.Sleep(3 * day)
				if f.count("data/") != 1 {
					t.Fatal("they're gone while a record names them")
				}
				if err := storage.DeleteBlob(t.Context(), s.Repository(other), d, ""); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					time.Sleep(time.Hour)
					if sweeping(t, s, false); f.count("data/") != 1 {
						t.Fatal("they're gone, and no grace has passed since the last record dropped them")
					}
				}
				time.Sleep(day)
				if sweeping(t, s, false); f.count("data/") != 0 {
					t.Fatal("they're there still")
				}
				time.Sleep(2 * day)
				sweeping(t, s, false)
				if list, _, err := s.condemned(t.Context(), "A"); err != nil || len(list.IDs) > 0 {
					t.Fatalf("condemned are %v, %v", list, err)
				}
			})
		})
	}
}

// A store that mustn't be written to isn't: not even its lists of what is condemned.
func TestQuarantineOfWhatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	f := smallParts()
	s := openOn(t, f, Options{})
	d := pushText(t, s, 20_000)
	rot(t, f, s, app, d)
	liar := openProbed(unconditional{f}, Options{})
	defer liar.Close()
	if _, err := liar.Repository(app).(storage.Quarantiner).Quarantine(t.Context(), d); !errors.Is(err, storage.ErrStandby) {
		t.Fatalf("error %v, want ErrStandby", err)
	}
	if _, condemned := f.objects[s.keys.condemned(stateIn(t, s).find(d).ID)]; condemned {
		t.Fatal("it's condemned")
	}
}

// What is condemned stays so through a round that can't list what there is: it
// isn't taken for gone, so nobody mounts bad bytes.
func TestSweepUnlisted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &watched{fake: smallParts()}
		s := openOn(t, b, Options{DigestsFreshFor: -1})
		d := pushText(t, s, 20_000)
		if _, err := s.Repository(other).MountBlob(t.Context(), d, app); err != nil {
			t.Fatal(err)
		}
		rot(t, b.fake, s, app, d)
		quarantine(t, s, app, d)
		time.Sleep(2 * day)
		b.onList = func(prefix string) error {
			if prefix == s.keys.data("") {
				return errRefused
			}
			return nil
		}
		var failed []error
		for what, err := range s.Sweep(t.Context(), storage.SweepOptions{Before: time.Now().Add(-day)}) {
			if err == nil {
				t.Fatalf("found %v", what)
			}
			failed = append(failed, err)
		}
		if len(failed) != 1 || !errors.Is(failed[0], errRefused) {
			t.Fatalf("errors %v, want one", failed)
		}
		_, err := s.Repository(mustName("third")).MountBlob(t.Context(), d, other)
		if !errors.Is(err, oci.BlobUnknown) {
			t.Fatalf("a mount of bad bytes: %v, want oci.BlobUnknown", err)
		}
	})
}
