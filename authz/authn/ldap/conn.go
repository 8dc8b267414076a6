package ldap

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// maxAnswer is the most that a server may send for one request, in bytes: the DNs of
// 5000 groups are not as long.
const maxAnswer = 4 << 20

// A conn is a connection to a server, used by one goroutine at a time.
type conn struct {
	ldap *ldap.Conn
	wire *wire
	to   *server

	step   time.Duration
	made   time.Time
	used   time.Time // zero before the first use
	broken bool
}

// ask makes one request. It takes no longer than the step's limit, and not longer than
// ctx lasts: then the connection is cut, which is the only way to end a request.
func (c *conn) ask(ctx context.Context, request func(*ldap.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.step, fmt.Errorf("no answer within %v: %w", c.step, errSlow))
	defer cancel()
	c.wire.left.Store(maxAnswer)
	stop := context.AfterFunc(ctx, func() { _ = c.wire.Close() }) // what matters is that the request ends
	err := request(c.ldap)
	cut := !stop()
	c.broken = c.broken || cut || err != nil && !isAnswer(err) || isAway(err)
	switch {
	case err == nil:
		return nil
	case cut && !isAnswer(err):
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", c.to.url, err)
}

// usable reports whether another request may be made.
func (c *conn) usable() bool { return !c.broken && !c.ldap.IsClosing() }

// close closes the connection without a word to the server, which may be slow to read.
func (c *conn) close() {
	_ = c.wire.Close()
	_ = c.ldap.Close()
}

// A wire is what a connection's bytes go through.
type wire struct {
	net.Conn

	left atomic.Int64 // how much may still be read
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return n, err
}
