//go:build real

// Package reload reloads the configuration of the real program while clients
// push and pull, and shows that none of them notices.
package reload

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
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

// TestReload reloads the configuration every 300 ms while clients work. No
// request that has reached the registry fails, and one upload goes on through
// all of it.
func TestReload(t *testing.T) {
	t.Parallel()
	const every = 300 * time.Millisecond
	root := t.TempDir()
	srv := registry.Config(t, config(root, 0))
	client := remote.NewPatient()
	srv.Client = &http.Client{Transport: client}
	var wg sync.WaitGroup
	defer wg.Wait() // after cancel
	ctx, cancel := context.WithTimeout(t.Context(), tool.Sized(15*time.Second, 5*time.Minute))
	defer cancel()
	w := work{t: t, srv: srv, ended: ctx.Done()}
	for i := range 4 {
		wg.Go(func() { w.pushAndPull(i) })
	}
	slow := newSlowUpload(t, srv)
	tick := time.NewTicker(every)
	defer tick.Stop()
	reloads := 0
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			reloads++
			if err := srv.Reload(config(root, reloads)); err != nil {
				t.Fatal(err)
			}
			oneStore(t, srv)
			slow.write(t)
		case <-ctx.Done():
		}
	}
	slow.finish(t)
	wg.Wait()
	t.Logf("%d reloads, %d images pushed and pulled, %d requests sent again", reloads, w.done.Load(), client.Resent.Load())
	if w.done.Load() == 0 {
		t.Fatal("nothing was pushed, so that this test shows nothing")
	}
	// Requests of old configurations have ended: what they held is given back.
	oneStore(t, srv)
}

// work is what clients do meanwhile.
type work struct {
	t     *testing.T
	srv   *registry.Server
	ended <-chan struct{} // closed when no more is to be begun
	done  atomic.Int64
}

// pushAndPull pushes images and pulls what it has pushed, until the work has ended.
func (w *work) pushAndPull(client int) {
	repository := w.srv.Repository(fmt.Sprintf("client%d", client))
	for i := 0; ; i++ {
		select {
		case <-w.ended:
			return
		default:
		}
		c := image.Random(uint64(client)<<32|uint64(i), 2, 256<<10)
		tag := fmt.Sprintf("v%d", i%10)
		if err := repository.Push(w.t.Context(), c, tag); err != nil {
			w.t.Errorf("push %d of client %d: %v", i, client, err)
			return
		}
		desc, err := repository.Verify(w.t.Context(), tag)
		if err != nil || desc.Digest != c.Digest {
			w.t.Errorf("pull %d of client %d: %s, want %s (%v)", i, client, desc.Digest, c.Digest, err)
			return
		}
		w.done.Add(1)
	}
}

// oneStore fails the test unless the registry is there once, and has its folder
// locked once.
func oneStore(t *testing.T, srv *registry.Server) {
	t.Helper()
	var all []struct {
		Name   string
		Ready  bool
		Reason string
	}
	resp, err := srv.Admin.Do(t.Context(), http.MethodGet, "/oci_registry/registries", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !all[0].Ready {
		t.Fatalf("the admin API has %+v, want one registry that is ready", all)
	}
	if n := locks(t, srv.Pid, "_lock"); n != 1 {
		t.Fatalf("the process holds %d files called _lock, want 1", n)
	}
}

// locks counts the files of this base name that a process has open and locked.
func locks(t *testing.T, pid int, name string) int {
	t.Helper()
	process := fmt.Sprintf("/proc/%d/", pid)
	entries, err := os.ReadDir(process + "fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		target, err := os.Readlink(process + "fd/" + e.Name())
		if err != nil || filepath.Base(target) != name {
			continue // another file, or one that was closed meanwhile
		}
		if info, err := os.ReadFile(process + "fdinfo/" + e.Name()); err == nil && strings.Contains(string(info), "lock:") {
			n++
		}
	}
	return n
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
	oneStore(t, srv)
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
