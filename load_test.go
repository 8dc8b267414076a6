package ociregistry

import (
	"net"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// tryLoad runs a configuration in place of what ran before, to which no request
// comes once tryLoad has returned: Caddy's Load returns when it has begun to close
// listeners, which take connections until they are closed. If the configuration
// can't run, what ran before goes on alone.
func tryLoad(config []byte) error {
	before := listening()
	err := caddy.Load(config, true)
	listening().alone()
	if err == nil {
		before.end()
	}
	return err
}

// load is tryLoad of a configuration that can run.
func load(t *testing.T, config []byte) {
	t.Helper()
	if err := tryLoad(config); err != nil {
		t.Fatal(err)
	}
}

// stop stops what runs, to which no request comes after that.
func stop(t *testing.T) {
	t.Helper()
	before := listening()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	before.end()
}

// listeners are those of one configuration, by what they listen at.
type listeners map[caddy.NetworkAddress][]net.Listener

// listening are the listeners of the configuration that runs, if there is one.
func listening() listeners {
	ctx := caddy.ActiveContext()
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nil
	}
	all := make(listeners)
	for _, s := range app.(*caddyhttp.App).Servers {
		for i, ln := range s.Listeners() {
			at, err := caddy.ParseNetworkAddress(s.Listen[i])
			if err != nil {
				panic(err) // Caddy listens there
			}
			all[at] = append(all[at], ln)
		}
	}
	return all
}

// alone returns when nobody else listens where they do. Caddy can only be asked, and
// to accept what comes, as end does, would take it from a server that goes on.
func (l listeners) alone() {
	for at, own := range l {
		for caddy.ListenerUsage(at.Network, at.JoinHostPort(0)) > len(own) {
			time.Sleep(time.Millisecond)
		}
	}
}

// end returns when they are closed, which somebody does. Caddy counts a listener
// out just before that.
func (l listeners) end() {
	for _, own := range l {
		for _, ln := range own {
			for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
				_ = c.Close()
			}
		}
	}
}
