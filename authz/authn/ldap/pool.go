package ldap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxAge is how long a connection is used, so that one server isn't used for ever
// because another one failed once, nor a password that has changed.
const maxAge = 10 * time.Minute

// A pool is a bounded number of connections of one kind. It makes them when they are
// needed, and keeps those that aren't for a while.
type pool struct {
	open    func(context.Context) (*conn, error)
	servers int
	idle    time.Duration
	slots   chan struct{} // one for each connection that's in use

	mu     sync.Mutex
	free   []*conn     // the one that was used last is last
	timer  *time.Timer // runs while free has any
	closed bool
}

func newPool(opts Options, open func(context.Context) (*conn, error)) *pool {
	return &pool{open: open, servers: len(opts.URLs), idle: opts.Idle, slots: make(chan struct{}, opts.Connections)}
}

// with has request use a connection, which it must not keep. If the connection breaks
// request is called once more, with one that's fresh, and if that breaks and there's
// another server, once more again. It waits for its turn if there
// are as many connections in use as there may be, but not longer than ctx lasts.
func (p *pool) with(ctx context.Context, request func(*conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fmt.Errorf("all %d connections are in use: %w", cap(p.slots), context.Cause(ctx))
	}
	c := p.take()
	if c == nil {
		return p.fresh(ctx, request, 2)
	}
	err := request(c)
	if p.done(ctx, c, err) {
		return err
	}
	p.drop() // what happened to this one may have happened to all
	return p.fresh(ctx, request, min(p.servers, 2))
}

// fresh is with, on connections that are made for it.
func (p *pool) fresh(ctx context.Context, request func(*conn) error, attempts int) error {
	for {
		c, err := p.open(ctx)
		if err != nil {
			return dialError{err}
		}
		attempts--
		if err = request(c); p.done(ctx, c, err) || attempts == 0 {
			return err
		}
	}
}

// done takes a connection back after a request that ended with err. It reports whether
// there's no sense in trying again.
func (p *pool) done(ctx context.Context, c *conn, err error) bool {
	if c.usable() {
		p.put(c)
		return true
	}
	fresh := c.used.IsZero()
	c.close()
	if err == nil || ctx.Err() != nil {
		return true
	}
	if fresh || errors.Is(err, errSlow) {
		c.to.fail(err)
	}
	return false
}

// take returns a connection that's free, or nil if there's none.
func (p *pool) take() *conn {
	for {
		c := p.pop()
		if c == nil || c.usable() && time.Since(c.used) < p.idle {
			return c
		}
		c.close()
	}
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		return nil
	}
	c := p.free[last]
	p.free = p.free[:last]
	return c
}

func (p *pool) put(c *conn) {
	c.used = time.Now()
	if p.keep(c) {
		return
	}
	c.close()
}

func (p *pool) keep(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.used.Sub(c.made) > maxAge {
		return false
	}
	p.free = append(p.free, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.sweep)
	}
	return true
}

// sweep closes the connections that were idle for too long.
func (p *pool) sweep() {
	p.mu.Lock()
	n := slices.IndexFunc(p.free, func(c *conn) bool { return time.Since(c.used) < p.idle })
	if n < 0 {
		n = len(p.free)
	}
	old := slices.Clone(p.free[:n])
	p.free = slices.Delete(p.free, 0, n)
	p.timer = nil
	if len(p.free) > 0 {
		p.timer = time.AfterFunc(p.idle-time.Since(p.free[0].used), p.sweep)
	}
	p.mu.Unlock()
	closeAll(old)
}

// drop closes the connections that nobody uses.
func (p *pool) drop() {
	p.mu.Lock()
	old := p.free
	p.free = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	closeAll(old)
}

// close is drop, and keeps no connection from now on.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
}

func closeAll(all []*conn) {
	for _, c := range all {
		c.close()
	}
}
