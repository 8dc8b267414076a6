// Package clientaddr says where a request came from, as far as Caddy knows.
package clientaddr

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Of is the address of the client that sent r, as far as trusted proxies tell it.
func Of(r *http.Request) netip.Addr { return FromContext(r.Context()) }

// FromContext is the address of the client whose request's context it is.
func FromContext(ctx context.Context) netip.Addr {
	ip, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Addr{} // a Unix socket has none
	}
	return addr.Unmap()
}
