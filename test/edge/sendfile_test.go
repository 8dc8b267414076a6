//go:build real

package edge

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestSendfile watches the program's system calls: on plain HTTP/1 the kernel
// sends a blob by itself, and so it does the end of one. TLS is for Go to write.
func TestSendfile(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	site := "{\n admin ADMIN\n persist_config off\n skip_install_trust\n}\nSCHEME://HOST {\n bind 127.0.0.1\n TLS\n" +
		" oci_registry {\n  root ROOT\n  anonymous all\n }\n}\n"
	starts := map[string]struct {
		start  func(t *testing.T) *registry.Server
		kernel bool
	}{
		"serve": {func(t *testing.T) *registry.Server { return registry.Start(t) }, true},
		"site": {func(t *testing.T) *registry.Server {
			return registry.Config(t, strings.NewReplacer("SCHEME", "http", "TLS", "", "ROOT", t.TempDir()).Replace(site))
		}, true},
		"tls": {func(t *testing.T) *registry.Server {
			return registry.Secure(t, strings.NewReplacer("SCHEME", "https", "TLS", "tls internal", "ROOT", t.TempDir()).Replace(site))
		}, false},
	}
	for name, tc := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := tc.start(t)
			blob := image.RandomBlob(1, size)
			if err := srv.Repository("app").PushBlob(t.Context(), blob); err != nil {
				t.Fatal(err)
			}
			sent := sentByKernel(t, srv, func() {
				pullPart(t, srv, blob, 0)
				pullPart(t, srv, blob, size/2)
			})
			// net/http writes the first 512 bytes of each answer with its header.
			if want := map[bool]int{true: size + size/2 - 2*512, false: 0}[tc.kernel]; sent != want {
				t.Fatalf("the kernel sent %d bytes by itself, want %d", sent, want)
			}
		})
	}
}

// pullPart gets a blob from some byte on.
func pullPart(t *testing.T, srv *registry.Server, blob image.Part, from int) {
	t.Helper()
	resp, err := srv.Do(t.Context(), "GET", "/v2/app/blobs/"+blob.Digest.String(), nil, "Range", "bytes="+strconv.Itoa(from)+"-")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(got) != digest.FromBytes(blob.Bytes[from:]) {
		t.Fatalf("from byte %d on there are %d other bytes", from, len(got))
	}
}

var sendfile = regexp.MustCompile(`(?m)sendfile.*= ([0-9]+)$`)

// sentByKernel is how many bytes the program has sent by sendfile(2) while do ran.
func sentByKernel(t *testing.T, srv *registry.Server, do func()) (bytes int) {
	t.Helper()
	strace := tool.Find(t, "strace")
	calls := filepath.Join(strace.Dir, "calls")
	watch := strace.Start("-f", "-e", "trace=sendfile", "-o", calls, "-p", strconv.Itoa(srv.Pid))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := watch.Until(ctx, func(context.Context) error {
		if !strings.Contains(watch.Log(), "attached") {
			return errors.New("strace isn't attached")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	do()
	watch.Stop()
	log, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range sendfile.FindAllSubmatch(log, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
	}
	return bytes
}
