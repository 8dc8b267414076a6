package serve

import (
	"encoding/json"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/origin"
)

// Config is what Caddy runs once s is prepared: one site with a registry, and no admin
// endpoint, so that it can run beside another Caddy.
func (s *Server) Config() *caddy.Config {
	site := s.Module.Handler(Registry{Root: s.Root, ReadOnly: s.ReadOnly, Anonymous: s.anonymous()})
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		site,
		// Caddy's own answer to what nobody serves is an empty 200, which podman
		// takes for a broken /v1/search.
		caddyconfig.JSONModuleObject(caddyhttp.StaticResponse{StatusCode: "404"}, "handler", "static_response", nil),
	}}
	web := &caddyhttp.Server{
		Listen: []string{s.Listen},
		Routes: caddyhttp.RouteList{route},
	}
	if s.Domain != "" {
		web.Routes[0].MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(caddyhttp.MatchHost{s.Domain}, nil)}}
	} else {
		if s.open() {
			web.Routes[0].MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(s.hosts(), nil)}}
			web.Routes = append(web.Routes, caddyhttp.Route{HandlersRaw: []json.RawMessage{
				caddyconfig.JSONModuleObject(caddyhttp.StaticResponse{
					StatusCode: "421", Body: "This registry is open to this machine alone, and answers to localhost.\n",
				}, "handler", "static_response", nil),
			}})
		}
		web.AutoHTTPS = &caddyhttp.AutoHTTPSConfig{Disabled: true}
		// Without h2 in the list Caddy wraps every connection, and sendfile is lost.
		// With h3 it would say that this wants TLS.
		web.Protocols = []string{"h1", "h2"}
	}
	return &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: new(false)}},
		Logging: s.logging(),
		AppsRaw: caddy.ModuleMap{"http": caddyconfig.JSON(caddyhttp.App{Servers: map[string]*caddyhttp.Server{"registry": web}}, nil)},
	}
}

// logging lets through what an operator must know, so that the greeting stays
// in sight: of the parts that serve also warnings, of Caddy itself only errors.
func (s *Server) logging() *caddy.Logging {
	if s.Debug {
		return &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "DEBUG"}}}}
	}
	parts := []string{"tls", "oci_registry", "http.handlers.oci_registry"}
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}, Exclude: parts},
		"serve":   {BaseLog: caddy.BaseLog{Level: "WARN"}, Include: parts},
	}}
}

// anonymous is what callers may do without signing in, which nobody can here.
func (s *Server) anonymous() authz.Anonymous {
	if s.open() {
		return authz.AnonymousAll
	}
	return authz.AnonymousPull
}

// open reports whether everybody who gets here may do everything: who is on this
// machine. A domain on loopback means that something in front lets others in.
func (s *Server) open() bool { return origin.IsLoopback(s.host()) && s.Domain == "" }

// hosts are the names that an open registry answers to, so that no page can reach it
// by a name of its own that it points here (DNS rebinding).
func (s *Server) hosts() caddyhttp.MatchHost {
	host, _, _ := net.SplitHostPort(s.host())
	names := caddyhttp.MatchHost{"localhost", "127.0.0.1", "::1"}
	if host = strings.Trim(host, "[]"); !slices.Contains(names, host) {
		names = append(names, host)
	}
	return names
}

// host is the host and port that s listens on; without a port for a Unix socket.
func (s *Server) host() string {
	addr, err := caddy.ParseNetworkAddress(s.Listen)
	if err != nil || addr.IsUnixNetwork() {
		return ""
	}
	return addr.JoinHostPort(0)
}
