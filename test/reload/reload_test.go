//go:build real

// Package reload reloads the configuration of the real program, stops and starts
// it while clients push and pull, and shows what they notice of it: of a reload
// nothing.
package reload

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/slow"
	"github.com/caddy-oci/oci-registry/test/tool"
	"github.com/caddy-oci/oci-registry/test/tree"
)

// config is a Caddyfile with tunables that differ from n to n.
func config(root string, n int) string {
	onOff := []string{"on", "off"}[n%2]
	sparse := []string{"none", "indexes", "all"}[n%3]
	return fmt.Sprintf(`{
		admin ADMIN
		persist_config off
	}
	http://HOST {
		bind 127.0.0.1
		oci_registry {
			root %q
			anonymous all
			health /health
			sync %s
			sparse_manifests %s
			max_blob_size %dMiB
			max_manifest_size %dMiB
		}
	}`, root, onOff, sparse, 100+n, 4+n%4)
}

// chunk is what a slow upload sends, and a slow download takes, at each reload.
const chunk = 10 << 10

// blobSize is more than fits the buffers between server and client.
const blobSize = 32 << 20

// TestReload reloads the configuration while clients work. No request that has
// reached the registry fails, and an upload and a download go on through all of it.
func TestReload(t *testing.T) {
	t.Parallel()
	reloads := tool.Sized(20, 100)
	root := t.TempDir()
	srv := registry.Config(t, config(root, 0))
	client := makePatient(srv)
	clients := startClients(t, srv)
	blob := image.RandomBlob(1, blobSize)
	if err := srv.Repository("slow").PushBlob(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	down := slow.NewDownload(t, srv.Repository("slow"), blob)
	up := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(1, 2*reloads*chunk))
	up.Patch()
	for n := range reloads {
		clients.Await(2)
		reload(t, srv, config(root, n+1))
		oneStore(t, srv, root)
		up.Write(t, chunk)
		down.Read(t, chunk)
	}
	up.Finish(t)
	down.Finish(t)
	up.Resume(t, &srv.Registry)
	t.Logf("%d reloads, %d images pushed and pulled, %d requests sent again", reloads, clients.Stop(), client.Resent.Load())
	// Requests of old configurations have ended: what they held is given back.
	oneStore(t, srv, root)
}

func reload(t *testing.T, srv *registry.Server, caddyfile string) {
	t.Helper()
	if err := srv.Reload(caddyfile); err != nil {
		t.Fatal(err)
	}
}

// oneStore fails the test unless the registry is there once, and has its folder
// locked once, and no other.
func oneStore(t *testing.T, srv *registry.Server, root string) {
	t.Helper()
	var all []struct {
		Name    string
		Ready   bool
		Reason  string
		Storage struct{ Identity string }
	}
	resp, err := srv.Admin.Do(t.Context(), http.MethodGet, "/oci_registry/registries", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !all[0].Ready || all[0].Storage.Identity != root {
		t.Fatalf("the admin API has %+v, want one registry in %s that is ready", all, root)
	}
	wantLocked(t, srv, root)
}

// wantLocked fails the test unless the process has locked these roots, each once.
func wantLocked(t *testing.T, srv *registry.Server, roots ...string) {
	t.Helper()
	found := locked(t, srv.Pid)
	for _, root := range roots {
		if found[root] != 1 {
			t.Fatalf("the process has locks of %v, want one of %s", found, root)
		}
	}
	if len(found) != len(roots) {
		t.Fatalf("the process has locks of %v, want those of %v", found, roots)
	}
}

// locked counts the locks that a process has of roots, by root.
func locked(t *testing.T, pid int) map[string]int {
	t.Helper()
	process := fmt.Sprintf("/proc/%d/", pid)
	entries, err := os.ReadDir(process + "fd")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, e := range entries {
		target, err := os.Readlink(process + "fd/" + e.Name())
		if err != nil || filepath.Base(target) != "_lock" {
			continue // another file, or one that was closed meanwhile
		}
		if info, err := os.ReadFile(process + "fdinfo/" + e.Name()); err == nil && strings.Contains(string(info), "lock:") {
			found[filepath.Dir(target)]++
		}
	}
	return found
}

// TestFailingReload loads configurations that fail, each at another stage, while
// clients work. What was loaded before goes on.
func TestFailingReload(t *testing.T) {
	t.Parallel()
	taken := listen(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	// No push gets through where these options come into force.
	bad := strings.NewReplacer("max_blob_size 100MiB", "max_blob_size 1", "max_manifest_size 4MiB", "max_manifest_size 1").Replace(config(root, 0))
	second := func(address, options string) string {
		return bad + "\nhttp://" + address + " {\nbind 127.0.0.1\noci_registry {\n" + options + "\n}\n}"
	}
	stages := []struct{ name, caddyfile, want string }{
		{"adapt", strings.Replace(bad, "sync on", "sink on", 1), "sink"},
		{"provision", second(registry.FreeAddress(t), "root "+root+"\nanonymous none"), "both keep their content in"},
		{"open", second("127.0.0.1:0", "root "+file), "not a directory"},
		{"listen", second(taken, "storage memory"), "address already in use"},
	}
	srv := registry.Config(t, config(root, 0))
	makePatient(srv)
	clients := startClients(t, srv)
	up := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(1, 100*chunk))
	up.Patch()
	for range tool.Sized(3, 10) {
		for _, stage := range stages {
			if err := srv.Reload(stage.caddyfile); err == nil || !strings.Contains(err.Error(), stage.want) {
				t.Fatalf("%s: %v, want %q", stage.name, err, stage.want)
			}
			oneStore(t, srv, root)
			srv.Await("/health/readyz")
			up.Write(t, chunk)
			clients.Await(4)
		}
	}
	up.Finish(t)
	up.Resume(t, &srv.Registry)
	reload(t, srv, config(root, 1))
	clients.Await(4)
	t.Logf("%d images pushed and pulled", clients.Stop())
}

// TestValidate validates a configuration beside the server that runs it.
func TestValidate(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	srv := registry.Config(t, config(root, 0))
	c := image.Random(1, 2, 64<<10)
	srv.Push(c, "app", "v1")
	caddy := registry.Program(t)
	path := filepath.Join(caddy.Dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(strings.NewReplacer("HOST", srv.Host, "ADMIN", "localhost:2019").Replace(config(root, 1))), 0o600); err != nil {
		t.Fatal(err)
	}
	settle(t, root)
	before := tree.Read(t, root)
	caddy.Run("validate", "--config", path, "--adapter", "caddyfile")
	for _, line := range tree.Diff(before, tree.Read(t, root)) {
		t.Errorf("validating changed something: %s", line)
	}
	oneStore(t, srv, root)
	srv.Await("/health/readyz")
	srv.Check("app", "v1", c)
}

// settle waits until the server has nothing left to write by itself: until the
// folder has looked the same for two seconds.
func settle(t *testing.T, root string) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	before := tree.Read(t, root)
	for same := 0; same < 4; {
		<-tick.C
		now := tree.Read(t, root)
		same++
		if len(tree.Diff(before, now)) > 0 {
			same = 0
		}
		before = now
	}
}
