//go:build real

package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/slow"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestNothingIsLeft counts the goroutines and open files of the server before and
// after a lot of work: reloads, pushes, pulls, moves to another root and back, and
// uploads and downloads that clients break off.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	root, elsewhere := t.TempDir(), t.TempDir()
	srv := registry.Config(t, config(root, 0))
	srv.Admin.Client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	client := makePatient(srv)
	blob := image.RandomBlob(1, blobSize)
	work := func(rounds int) {
		for n := range rounds {
			if err := srv.Repository("slow").PushBlob(t.Context(), blob); err != nil {
				t.Fatal(err)
			}
			breakOff(t, srv, blob)
			clients := startClients(t, srv)
			for i := range 3 {
				clients.Await(4)
				reload(t, srv, config(root, 3*n+i+1))
			}
			clients.Await(4)
			clients.Stop()
			reload(t, srv, config(elsewhere, n))
			srv.Push(image.Random(uint64(n), 2, chunk), "app", "v1")
			reload(t, srv, config(root, n))
		}
		client.CloseIdleConnections()
	}
	work(1) // from now on there's what is there once
	before := settled(t, srv)
	work(tool.Sized(4, 40))
	before.wantNoMore(t, srv)
	wantLocked(t, srv, root)
}

// breakOff begins an upload and a download and ends them as a client that is gone.
func breakOff(t *testing.T, srv *registry.Server, blob image.Part) {
	t.Helper()
	up := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(1, 100*chunk))
	up.Patch()
	up.Write(t, chunk)
	if err := up.Abandon(); err == nil || remote.Status(err) != 0 {
		t.Fatalf("an upload that was broken off ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	body, err := srv.Repository("slow").Open(ctx, blob.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(io.Discard, body, chunk)
	cancel()
	if err = errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
}

// usage is what a server has in use.
type usage struct {
	files      []string // what its descriptors are of
	goroutines int
	stacks     string // of the goroutines
}

func usageOf(t *testing.T, srv *registry.Server) usage {
	t.Helper()
	u := usage{files: openFiles(t, srv.Pid)}
	resp, err := srv.Admin.Do(t.Context(), http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	stacks, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	u.stacks = string(stacks)
	if _, err := fmt.Sscanf(u.stacks, "goroutine profile: total %d", &u.goroutines); err != nil {
		t.Fatalf("%v in %.100s", err, stacks)
	}
	return u
}

// openFiles lists what the descriptors of a process are of. Sockets and the like
// have numbers, which are left out.
func openFiles(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		target, err := os.Readlink(dir + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		target, _, _ = strings.Cut(target, ":[")
		files = append(files, target)
	}
	slices.Sort(files)
	return files
}

// settled is what a server has in use once that hasn't changed for two seconds.
func settled(t *testing.T, srv *registry.Server) usage {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	u := usageOf(t, srv)
	for same := 0; same < 10; same++ {
		<-tick.C
		now := usageOf(t, srv)
		if !slices.Equal(now.files, u.files) || now.goroutines != u.goroutines {
			same = 0
		}
		u = now
	}
	return u
}

// wantNoMore fails the test unless the server comes back to what it had in use.
func (u usage) wantNoMore(t *testing.T, srv *registry.Server) {
	t.Helper()
	now := settled(t, srv)
	if len(now.files) > len(u.files) {
		t.Errorf("%d open files, before %d:\n%s", len(now.files), len(u.files), strings.Join(now.files, "\n"))
	}
	if now.goroutines > u.goroutines {
		t.Errorf("%d goroutines, before %d:\n%s\n\nbefore:\n%s", now.goroutines, u.goroutines, now.stacks, u.stacks)
	}
	t.Logf("%d open files, before %d; %d goroutines, before %d", len(now.files), len(u.files), now.goroutines, u.goroutines)
}

// TestIdleRepositories uses more repositories than a server remembers: their
// folders don't stay open.
func TestIdleRepositories(t *testing.T) {
	t.Parallel()
	const remembered, used = 1024, 1100
	srv := registry.Start(t)
	blob := image.RandomBlob(1, 10)
	for n := range used {
		name := fmt.Sprintf("repository%d", n)
		resp, err := srv.Do(t.Context(), http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+blob.Digest.String(), bytes.NewReader(blob.Bytes))
		if err == nil {
			err = resp.Body.Close()
		}
		there, herr := srv.Repository(name).HasBlob(t.Context(), blob.Digest)
		if err = errors.Join(err, herr); err != nil || !there {
			t.Fatalf("%s has the blob: %t, %v", name, there, err)
		}
	}
	open := 0
	for _, file := range openFiles(t, srv.Pid) {
		if strings.HasSuffix(file, "/blobs/sha256") {
			open++
		}
	}
	if open > remembered || open == 0 {
		t.Fatalf("%d folders of %d repositories are open, want some, and no more than %d", open, used, remembered)
	}
	if there, err := srv.Repository("repository0").HasBlob(t.Context(), blob.Digest); err != nil || !there {
		t.Fatalf("the first repository has the blob: %t, %v", there, err)
	}
}
