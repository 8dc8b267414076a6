package ociregistry

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// Repositories lie where their path says, and clients see one registry.
func TestPaths(t *testing.T) {
	rest, fast := t.TempDir(), t.TempDir() // removed once Caddy is stopped
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", "oci_registry {\nroot "+rest+"\npath team {\nroot "+fast+"\n}\npath a/b {\nstorage memory\n}\npath z {\nroot "+fast+"\n}\nanonymous all\nhealth /health\n}")
	for _, n := range []string{"a", "a/b", "team/app", "teams", "z"} {
		if err := w.push(t.Context(), n, "v1", "layer"); err != nil {
			t.Fatal(err)
		}
		w.want(t, http.StatusOK, http.MethodGet, "/v2/"+n+"/manifests/v1", "")
	}
	for _, index := range []string{rest + "/a", rest + "/teams", fast + "/team/app", fast + "/z"} {
		if _, err := os.Stat(filepath.Join(index, "index.json")); err != nil {
			t.Error(err)
		}
	}
	var catalog struct{ Repositories []string }
	decode(t, w.want(t, http.StatusOK, http.MethodGet, "/v2/_catalog", ""), &catalog)
	if want := []string{"a", "a/b", "team/app", "teams", "z"}; !reflect.DeepEqual(catalog.Repositories, want) {
		t.Errorf("the catalog is %q, want %q", catalog.Repositories, want)
	}
	mount := "/blobs/uploads/?mount=" + digest.FromString("layer").String() + "&from="
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/new"+mount+"team/app", "")
	w.want(t, http.StatusCreated, http.MethodPost, "/v2/z/new"+mount+"team/app", "")
	w.want(t, http.StatusOK, http.MethodGet, "/health/readyz", "")
	var one status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/inline", ""), &one)
	if want := []place{
		{Path: "a/b", Module: "memory"},
		{Path: "team", Module: "filesystem", Identity: fast},
		{Path: "z", Module: "filesystem", Identity: fast},
	}; !reflect.DeepEqual(one.Paths, want) || one.Storage.Identity != rest {
		t.Errorf("the paths are %+v, want %+v", one, want)
	}
}

