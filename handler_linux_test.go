package ociregistry

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A blob that net/http writes in two pieces leaves Caddy in one packet.
func TestSmallBlobsAreOnePacket(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "oci_registry {\nstorage memory "+t.Name()+"\nanonymous all\n}")
	layer := strings.Repeat("layer", 4<<10)
	if err := w.push(t.Context(), "app", "v1", layer); err != nil {
		t.Fatal(err)
	}
	packets := packetsOf(t, w.addr, layer)
	for again := 0; packets > 1 && again < 10; again++ { // the kernel holds nothing longer than 200 ms
		packets = packetsOf(t, w.addr, layer)
	}
	if packets != 1 {
		t.Errorf("%d packets, want 1", packets)
	}
}

// packetsOf gets a blob, and returns how many packets that took.
func packetsOf(t *testing.T, addr, content string) uint32 {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v2/app/blobs/"+digest.FromString(content).String()+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != content {
		t.Fatalf("%d bytes, %v, want %d", len(got), err, len(content))
	}
	return packetsOn(t, conn)
}

// packetsOn is how many packets with data have come on a TCP connection.
func packetsOn(t *testing.T, conn net.Conn) uint32 {
	t.Helper()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("the connection is a %T", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return info.Data_segs_in
}
