package ociregistry

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/adminapi"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/tasks"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// flip changes a byte of a blob's file.
func flip(t *testing.T, root, repository, d string) {
	t.Helper()
	name := filepath.Join(root, repository, "blobs", "sha256", strings.TrimPrefix(d, "sha256:"))
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[0] ^= 1
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A flipped byte in a layer and in a manifest is found, answered 404, and healed by
// the next push.
func TestScrub(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, "scrub {\nevery 30d\nrate 1GiB\n}"), "oci_registry main")
	for _, repository := range []string{"a", "b"} {
		if err := w.push(t.Context(), repository, "v1", "layer of "+repository); err != nil {
			t.Fatal(err)
		}
	}
	layer := digest.FromString("layer of a").String()
	m := w.want(t, http.StatusOK, http.MethodHead, "/v2/b/manifests/v1", "").Header.Get("Docker-Content-Digest")
	flip(t, root, "a", layer)
	flip(t, root, "b", m)
	if r := admin.round(t, adminapi.Scrub, "?dry_run"); r.Error != "" || r.Counts["problems"] != 2 || r.Counts["damaged"] != 2 {
		t.Fatalf("a dry run: %+v", r)
	}
	w.want(t, http.StatusOK, http.MethodHead, "/v2/a/blobs/"+layer, "")
	if r := admin.round(t, adminapi.Scrub, ""); r.Error != "" || r.Counts["problems"] != 2 || r.Counts["checked_bytes"] == 0 {
		t.Fatalf("a round: %+v", r)
	}
	var found adminapi.Findings[scrub.Finding]
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, mainJobs+"/scrub/findings", ""), &found)
	for i, name := range []string{layer, m} {
		f := found.Findings[i]
		if f.Name != name || f.Fault != scrub.Damaged || f.Done != scrub.Quarantined || !slices.Equal(f.Tags, []string{"v1"}) {
			t.Fatalf("found %+v", found)
		}
	}
	w.want(t, http.StatusNotFound, http.MethodHead, "/v2/a/blobs/"+layer, "")
	w.want(t, http.StatusNotFound, http.MethodHead, "/v2/b/manifests/v1", "")
	a := w.want(t, http.StatusNotFound, http.MethodGet, "/v2/b/manifests/"+m, "")
	if !strings.Contains(a.body, "MANIFEST_UNKNOWN") {
		t.Fatal(a.body)
	}
	for _, repository := range []string{"a", "b"} {
		if err := w.push(t.Context(), repository, "v1", "layer of "+repository); err != nil {
			t.Fatal(err)
		}
		w.want(t, http.StatusOK, http.MethodGet, "/v2/"+repository+"/manifests/v1", "")
	}
	if got := w.want(t, http.StatusOK, http.MethodGet, "/v2/a/blobs/"+layer, "").body; got != "layer of a" {
		t.Fatalf("the layer is %q", got)
	}
	if r := admin.round(t, adminapi.Scrub, ""); r.Error != "" || r.Counts["problems"] != 0 {
		t.Fatalf("a round after the push: %+v", r)
	}
}

func TestScrubCommand(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, ""), "oci_registry main")
	out, err := admin.command(t, "scrub")
	if err != nil || out != "nothing to check\n" {
		t.Fatalf("an empty registry: %s, %v", out, err)
	}
	for _, repository := range []string{"a", "b"} {
		if err := w.push(t.Context(), repository, "v1", "layer"); err != nil {
			t.Fatal(err)
		}
	}
	layer := digest.FromString("layer").String()
	flip(t, root, "a", layer)
	for _, step := range []struct{ flag, want string }{
		{"--dry-run", "blob  a  " + layer + "  damaged  -  v1\n"},
		{"--name=main", "blob  a  " + layer + "  damaged  repaired from b  v1\n"},
		{"--name=main", "checked objects: 6\n"},
	} {
		out, err := admin.command(t, "scrub", step.flag)
		if err != nil || !strings.Contains(out, step.want) {
			t.Fatalf("%s prints\n%s%v, want %s", step.flag, out, err, step.want)
		}
	}
}

// A round that a stop has cut short goes on where it was.
func TestScrubGoesOn(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, "scrub {\nrate 4KiB\n}"), "oci_registry main") // one object a second
	for _, repository := range []string{"a", "b", "c"} {
		if err := w.push(t.Context(), repository, "v1", "layer of "+repository); err != nil {
			t.Fatal(err)
		}
	}
	admin.want(t, http.StatusAccepted, http.MethodPost, mainJobs+"/scrub", "")
	var s tasks.Status
	for s.Current == nil || s.Current.Cursor == "" {
		decode(t, admin.want(t, http.StatusOK, http.MethodGet, mainJobs+"/scrub", ""), &s)
	}
	w.run(t, "", "respond hello") // which closes the store
	admin = w.runWithAdmin(t, onRoot(root, ""), "oci_registry main")
	if r := admin.round(t, adminapi.Scrub, ""); r.Error != "" || r.Counts["checked_objects"] == 0 || r.Counts["checked_objects"] >= 9 {
		t.Fatalf("after %q: %+v", s.Current.Cursor, r)
	}
	if r := admin.round(t, adminapi.Scrub, ""); r.Counts["checked_objects"] != 9 {
		t.Fatalf("the next one: %+v", r)
	}
}

