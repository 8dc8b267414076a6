package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// checkOf is what a store has found out about one thing.
func checkOf(t *testing.T, s *Store, name string) storage.Check {
	t.Helper()
	for _, c := range s.Diagnose() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there's no check %s", name)
	return storage.Check{}
}

// How a bucket is set up is looked at, and what it means is said.
func TestSettings(t *testing.T) {
	t.Parallel()
	removes := func(prefix string) []rule { return []rule{{ID: "r", Prefix: prefix, Removes: true}} }
	for _, c := range []struct {
		name, check string
		setup       setup
		verdict     storage.Verdict
		says        string
	}{
		{"nothing", checkLifecycle, setup{}, storage.Good, "no rule removes objects below main/"},
		{"removes all", checkLifecycle, setup{lifecycle: removes("")}, storage.Bad, `the rule "r" removes objects below main/`},
		{"removes more", checkLifecycle, setup{lifecycle: removes("ma")}, storage.Bad, `the rule "r"`},
		{"removes ours", checkLifecycle, setup{lifecycle: removes("main/")}, storage.Bad, `the rule "r"`},
		{"removes some of ours", checkLifecycle, setup{lifecycle: removes("main/data/A")}, storage.Bad, `the rule "r"`},
		{"removes what a probe left", checkLifecycle, setup{lifecycle: removes("main/probe/")}, storage.Good, ""},
		{"removes others", checkLifecycle, setup{lifecycle: removes("mains/")}, storage.Good, ""},
		{"removes what has tags", checkLifecycle, setup{lifecycle: []rule{{ID: "r", Removes: true, OnTagged: true}}}, storage.Good, ""},
		{"moves", checkLifecycle, setup{lifecycle: []rule{{ID: "r", Moves: "GLACIER"}}}, storage.Warning, "to GLACIER"},
		{"moves not far", checkLifecycle, setup{lifecycle: []rule{{ID: "r", Moves: "STANDARD_IA"}}}, storage.Good, ""},
		{"may not know", checkLifecycle, setup{err: fmt.Errorf("%w: 403", errRefused)}, storage.Unknown, "make sure that none removes"},
		{"keeps nothing", checkVersioning, setup{}, storage.Good, "aren't kept"},
		{"keeps all", checkVersioning, setup{keeps: true}, storage.Warning, "noncurrent versions below main/"},
		{"keeps others", checkVersioning, setup{keeps: true, lifecycle: []rule{{Prefix: "other", OldOnes: true}}}, storage.Warning, ""},
		{"keeps for a while", checkVersioning, setup{keeps: true, lifecycle: []rule{{OldOnes: true}}}, storage.Good, "until a rule"},
		{"may not know of versions", checkVersioning, setup{err: errRefused}, storage.Unknown, "can't be read"},
		{"no lock", checkRetention, setup{}, storage.Good, "can be removed"},
		{"lock", checkRetention, setup{locks: "COMPLIANCE for 7 days"}, storage.Warning, "COMPLIANCE for 7 days"},
		{"encrypts", checkEncryption, setup{encrypts: "aws:kms"}, storage.Good, "by aws:kms"},
		{"doesn't", checkEncryption, setup{err: errNotFound}, storage.Good, "nothing"},
		{"conditions", checkConditions, setup{}, storage.Good, "keeps the conditions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				f.set(c.setup)
				var log bytes.Buffer
				s := openProbed(f, Options{Prefix: "main", Log: slog.New(slog.NewTextHandler(&log, nil))})
				defer s.Close()
				synctest.Wait()
				got := checkOf(t, s, c.check)
				if got.Verdict != c.verdict || !strings.Contains(got.Says, c.says) {
					t.Errorf("got %+v, want %s, %q", got, c.verdict, c.says)
				}
				if n := strings.Count(log.String(), "check="+c.check+" "); n != 1 {
					t.Errorf("the log has %d lines of it:\n%s", n, log.String())
				}
			})
		})
	}
}

