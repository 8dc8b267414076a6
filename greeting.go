package ociregistry

import (
	"net"
	"strings"
	"text/template"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/origin"
)

// greeting is what 'serve' prints once it serves: where, with what, and what
// to do next.
var greeting = template.Must(template.New("greeting").Parse(`
OCI registry

  listens on  {{.Listens}}
  stores in   {{.Root}}
{{if .ReadOnly}}
It's read-only. To pull from it:

  docker pull {{.Host}}/hello:latest
{{else if .Open}}
Anybody on this machine may pull, push and delete. To push an image:

  docker tag hello-world {{.Host}}/hello:latest
  docker push {{.Host}}/hello:latest
{{else}}
Anybody who reaches it may pull; nobody may push. For clients to push, stop it
and start 'caddy run' with a Caddyfile that has users, like this one ('caddy
hash-password' makes HASH):

  {{.Site}} {
  	basic_auth {
  		alice HASH
  	}
  	oci_registry {
  		root {{.Root}}
  	}
  }

Or, if everybody who reaches it may push and delete, with 'anonymous all' below
root and without basic_auth. Then, on the clients:

  docker login {{.Host}}
  docker push {{.Host}}/hello:latest
{{end}}{{if .Insecure}}
Docker trusts plain HTTP on other machines only if told so, in
/etc/docker/daemon.json there:

  {"insecure-registries": ["{{.Host}}"]}
{{end}}{{if .HostUnknown}}
HOST is what clients call this machine.
{{end}}
Ctrl-C stops it.
`))

// greeting is what run prints.
func (s *server) greeting() string {
	host, site := s.publicHost(), s.domain
	if s.domain == "" {
		site = "http://" + s.host()
	}
	var b strings.Builder
	err := greeting.Execute(&b, map[string]any{
		"Listens":     s.listens(),
		"Root":        s.root,
		"Host":        host,
		"HostUnknown": strings.HasPrefix(host, "HOST"),
		"Site":        site,
		"ReadOnly":    s.readOnly,
		"Open":        s.anonymous() == authz.AnonymousAll,
		"Insecure":    s.domain == "" && !origin.IsLoopback(s.host()),
	})
	if err != nil {
		return err.Error() + "\n"
	}
	return b.String()
}

// listens says where s listens.
func (s *server) listens() string {
	host, port, err := net.SplitHostPort(s.host())
	switch {
	case s.domain != "":
		return "https://" + s.publicHost()
	case err != nil:
		return s.listen
	case isUnspecified(host):
		return "http, port " + port + " of every address of this machine"
	}
	return "http://" + s.host()
}

// publicHost is the host by which clients name the registry.
func (s *server) publicHost() string {
	host, port, err := net.SplitHostPort(s.host())
	switch {
	case s.domain != "" && (err != nil || port == "443"):
		return s.domain
	case s.domain != "":
		return net.JoinHostPort(s.domain, port)
	case err != nil: // a Unix socket: whatever stands before it has a name
		return "HOST"
	case origin.IsLoopback(host):
		host = "localhost"
	case isUnspecified(host):
		host = "HOST"
	}
	return net.JoinHostPort(host, port)
}

func isUnspecified(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