// A configuration that makes a registry read-only stops a scrub that is under way
// before it changes anything.
func TestReadOnlyStopsAScrub(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	store, err := filesystem.Open(root, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &workplace{Store: store}
	t.Cleanup(func() { _ = w.Close() })
	name, err := oci.ParseName("a")
	if err != nil {
		t.Fatal(err)
	}
	layer := digest.FromString("layer")
	if _, err = storage.PutBlob(t.Context(), store.Repository(name), layer, strings.NewReader("layer"), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	flip(t, root, "a", layer.String())
	for _, readOnly := range []bool{true, false} {
		w.plan.Store(&plan{Registry: &Registry{ReadOnly: readOnly, meters: newMeters(), log: slog.New(slog.DiscardHandler)}})
		err := w.scrub(t.Context(), new(tasks.Round))
		if readOnly != (err != nil && strings.Contains(err.Error(), "the registry is read-only now")) {
			t.Fatalf("read-only is %t, and the round ends with %v", readOnly, err)
		}
		if _, err := store.Repository(name).StatBlob(t.Context(), layer); readOnly != (err == nil) {
			t.Fatalf("read-only is %t, and of the blob it's said: %v", readOnly, err)
		}
	}
}

// Scrubbing costs money in a bucket, so there it's for who asks for it.
func TestScrubIsOffInABucket(t *testing.T) {
	t.Parallel()
	for module, every := range map[string]time.Duration{"filesystem": defaultScrub, "s3": 0, "memory": 0} {
		r := &Registry{homes: []home{{module: module}}}
		if err := r.provisionScrub(); err != nil || (plan{r, r.homes[0]}).scrubTask(nil).Every != every {
			t.Errorf("%s: %+v, %v; want it every %v", module, r.Scrub, err, every)
		}
	}
	r := &Registry{homes: []home{{module: "s3"}}, Scrub: new(Scrubbing)}
	if err := r.provisionScrub(); err != nil || (plan{r, r.homes[0]}).scrubTask(nil).Every != defaultScrub {
		t.Errorf("asked for: %+v, %v", r.Scrub, err)
	}
}

// What is served of a repository whose index.json is ruined can be put back.
func TestRestoreCommand(t *testing.T) {
	w, root := newWeb(t), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, ""), "oci_registry main")
	if err := w.push(t.Context(), "team/app", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(root, "team", "app", "index.json")
	if err := os.WriteFile(index, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	push := func() error { return w.push(t.Context(), "team/app", "v2", "layer") }
	if err := push(); err == nil {
		t.Fatal("a broken repository takes pushes")
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/team/app/manifests/v1", "")
	var s status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/main", ""), &s)
	if len(s.Broken) != 1 || s.Broken[0].Repository != "team/app" || !s.Broken[0].LastGood || s.Broken[0].Cause == "" || !s.Ready {
		t.Fatalf("the status is %+v", s)
	}
	for range 2 {
		if out, err := admin.command(t, "restore", "team/app"); err != nil || out != "" {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if err := push(); err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/team/app/manifests/v1", "")
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/main", ""), &s)
	if out, err := admin.command(t, "restore", "none"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Fatalf("%s, %v; want 404", out, err)
	}
	for path, want := range map[string]int{
		"/main/restore/team/app": http.StatusNoContent, "/main/restore/A": http.StatusBadRequest, "/other/restore/a": http.StatusNotFound,
	} {
		admin.want(t, want, http.MethodPost, adminapi.Path+path, "")
	}
}

func TestRestoreIsRefused(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(t.TempDir(), "read_only"), "oci_registry main")
	admin.want(t, http.StatusConflict, http.MethodPost, adminapi.Path+"/main/restore/a", "")
	admin = w.runWithAdmin(t, "oci_registry {\nregistry main {\nstorage memory\n}\n}", "oci_registry main")
	admin.want(t, http.StatusNotFound, http.MethodPost, adminapi.Path+"/main/restore/a", "")
	root := t.TempDir()
	admin = w.runWithAdmin(t, onRoot(root, ""), "oci_registry main")
	if err := os.MkdirAll(filepath.Join(root, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "a", "index.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := admin.want(t, http.StatusConflict, http.MethodPost, adminapi.Path+"/main/restore/a", "")
	if !strings.Contains(a.body, "take index.json from a backup") {
		t.Fatal(a.body)
	}
}

// Which path a repository is under its name says: there's nothing to choose, and a
// broken repository under one is put back like any other.
func TestRestoreUnderAPath(t *testing.T) {
	w, root, team := newWeb(t), t.TempDir(), t.TempDir()
	admin := w.runWithAdmin(t, onRoot(root, "path team {\nroot "+team+"\n}"), "oci_registry main")
	if err := w.push(t.Context(), "team/app", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(team, "team", "app", "index.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := admin.command(t, "restore", "--path", "team", "team/app"); err == nil || !strings.Contains(err.Error(), "unknown flag: --path") {
		t.Fatalf("%s, %v", out, err)
	}
	push := func() error { return w.push(t.Context(), "team/app", "v2", "layer") }
	if err := push(); err == nil {
		t.Fatal("a broken repository takes pushes")
	}
	if out, err := admin.command(t, "restore", "team/app"); err != nil || out != "" {
		t.Fatalf("%s, %v", out, err)
	}
	if err := push(); err != nil {
		t.Fatal(err)
	}
}
