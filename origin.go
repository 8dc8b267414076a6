package ociregistry

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// hostRE is a host name, an IPv4 address or an IPv6 address in brackets, and
// maybe a port.
var hostRE = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)

// origin returns the scheme and the host, with its port, by which the client
// reaches the registry: as external_url says, else as a trusted proxy says,
// else as the request itself says.
func (r *Registry) origin(req *http.Request) (scheme, host string) {
	if r.externalURL != "" {
		scheme, host, _ = strings.Cut(r.externalURL, "://")
		return scheme, strings.TrimRight(host, "/")
	}
	scheme, host = "http", req.Host
	if req.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(req.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return scheme, host
	}
	if s := lastValue(req, "X-Forwarded-Proto"); s == "http" || s == "https" {
		scheme = s
	}
	if s := lastValue(req, "X-Forwarded-Host"); hostRE.MatchString(s) {
		host = s
	}
	return scheme, host
}

// lastValue returns the last value of a list header: the one that the nearest
// proxy added, which is the one we trust.
func lastValue(req *http.Request, name string) string {
	all := req.Header.Values(name)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}