// Nothing is written to a bucket that would remove it, until that's changed.
// It's read meanwhile.
func TestBucketThatRemoves(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{"several": {}, "one": {SingleWriter: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				if err := push(t, openOn(t, f, Options{})); err != nil {
					t.Fatal(err)
				}
				f.set(setup{lifecycle: []rule{{ID: "clean", Removes: true}}})
				s := openProbed(f, opts)
				defer s.Close()
				begun := time.Now()
				err := storage.DeleteBlob(t.Context(), s.Repository(app), digest.FromString("x"), "")
				if !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), `the rule "clean" removes objects`) {
					t.Errorf("writing: %v", err)
				}
				if err := s.Ready(t.Context()); !errors.Is(err, storage.ErrStandby) || time.Since(begun) > 0 {
					t.Errorf("ready: %v after %v", err, time.Since(begun))
				}
				wantBlob(t, s, "x")
				f.set(setup{})
				time.Sleep(2 * time.Minute)
				if err := errors.Join(push(t, s), s.Ready(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A rule that removes objects isn't forgotten while it can't be read, and is once
// it's known to be gone.
func TestBucketThatRemovesAndFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{"passing": errSlowDown, "for good": errRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				rules := []rule{{ID: "clean", Removes: true}}
				f.set(setup{lifecycle: rules})
				s := openProbed(f, Options{})
				defer s.Close()
				for _, now := range []setup{{lifecycle: rules}, {lifecycle: rules, err: fault}, {lifecycle: rules}} {
					f.set(now)
					time.Sleep(5 * time.Minute)
					if err := push(t, s); !errors.Is(err, storage.ErrStandby) {
						t.Fatalf("writing while it answers %v: %v, want storage.ErrStandby", now.err, err)
					}
					if c := checkOf(t, s, checkLifecycle); c.Verdict != storage.Bad {
						t.Fatalf("while it answers %v: %+v", now.err, c)
					}
				}
				f.set(setup{})
				time.Sleep(5 * time.Minute)
				if err := push(t, s); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A bucket that doesn't answer at first is looked at when it does.
func TestSettingsLater(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{"several": {}, "one": {SingleWriter: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := smallParts()
				f.set(setup{err: fmt.Errorf("%w: 503", errSlowDown)})
				b := &dim{fake: f, light: time.Now().Add(5 * time.Minute)}
				s := openProbed(b, opts)
				defer s.Close()
				time.Sleep(4 * time.Minute)
				if c := checkOf(t, s, checkLifecycle); c.Verdict != storage.Pending {
					t.Errorf("while it's down: %+v", c)
				}
				f.set(setup{lifecycle: []rule{{ID: "clean", Removes: true}}})
				time.Sleep(5 * time.Minute)
				if c := checkOf(t, s, checkLifecycle); c.Verdict != storage.Bad {
					t.Errorf("once it's up: %+v", c)
				}
				if err := push(t, s); !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), "clean") {
					t.Errorf("writing: %v", err)
				}
			})
		})
	}
}

// dim is a bucket that answers nothing until there's light.
type dim struct {
	*fake

	light time.Time
}

func (d *dim) dark() error {
	if time.Now().Before(d.light) {
		return fmt.Errorf("%w: 503", errTemporary)
	}
	return nil
}

func (d *dim) get(ctx context.Context, what getRequest) (*gotten, error) {
	if err := d.dark(); err != nil {
		return nil, err
	}
	return d.fake.get(ctx, what)
}

func (d *dim) put(ctx context.Context, what putRequest) (string, error) {
	if err := d.dark(); err != nil {
		return "", err
	}
	return d.fake.put(ctx, what)
}

