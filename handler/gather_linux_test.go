package handler_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// A response that is larger than net/http's buffer leaves in one packet, whether its
// content is in memory, a file's, or a list. Without ConnContext it takes two.
func TestAnswersAreOnePacket(t *testing.T) {
	t.Parallel()
	content := noise(20 << 10)
	inMemory := memory.New()
	t.Cleanup(func() { _ = inMemory.Close() }) // in memory
	file, d := newFileStore(t, content)
	if got := newClient(t, handler.Options{Store: inMemory}).pushBlob("a/b", string(content)); got != d {
		t.Fatalf("pushed %s, want %s", got, d)
	}
	c := newClient(t, handler.Options{Store: inMemory})
	for n := range 2000 {
		c.pushManifest("c", fmt.Sprintf("tag-%04d", n), oci.MediaTypeImageIndex, indexOf(nil))
	}
	list := c.send(http.MethodGet, "/v2/c/tags/list", "").body
	for name, tc := range map[string]struct {
		store      storage.Store
		path, want string
	}{
		"in memory": {inMemory, blobPath("a/b", d), string(content)},
		"a file":    {file, blobPath("a/b", d), string(content)},
		"a list":    {inMemory, "/v2/c/tags/list", list},
	} {
		for _, gathers := range []bool{true, false} {
			packets := packetsOf(t, tc.store, tc.path, tc.want, gathers)
			for again := 0; gathers && packets > 1 && again < 10; again++ { // the kernel holds nothing longer than 200 ms
				packets = packetsOf(t, tc.store, tc.path, tc.want, gathers)
			}
			if gathers && packets != 1 || !gathers && packets < 2 {
				t.Errorf("%s, gathered %t: %d packets", name, gathers, packets)
			}
		}
	}
}

// packetsOf gets a path from a store, and returns how many packets the answer took.
func packetsOf(t *testing.T, store storage.Store, path, want string, gathers bool) uint32 {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler.New(handler.Options{Store: store, Authorizer: authz.AnonymousAll}))
	if gathers {
		srv.Config.ConnContext = handler.ConnContext
	}
	srv.Start()
	t.Cleanup(srv.Close)
	var conn *net.TCPConn
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		conn, _ = c.(*net.TCPConn)
		return c, err
	}}}
	t.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
		t.Fatalf("%d bytes and %v, want %d", len(got), err, len(want))
	}
	return packetsOn(t, conn)
}

// packetsOn is how many packets with data have come on a connection.
func packetsOn(t *testing.T, conn *net.TCPConn) uint32 {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return info.Data_segs_in
}
