package serve

import (
	"net"
	"strings"
	"text/template"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/origin"
)

// greeting says where it's served, with what, and what to do next.
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

// Greeting is what serve prints once it serves.
func (s *Server) Greeting() string {
	host, site := s.publicHost(), s.Domain
	if s.Domain == "" {
		site = "http://" + s.host()
	}
	var b strings.Builder
	err := greeting.Execute(&b, map[string]any{
		"Listens":     s.listens(),
		"Root":        s.Root,
		"Host":        host,
		"HostUnknown": strings.HasPrefix(host, "HOST"),
		"Site":        site,
		"ReadOnly":    s.ReadOnly,
		"Open":        s.anonymous() == authz.AnonymousAll,
		"Insecure":    s.Domain == "" && !origin.IsLoopback(s.host()),
	})
	if err != nil {
		return err.Error() + "\n"
	}
	return b.String()
}

// listens says where s listens.
func (s *Server) listens() string {
	host, port, err := net.SplitHostPort(s.host())
	switch {
	case s.Domain != "":
		return "https://" + s.publicHost()
	case err != nil:
		return s.Listen
	case isUnspecified(host):
		return "http, port " + port + " of every address of this machine"
	}
	return "http://" + s.host()
}

// publicHost is the host by which clients name the registry.
func (s *Server) publicHost() string {
	host, port, err := net.SplitHostPort(s.host())
	switch {
	case s.Domain != "" && (err != nil || port == "443"):
		return s.Domain
	case s.Domain != "":
		return net.JoinHostPort(s.Domain, port)
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
