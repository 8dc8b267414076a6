// Command xcaddy is Caddy with its standard modules and the registry:
//
//	go run ./xcaddy oci-registry serve
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oci/oci-registry"
)

func main() { caddycmd.Main() }