func TestValidateRefusesPaths(t *testing.T) {
	root := t.TempDir()
	w := newWeb(t)
	for _, tc := range []badConfig{
		{"where the rest is", "", "oci_registry {\nroot " + root + "\npath a {\nroot " + root + "\n}\n}", `path "a": its content would be where all other content is, in filesystem ` + root},
		{"inside the rest", "", "oci_registry {\nroot " + root + "\npath a {\nroot " + root + "/a\n}\n}", `path "a": one store would lie inside another`},
		{"around the rest", "", "oci_registry {\nroot " + root + "/a\npath a {\nroot " + root + "\n}\n}", `path "a": one store would lie inside another`},
		{"inside another path", "", "oci_registry {\nstorage memory\npath a {\nroot " + root + "\n}\npath b {\nroot " + root + "/b\n}\n}", `path "b": one store would lie inside another`},
		{"shared, and said otherwise", "", "oci_registry {\nstorage memory\npath a {\nroot " + root + "\n}\npath b {\nroot " + root + "\nsync off\n}\n}", `path "b": it shares filesystem ` + root + " with path a, and says something else"},
		{"placeholder", "", "oci_registry {\nstorage memory\npath a {\nroot {env.NO_SUCH_VARIABLE_HERE}\n}\n}", `path "a": storage: `},
		{
			"of another registry", "oci_registry {\nregistry a {\nroot " + root + "\n}\nregistry b {\nstorage memory\npath team {\nroot " + root + "\n}\n}\n}", "",
			"registries a and b, path team both keep their content in filesystem " + root,
		},
		{
			"inside another registry", "oci_registry {\nregistry a {\nroot " + root + "\n}\nregistry b {\nstorage memory\npath team {\nroot " + root + "/x\n}\n}\n}", "",
			"the content of registry b, path team would lie inside that of registry a,",
		},
		{
			"around another registry", "oci_registry {\nregistry a {\nroot " + root + "/x\n}\nregistry b {\nstorage memory\npath team {\nroot " + root + "\n}\n}\n}", "",
			"the content of registry a would lie inside that of registry b, path team,",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := validate(t, w.config(t, tc.global, tc.site))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v\nwant %s", err, tc.want)
			}
		})
	}
	for paths, want := range map[string]string{
		`{"a":null}`:                             `path "a": where is it?`,
		`{"a":{}}`:                               `path "a": where is it?`,
		`{"/a":{"storage":{"module":"memory"}}}`: `path "/a": want what names of repositories begin with`,
	} {
		err := validate(t, []byte(`{"admin":{"disabled":true},"apps":{"oci_registry":{"registries":{"main":{"paths":`+paths+`}}}}}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: err = %v\nwant %s", paths, err, want)
		}
	}
}

// pathsConfig is a site that serves one registry in memory, with a path in each
// of the storages.
func (w *web) pathsConfig(t *testing.T, storages map[string]countedStorage) []byte {
	t.Helper()
	paths := make(map[string]*Path)
	for prefix, s := range storages {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		paths[prefix] = &Path{StorageRaw: []byte(`{"module":"counted",` + string(raw[1:]))}
	}
	raw, err := json.Marshal(paths)
	if err != nil {
		t.Fatal(err)
	}
	config := quiet(t, w.config(t, "oci_registry {\nregistry main {\nstorage memory\nanonymous all\n}\n}", "oci_registry main"))
	return withJSON(t, config, string(raw), "apps", "oci_registry", "registries", "main", "paths")
}

// What the storage of a path has found out is shown with the path.
func TestPathsAreDiagnosed(t *testing.T) {
	w, admin := newWeb(t), newWeb(t)
	config := w.pathsConfig(t, map[string]countedStorage{"a": {ID: rand.Text()}})
	load(t, withJSON(t, config, `{"listen":"`+admin.addr+`","config":{"persist":false}}`, "admin"))
	var one status
	decode(t, admin.want(t, http.StatusOK, http.MethodGet, "/oci_registry/registries/main", ""), &one)
	if len(one.Checks) != 0 || len(one.Paths) != 1 || len(one.Paths[0].Checks) != 1 {
		t.Fatalf("got %+v", one)
	}
}

// A path's store outlives the configuration, and no longer than one that has it;
// its tunables are those of the newest.
func TestPathsOutliveReloads(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.pathsConfig(t, map[string]countedStorage{"a": {ID: id, Tunable: 1}}))
	if err := w.push(t.Context(), "a/x", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	load(t, w.pathsConfig(t, map[string]countedStorage{"a": {ID: id, Tunable: 2}, "b": {ID: id + " b"}}))
	wantCounts(t, id, 1, 0)
	wantCounts(t, id+" b", 1, 0)
	if _, _, tuned := countsOf(id).get(); tuned != 2 {
		t.Errorf("tuned to %d", tuned)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/a/x/manifests/v1", "")
	load(t, w.pathsConfig(t, map[string]countedStorage{"b": {ID: id + " b"}}))
	wantCounts(t, id, 1, 1)
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/x/manifests/v1", "")
	stop(t)
	wantCounts(t, id+" b", 1, 1)
}

// An upload to a path goes on while the path is taken away, and its store is open
// until it ends.
func TestUploadOutlivesItsPath(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.pathsConfig(t, map[string]countedStorage{"slow": {ID: id}}))
	u := w.startUpload(t)
	load(t, w.pathsConfig(t, nil))
	wantCounts(t, id, 1, 0)
	u.finish(t)
	wantCounts(t, id, 1, 1)
}

// A path that can't be opened keeps the configuration from starting, which stays
// as it was, and the error says which one.
func TestPathThatFails(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.pathsConfig(t, map[string]countedStorage{"a": {ID: id}}))
	err := tryLoad(w.pathsConfig(t, map[string]countedStorage{"a": {ID: id}, "b": {ID: id + " b", FailOpen: true}}))
	if err == nil || !strings.Contains(err.Error(), "registry main: path b: the disk is on fire") {
		t.Errorf("err = %v", err)
	}
	wantCounts(t, id, 1, 0)
	// The server that failed to start may have one more connection, which it answers 503.
	for range 2 {
		if err = w.push(t.Context(), "a/x", "v1", "layer"); err == nil {
			return
		}
	}
	t.Error(err)
}

// Garbage is collected in each store by itself.
func TestGarbageOfAPath(t *testing.T) {
	rest, team := t.TempDir(), t.TempDir() // removed once Caddy is stopped
	w := newWeb(t)
	admin := w.runWithAdmin(t, onRoot(rest, "path team {\nroot "+team+"\n}\npath lost {\nstorage memory\n}"), "oci_registry main")
	for _, n := range []string{"a", "team/app"} {
		if err := w.push(t.Context(), n, "v1", "layer of "+n); err != nil {
			t.Fatal(err)
		}
		m := w.want(t, http.StatusOK, http.MethodHead, "/v2/"+n+"/manifests/v1", "").Header.Get("Docker-Content-Digest")
		w.want(t, http.StatusAccepted, http.MethodDelete, "/v2/"+n+"/manifests/"+m, "")
	}
	for path, want := range map[string]string{"": "a", "team": "team/app"} {
		out, err := admin.command(t, "gc", "--dry-run", "--path", path)
		if err != nil {
			t.Fatal(err)
		}
		if d := digest.FromString("layer of " + want).String(); !strings.Contains(out, d) || strings.Count(out, "would remove blobs") != 1 {
			t.Errorf("in %q %s doesn't go:\n%s", path, d, out)
		}
	}
	admin.want(t, http.StatusNotFound, http.MethodGet, mainJobs+"?path=lost", "") // it needs none
	if a := admin.want(t, http.StatusNotFound, http.MethodGet, mainJobs+"?path=other", ""); !strings.Contains(a.body, `registry main has no path \"other\"`) {
		t.Error(a.body)
	}
}

// Each store has room of its own, and jobs.
func TestMetricsOfPaths(t *testing.T) {
	rest, team := t.TempDir(), t.TempDir() // removed once Caddy is stopped
	w := newWeb(t)
	w.run(t, onRoot(rest, "path team {\nroot "+team+"\n}\npath lost {\nstorage memory\n}"), "oci_registry main")
	got := measured(t)
	for _, key := range []string{"filesystem_free_bytes main", "filesystem_free_bytes team main", "job_running gc main", "job_running gc team main", "open_uploads main"} {
		if _, ok := got[key]; !ok {
			t.Errorf("there's no %s in %v", key, got)
		}
	}
	for key := range got {
		if strings.Contains(key, "lost") {
			t.Errorf("memory shows %s", key)
		}
	}
}

// Leases on several places are held all or none.
func TestLeasesAreHeldTogether(t *testing.T) {
	t.Parallel()
	id := rand.Text()
	b, err := parsePath("b")
	if err != nil {
		t.Fatal(err)
	}
	l := acquireLeases(&Registry{homes: []home{
		{module: "counted", backend: &countedStorage{ID: id}},
		{module: "counted", backend: &countedStorage{ID: id + " b"}, prefixes: []oci.Name{b}},
	}})
	first, err := l.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := l.Open(t.Context()); err != nil || second != first {
		t.Errorf("opened again it's another store, %v", err)
	}
	if err := l.each[1].Release(); err != nil {
		t.Fatal(err)
	}
	if l.Enter() {
		t.Fatal("a request got in where one of the stores is closed")
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 1, 1)
	wantCounts(t, id+" b", 1, 1)
}
