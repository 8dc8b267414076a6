package handler

import (
	"context"
	"net"
	"syscall"
)

// connKey is the key of a connection in the contexts of its requests.
type connKey struct{}

// ConnContext lets answers leave in as few packets as they fit into. It is a
// http.Server's ConnContext, or is called by it. Without it everything works, and a
// small blob costs server and client a tenth more. Connections that aren't TCP are left
// as they are.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	tcp, ok := c.(*net.TCPConn)
	if !ok || ctx.Value(connKey{}) != nil {
		return ctx
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, connKey{}, raw)
}

// net/http writes what doesn't fit into its buffer of 4 KiB in two pieces: the header
// with the beginning, and the rest. Each is a packet that wakes the client. A rest that
// fits into the buffer isn't written before the request is over.
const (
	gatherFrom = 8 << 10
	gatherTo   = 256 << 10 // more is many packets in any case
)

// gather holds back what is written of a response whose content is so long. The caller
// lets it go. It returns nil if there's nothing to hold.
func (r *request) gather(length int64) syscall.RawConn {
	if length < gatherFrom || length > gatherTo || !isPlainHTTP1(r.Request) {
		return nil
	}
	c, ok := r.Context().Value(connKey{}).(syscall.RawConn)
	if ok {
		cork(c, true)
	}
	return c
}

// letGo ends gather.
func letGo(c syscall.RawConn) {
	if c != nil {
		cork(c, false)
	}
}
