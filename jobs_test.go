package ociregistry

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/tasks/gc"
	"github.com/caddy-oci/oci-registry/test/age"
)

const mainJobs = "/oci_registry/registries/main/jobs"

// round begins a round of a job by the admin API and returns what came of it.
func (w *web) round(t *testing.T, job, query string) *tasks.Report {
	t.Helper()
	var begun tasks.Report
	decode(t, w.want(t, http.StatusAccepted, http.MethodPost, mainJobs+"/"+job+query, ""), &begun)
	for {
		var s tasks.Status
		decode(t, w.want(t, http.StatusOK, http.MethodGet, mainJobs+"/"+job, ""), &s)
		if s.Last != nil && s.Last.ID == begun.ID {
			return s.Last
		}
	}
}

// findings are what the last round has found, of one kind.
func (w *web) findings(t *testing.T, kind gc.Kind) (names []string) {
	t.Helper()
	var found adminapi.Findings[gc.Finding]
	decode(t, w.want(t, http.StatusOK, http.MethodGet, mainJobs+"/gc/findings", ""), &found)
	for _, f := range found.Findings {
		if f.Kind == kind && f.Problem == "" {
			names = append(names, f.Name)
		}
	}
	return names
}

func onRoot(root, options string) string {
	return "oci_registry {\nregistry main {\nroot " + root + "\nanonymous all\n" + options + "\n}\n}"
}

// What is deleted is marked by one round, and removed by one after its grace.
func TestGarbageGoes(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, "gc {\ngrace 1h\n}"), "oci_registry main")
	for _, tag := range []string{"keep", "drop"} {
		if err := w.push(t.Context(), "a", tag, "layer of "+tag); err != nil {
			t.Fatal(err)
		}
	}
	kept, dropped := digest.FromString("layer of keep").String(), digest.FromString("layer of drop").String()
	m := w.want(t, http.StatusOK, http.MethodHead, "/v2/a/manifests/drop", "").Header.Get("Docker-Content-Digest")
	w.want(t, http.StatusAccepted, http.MethodDelete, "/v2/a/manifests/"+m, "")

	if r := admin.round(t, adminapi.GC, "?dry_run"); r.Error != "" || r.Counts["would_remove_blobs"] < 2 {
		t.Fatalf("a dry run: %+v", r)
	}
	if names := strings.Join(admin.findings(t, gc.Blob), " "); !strings.Contains(names, dropped) || strings.Contains(names, kept) {
		t.Fatalf("a dry run found %s, want %s and not %s", names, dropped, kept)
	}
	if r := admin.round(t, adminapi.GC, ""); r.Error != "" || len(r.Counts) != 0 {
		t.Fatalf("a round within the grace: %+v", r)
	}
	w.run(t, "", "respond hello")
	if age.Marks(t, root, 2*time.Hour) == 0 {
		t.Fatal("nothing is marked")
	}
	admin = w.runWithAdmin(t, onRoot(root, "gc {\ngrace 1h\n}"), "oci_registry main")
	if r := admin.round(t, adminapi.GC, ""); r.Error != "" || r.Counts["removed_blobs"] < 2 || r.Counts["freed_bytes"] == 0 {
		t.Fatalf("a round after the grace: %+v", r)
	}
	w.want(t, http.StatusNotFound, http.MethodHead, "/v2/a/blobs/"+dropped, "")
	w.want(t, http.StatusOK, http.MethodHead, "/v2/a/blobs/"+kept, "")
	w.want(t, http.StatusOK, http.MethodGet, "/v2/a/manifests/keep", "")
}

// A dry run isn't a round that was complete, and hides none.
func TestDryRunsAndTheMetricOfCompleteRounds(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(t.TempDir(), ""), "oci_registry main")
	complete := func() float64 { return measured(t)["job_complete_timestamp_seconds gc main"] }
	admin.round(t, adminapi.GC, "?dry_run")
	if at := complete(); at != 0 {
		t.Fatalf("a round was complete at %v, and there was only a dry run", at)
	}
	last := admin.round(t, adminapi.GC, "")
	for range 2 {
		if at, want := complete(), float64(last.Ended.Unix()); at != want {
			t.Fatalf("a round was complete at %v, want %v", at, want)
		}
		admin.round(t, adminapi.GC, "?dry_run")
	}
}

// When a round is due survives a reload, a restart and another schedule's reload.
func TestDueTimesStay(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	due := func(options string) time.Time {
		t.Helper()
		admin := w.runWithAdmin(t, onRoot(root, options), "oci_registry main")
		for {
			var all []tasks.Status
			decode(t, admin.want(t, http.StatusOK, http.MethodGet, mainJobs, ""), &all)
			if len(all) == 2 && !all[0].Due.IsZero() {
				return all[0].Due
			}
		}
	}
	first := due("gc {\nevery 10h\n}")
	if left := time.Until(first); left < 9*time.Hour || left > 11*time.Hour+time.Minute {
		t.Fatalf("due in %v, want about 10h", left)
	}
	if again := due("gc {\nevery 10h\nrate 5\n}"); !again.Equal(first) {
		t.Fatalf("due at %v, and after a reload at %v", first, again)
	}
	w.run(t, "", "respond hello")
	if again := due("gc {\nevery 10h\n}"); !again.Equal(first) {
		t.Fatalf("due at %v, and after a restart at %v", first, again)
	}
	if sooner := due("gc {\nevery 1h\n}"); time.Until(sooner) > 2*time.Hour {
		t.Fatalf("due at %v, but it should be every hour", sooner)
	}
}

