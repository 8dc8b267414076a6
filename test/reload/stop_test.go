//go:build real

package reload

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/slow"
)

// patience is the config whose stop waits so long for requests.
func patience(root, grace string) string {
	return strings.Replace(config(root, 0), "persist_config off", "persist_config off\ngrace_period "+grace, 1)
}

// stops are the ways to stop a server that aren't a kill.
func stops() map[string]func(*registry.Server) {
	return map[string]func(*registry.Server){
		"SIGTERM": func(srv *registry.Server) { srv.Tell(syscall.SIGTERM) },
		"admin API": func(srv *registry.Server) {
			go func() { // it may be answered when the server has stopped, or not at all
				resp, err := srv.Admin.Do(context.Background(), http.MethodPost, "/stop", nil)
				if err == nil {
					_ = resp.Body.Close()
				}
			}()
		},
	}
}

// transfers are an upload, and a download, that are under way.
func transfers(t *testing.T, srv *registry.Server) (*slow.Upload, *slow.Download) {
	t.Helper()
	blob := image.RandomBlob(1, blobSize)
	if err := srv.Repository("slow").PushBlob(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	down := slow.NewDownload(t, srv.Repository("slow"), blob)
	up := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(2, 100*chunk))
	up.Patch()
	up.Write(t, chunk)
	down.Read(t, chunk)
	return up, down
}

// TestStop stops the server while an upload and a download are under way that end
// in time, though their configuration was replaced before.
func TestStop(t *testing.T) {
	t.Parallel()
	for way, stop := range stops() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			srv := registry.Config(t, patience(root, "10m"))
			makePatient(srv)
			up, down := transfers(t, srv)
			reload(t, srv, patience(root, "11m")) // whose requests these aren't
			stop(srv)
			awaitRefusal(t, srv.Host)
			up.Write(t, chunk)
			down.Read(t, chunk)
			up.Finish(t)
			down.Finish(t)
			srv.EndsWell()
			srv = registry.Config(t, config(root, 0))
			up.Resume(t, &srv.Registry)
		})
	}
}

// TestStopCutsOff stops the server while an upload and a download are under way
// that take longer than it waits. The upload is finished after the next start, and
// nobody takes what came of the download for all of it.
func TestStopCutsOff(t *testing.T) {
	t.Parallel()
	for way, stop := range stops() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			srv := registry.Config(t, patience(root, "1s"))
			makePatient(srv)
			up, down := transfers(t, srv)
			idle := slow.NewUpload(t, srv.Repository("slow"), image.RandomLayer(3, 100*chunk))
			stop(srv)
			srv.EndsWell()
			down.Cut(t)
			if err := up.Abandon(); err == nil || remote.Status(err) != 0 {
				t.Fatalf("the upload ended with %v, want no answer", err)
			}
			srv = registry.Config(t, config(root, 0))
			up.Resume(t, &srv.Registry)
			idle.Resume(t, &srv.Registry)
			srv.Await("/health/readyz")
		})
	}
}

// awaitRefusal waits until nothing listens on an address any more.
func awaitRefusal(t *testing.T, address string) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		_ = conn.Close()
		select {
		case <-again.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