// Who only reads doesn't write, not even to find out whether one could, and is
// ready. Who is to write after all is probed then.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := smallParts()
		writer := openOn(t, f, Options{})
		if err := push(t, writer); err != nil {
			t.Fatal(err)
		}
		d := digest.FromString("x")
		if err := writer.Repository(app).Update(t.Context(), func(e *storage.Edit) error { e.Mark(d, time.Now()); return nil }); err != nil {
			t.Fatal(err)
		}
		s := openProbed(f, Options{ReadOnly: true})
		defer s.Close()
		synctest.Wait()
		_, calls, _ := f.counted(func() {
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, s, "x")
			begun := time.Now()
			err := storage.DeleteBlob(t.Context(), s.Repository(app), d, "")
			if !errors.Is(err, storage.ErrStandby) || time.Since(begun) > 0 {
				t.Fatalf("writing: %v after %v", err, time.Since(begun))
			}
		})
		if len(calls) != 1 || calls["get"] == 0 {
			t.Fatalf("it did %v", calls)
		}
		if c := checkOf(t, s, checkConditions); c.Verdict != storage.Unknown {
			t.Errorf("got %+v", c)
		}
		s.Tune(Options{})
		if err := push(t, s); err != nil {
			t.Fatal(err)
		}
		if c := checkOf(t, s, checkConditions); c.Verdict != storage.Good {
			t.Errorf("got %+v", c)
		}
	})
}

// What a store says of a bucket, and what it means.
func TestSettingsOfAWS(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"versioning":  `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`,
		"encryption":  `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`,
		"object-lock": `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Years>1</Years></DefaultRetention></Rule></ObjectLockConfiguration>`,
		"lifecycle": `<LifecycleConfiguration>
			<Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>main/</Prefix></Filter><Expiration><Days>30</Days></Expiration></Rule>
			<Rule><ID>off</ID><Status>Disabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule>
			<Rule><ID>b</ID><Status>Enabled</Status><Prefix>old/</Prefix><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>
			<Rule><ID>c</ID><Status>Enabled</Status><Filter><And><Prefix>x</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>
			<Rule><ID>d</ID><Status>Enabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration></Rule>
			<Rule><ID>e</ID><Status>Enabled</Status><Filter/><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
		</LifecycleConfiguration>`,
	}
	b := against(t, func(w http.ResponseWriter, r *http.Request) {
		for what, answer := range answers {
			if r.URL.Query().Has(what) {
				_, _ = io.WriteString(w, answer)
			}
		}
	})
	want := []rule{
		{ID: "a", Prefix: "main/", Removes: true},
		{ID: "b", Prefix: "old/", Moves: "GLACIER"},
		{ID: "c", Prefix: "x", Removes: true, OnTagged: true},
		{ID: "d", OnTagged: true, OldOnes: true},
		{ID: "e"},
	}
	if rules, err := b.rules(t.Context()); err != nil || fmt.Sprint(rules) != fmt.Sprint(want) {
		t.Errorf("rules %+v, %v, want %+v", rules, err, want)
	}
	if keeps, err := b.versioning(t.Context()); err != nil || !keeps {
		t.Errorf("versioning %v, %v", keeps, err)
	}
	if how, err := b.encryption(t.Context()); err != nil || how != "aws:kms" {
		t.Errorf("encryption %q, %v", how, err)
	}
	if how, err := b.retention(t.Context()); err != nil || how != "GOVERNANCE for 365 days" {
		t.Errorf("retention %q, %v", how, err)
	}
	none := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>")
	})
	if _, err := none.rules(t.Context()); !errors.Is(err, errNotFound) {
		t.Errorf("without rules: %v", err)
	}
}

// Who takes single_writer away, to add a process, has to hear that it holds still.
func TestSingleWriterIsNotTuned(t *testing.T) {
	t.Parallel()
	for _, is := range []bool{false, true} {
		var log bytes.Buffer
		opts := Options{SingleWriter: is, Log: slog.New(slog.NewTextHandler(&log, nil))}
		s := openOn(t, smallParts(), opts)
		s.Tune(opts)
		if log.Len() > 0 {
			t.Errorf("nothing has changed: %s", &log)
		}
		opts.SingleWriter = !is
		s.Tune(opts)
		if s.options().SingleWriter != is || !strings.Contains(log.String(), fmt.Sprint("by a restart, not by a reload\" holds=", is)) {
			t.Errorf("single_writer was %t, and is %t: %s", is, s.options().SingleWriter, &log)
		}
	}
}