func TestNoJobs(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(t.TempDir(), "read_only"), "oci_registry main")
	a := admin.want(t, http.StatusNotFound, http.MethodPost, mainJobs+"/gc", "")
	if !strings.Contains(a.body, "read-only") {
		t.Fatal(a.body)
	}
	admin.want(t, http.StatusNotFound, http.MethodGet, mainJobs+"/nonsense", "")
	admin.want(t, http.StatusNotFound, http.MethodGet, mainJobs+"/nonsense/findings", "")
	admin.want(t, http.StatusNotFound, http.MethodGet, "/oci_registry/registries/other/jobs", "")
	admin.want(t, http.StatusMethodNotAllowed, http.MethodDelete, mainJobs+"/gc", "")
	admin = w.runWithAdmin(t, "oci_registry {\nregistry main {\nstorage memory\n}\n}", "oci_registry main")
	admin.want(t, http.StatusNotFound, http.MethodGet, mainJobs, "")
}

func TestGCOff(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(t.TempDir(), "gc off"), "oci_registry main")
	var s tasks.Status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, mainJobs+"/gc", ""), &s)
	if !s.Due.IsZero() {
		t.Fatalf("off, and due at %v", s.Due)
	}
	for query, dry := range map[string]bool{"?dry_run": true, "?dry_run=1": true, "?dry_run=false": false} { // when it's asked for
		if r := admin.round(t, adminapi.GC, query); r.Error != "" || (len(r.Params) > 0) != dry {
			t.Errorf("%s: %+v", query, r)
		}
	}
	admin.want(t, http.StatusBadRequest, http.MethodPost, mainJobs+"/gc?dry_run=maybe", "")
}

// A configuration that makes a registry read-only stops a round that is under way.
func TestReadOnlyStopsARound(t *testing.T) {
	reg := &Registry{ReadOnly: true}
	w := new(workplace)
	w.plan.Store(&plan{Registry: reg})
	j := &gcRound{place: w, round: new(tasks.Round)}
	if err := j.stop(); err == nil {
		t.Fatal("it goes on")
	}
	j.dry = true
	if err := j.stop(); err != nil {
		t.Fatalf("a dry run: %v", err)
	}
}

func TestGCCommand(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, ""), "oci_registry main")
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusAccepted, http.MethodDelete, "/v2/a/manifests/v1", "")
	run := func(args ...string) string {
		t.Helper()
		out, err := admin.command(t, append([]string{"gc"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := run("--dry-run")
	for _, want := range []string{"manifest", "  a  sha256:", "goes in 336h0m0s", "would remove manifests: 1", "would free: "} {
		if !strings.Contains(out, want) {
			t.Errorf("a dry run prints no %q:\n%s", want, out)
		}
	}
	if out := run("--name", "main"); out != "nothing to remove\n" {
		t.Errorf("a round prints %s", out)
	}
}

// A round that was cut short goes on where it was, but if the clock was set since: the
// marks that came before are to be renewed, too.
func TestRoundGoesOn(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]time.Duration{"the clock goes on": 0, "the clock was set": 30 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var turned atomic.Int64
			runner := tasks.New(tasks.Options{
				Memory: forgetfulMemory{}, Now: func() time.Time { return time.Now().Add(time.Duration(turned.Load())) },
			})
			defer func() { _ = runner.Stop(context.Background()) }()
			came := make(chan string)
			err := runner.Schedule(tasks.Task{Name: adminapi.GC, Run: func(ctx context.Context, r *tasks.Round) error {
				from, err := placeOf(r)
				if err != nil {
					return err
				}
				r.SetCursor(ctx, "a/b")
				came <- from.String()
				return errors.New("cut short")
			}})
			if err != nil {
				t.Fatal(err)
			}
			begin := func() string {
				for {
					_, err := runner.Trigger(t.Context(), adminapi.GC, nil)
					if err == nil {
						return <-came
					}
					if !errors.Is(err, tasks.ErrRunning) { // the one before is about to end
						t.Fatal(err)
					}
				}
			}
			first := begin()
			turned.Store(int64(set))
			second, want := begin(), "a/b"
			if set != 0 {
				want = ""
			}
			if first != "" || second != want {
				t.Errorf("it began behind %q, and went on behind %q; want %q", first, second, want)
			}
		})
	}
}

// forgetfulMemory remembers nothing from one process to the next.
type forgetfulMemory struct{}

func (forgetfulMemory) Load(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }

func (forgetfulMemory) Save(context.Context, string, []byte) error { return nil }
