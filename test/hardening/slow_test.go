//go:build real

package hardening

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// stalled is a registry's upload whose request stands still after a few bytes.
func stalled(t *testing.T, srv *registry.Server, repository string) (*remote.Upload, net.Conn) {
	t.Helper()
	u, err := srv.Repository(repository).StartUpload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, srv)
	if _, err := fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1073741824\r\n\r\nabc", u.Location, srv.Host); err != nil {
		t.Fatal(err)
	}
	return u, conn
}

// Slowloris: headers come a byte at a time, bodies not at all. Caddy's timeouts
// end both, and what an upload had until then isn't lost.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	srv, _ := start(t)
	u, body := stalled(t, srv, "public/app")
	header := dial(t, srv)
	if _, err := io.WriteString(header, "GET /v2/ HTTP/1.1\r\nHost: "+srv.Host+"\r\nX: "); err != nil {
		t.Fatal(err)
	}
	for name, conn := range map[string]net.Conn{"header": header, "body": body} {
		for _, a := range answers(t, conn) { // up to its deadline, a minute
			if a.status < 400 {
				t.Errorf("the slow %s: %d", name, a.status)
			}
		}
	}
	content := bytes.Repeat([]byte("abc"), 1000)
	offset, err := u.Offset(t.Context())
	if err != nil || offset > 3 {
		t.Fatalf("the upload has %d bytes, %v", offset, err)
	}
	if err := u.Commit(t.Context(), digest.FromBytes(content), content[offset:]); err != nil {
		t.Fatal(err)
	}
}

// Two hundred uploads stand still. Others push and pull as ever, to the same
// repository too, and the memory isn't theirs.
func TestStalledUploads(t *testing.T) {
	t.Parallel()
	const clients, most = 200, 192 << 10 // bytes each, with the connection, its goroutine and what Caddy keeps
	srv := registry.Start(t)
	srv.Push(image.Random(1, 3, 1<<20), "app", "before")
	before := memory(t, srv)
	for range clients {
		stalled(t, srv, "app")
	}
	grown := memory(t, srv) - before
	t.Logf("%d stalled uploads: %d KiB each", clients, grown/clients>>10)
	if grown > clients*most {
		t.Errorf("%d MB more than before", grown>>20)
	}
	for i := range uint64(10) {
		c := image.Random(i, 3, 64<<10)
		srv.Push(c, "app", "meanwhile")
		srv.Check("app", "meanwhile", c)
	}
}

// Clients begin uploads and never come back. Nobody collects what they left
// behind while the program runs, so it has to cost next to nothing: in memory,
// at the start, and to everybody else.
func TestAbandonedUploads(t *testing.T) {
	t.Parallel()
	sessions := tool.Sized(2000, 10_000)
	program := registry.Program(t)
	program.Env = append(program.Env, "GOGC=10") // what requests leave behind isn't what uploads cost
	srv := registry.Run(t, program, t.TempDir())
	c := image.Random(1, 3, 64<<10)
	srv.Push(c, "app", "v1")
	before := memory(t, srv)
	for i := range sessions {
		u, err := srv.Repository("app").StartUpload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			continue
		}
		if err := u.Append(t.Context(), 0, []byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	grown := memory(t, srv) - before
	t.Logf("%d abandoned uploads: %d bytes of memory each, %d files open", sessions, grown/sessions, openFiles(t, srv))
	if grown > 64<<20 || openFiles(t, srv) > 1000 {
		t.Errorf("%d MB more than before, %d open files", grown>>20, openFiles(t, srv))
	}
	srv.Check("app", "v1", c)
	srv.Kill()

	begun := time.Now()
	again := registry.Serve(t, srv.Root)
	t.Logf("ready after %s, with %d MB", time.Since(begun).Round(time.Millisecond), memory(t, again)>>20)
	again.Check("app", "v1", c)
	again.Push(image.Random(2, 3, 64<<10), "app", "v2")
}

func openFiles(t *testing.T, srv *registry.Server) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", srv.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// statusInTime asks for url, and fails the test if there's no answer soon.
func statusInTime(t *testing.T, method, url string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// Somebody who may write to the disk, but not read from elsewhere, puts links
// and named pipes where blobs are: the program neither follows nor waits.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	srv := registry.Start(t)
	c := image.Random(1, 2, 64<<10)
	srv.Push(c, "app", "v1")
	srv.Push(c, "other", "v1")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(string) error{
		"link":   func(path string) error { return os.Symlink(secret, path) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|5) }, // /dev/zero
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(srv.Root, "app", "blobs", "sha256", c.Blobs[0].Digest.Encoded())
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := place(path); err != nil {
			t.Fatalf("this test makes device files, for which it has to run as root: %v", err)
		}
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			if status := statusInTime(t, method, srv.URL+"/v2/app/blobs/"+c.Blobs[0].Digest.String()); status < 400 {
				t.Errorf("%s of a %s: %d", method, name, status)
			}
		}
	}
	index := filepath.Join(srv.Root, "app", "index.json")
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(index, 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	srv = registry.Serve(t, srv.Root)
	for _, path := range []string{"/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/_catalog"} {
		t.Logf("%s with a pipe for an index.json: %d", path, statusInTime(t, http.MethodGet, srv.URL+path))
	}
	srv.Check("other", "v1", c)
}
